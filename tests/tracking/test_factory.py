"""Which trackers a config turns on, and missing packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import anoframe
from anoframe.errors import AnoframeError
from anoframe.tracking import factory
from anoframe.tracking.factory import check_tracking, open_trackers

CONFIG = "patchcore/patchcore_lite0_224.py"


def config(**changes):
    return anoframe.load_config(CONFIG, {name.replace("__", "."): value for name, value in changes.items()})


def test_console_and_log_are_on_by_default(tmp_path, capsys):
    trackers = open_trackers(config(), tmp_path)
    trackers.log("warning", text="careful")
    trackers.close("finished")
    assert capsys.readouterr().out == "warning: careful\n"
    assert json.loads((tmp_path / "log.jsonl").read_text())["text"] == "careful"
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_disabled_trackers_are_not_imported(tmp_path):
    script = f"""
import sys, anoframe
from pathlib import Path
from anoframe.tracking.factory import check_tracking, open_trackers
cfg = anoframe.load_config({CONFIG!r})
check_tracking(cfg)
open_trackers(cfg, Path({str(tmp_path)!r})).log("fit", name="felt", images=6)
print(sorted({{"wandb", "tensorboard", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_check_imports_no_tracker(name):
    script = f"""
import sys, anoframe
from anoframe.tracking.factory import check_tracking
check_tracking(anoframe.load_config({CONFIG!r}, {{"{name}.enable": True}}))
print({name!r} in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(("name", "install"), [("wandb", "wandb"), ("tensorboard", "anoframe[tensorboard]")])
def test_missing_package_is_an_error_with_the_install_command(name, install, monkeypatch):
    monkeypatch.setattr(factory, "find_spec", lambda package: None)
    with pytest.raises(AnoframeError) as error:
        check_tracking(config(**{f"{name}__enable": True}))
    assert f"{name}.enable" in str(error.value)
    assert install in str(error.value)


def test_missing_package_of_a_disabled_tracker_is_accepted(monkeypatch):
    monkeypatch.setattr(factory, "find_spec", lambda package: None)
    check_tracking(config())


def test_folder_of_earlier_runs_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "left_by_runs").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(factory, "_INSTALL", {"wandb": "pip install wandb"})
    find = factory.find_spec
    monkeypatch.setattr(factory, "find_spec", lambda package: find("left_by_runs"))
    with pytest.raises(AnoframeError, match="pip install wandb"):
        check_tracking(config(wandb__enable=True))
