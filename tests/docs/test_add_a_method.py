"""The instructions of docs/add_a_method.md, followed to the letter."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

import anoframe.models
from anoframe.cli import main
from anoframe.registry import MODELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_a_method.md"


@pytest.fixture(params=["anoframe/models/mean_map.py", "anoframe/models/mean_map/model.py"], ids=["file", "folder"])
def page_files(request, tmp_path, monkeypatch):
    """Writes the files of the page below tmp_path, the method as a file or in a folder, and makes it importable."""
    for block in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        path = tmp_path / (request.param if block[0] == "anoframe/models/mean_map.py" else block[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block[1], encoding="utf-8")
    if request.param.endswith("model.py"):
        (tmp_path / "anoframe" / "models" / "mean_map" / "__init__.py").touch()
    locations = [*anoframe.models.__path__, str(tmp_path / "anoframe" / "models")]
    monkeypatch.setattr(anoframe.models, "__path__", locations)
    monkeypatch.setattr(anoframe.models.__spec__, "submodule_search_locations", locations)
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("anoframe.models.mean_map.model", "anoframe.models.mean_map"):
        sys.modules.pop(name, None)


def test_the_page_has_a_method_a_config_and_a_test(page_files):
    methods = {"anoframe/models/mean_map.py", "anoframe/models/mean_map/model.py"}
    files = {path.relative_to(page_files).as_posix() for path in page_files.rglob("*.py") if path.stat().st_size}
    assert len(files & methods) == 1
    assert files - methods == {"configs/mean_map/mean_map_lite0_224.py", "tests/models/test_mean_map.py"}


def test_the_method_is_registered_by_its_file_name(page_files):
    assert "mean_map" in MODELS.names()


def test_the_config_of_the_page_runs(page_files, tiny_root, tmp_path):
    config = page_files / "configs" / "mean_map" / "mean_map_lite0_224.py"
    data = ["--data.name", "folder", "--data.root", str(tiny_root), "--data.resize", "64", "--data.crop", "64"]
    words = ["--config", str(config), "--cls_names", "all", *data, "--model.backbone.weights", "random"]

    status = main([*words, "--output", str(tmp_path / "runs")])

    (metrics,) = (tmp_path / "runs").rglob("metrics.json")
    assert status == 0
    assert json.loads(metrics.read_text())["mean"]["image_auroc"] is not None


def test_the_test_of_the_page_passes(page_files):
    namespace: dict[str, object] = {}
    exec((page_files / "tests" / "models" / "test_mean_map.py").read_text(encoding="utf-8"), namespace)
    namespace["test_an_image_equal_to_the_mean_has_the_lowest_score"]()
