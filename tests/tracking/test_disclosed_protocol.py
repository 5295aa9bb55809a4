"""What trackers get about the protocol of a run: tag, held-out counts, notes and references of few-shot runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from wandb_files import offline_runs

import anoframe
from anoframe.config import to_plain
from anoframe.tracking.factory import open_trackers

pytestmark = pytest.mark.slow

TAG = "raml-supervised-80/20"
DISCLOSED = {
    "protocol_tag": TAG,
    "held_out": {"felt": {"good": 4, "defect": 13}},
    "notes": ["the backbone weights are random: the figures say nothing about accuracy"],
}


@pytest.fixture(scope="module")
def cfg():
    changes = {"wandb.enable": True, "wandb.tags": ("wood",)}
    return anoframe.load_config("patchcore/patchcore_lite0_224.py", changes)


@pytest.fixture(scope="module")
def log_run(offline, cfg, tmp_path_factory):
    """Function that logs a run with W&B offline, and returns its folder."""

    def log(**more):
        folder = tmp_path_factory.mktemp("runs") / "tiny" / "unified" / "felt" / "0"
        (folder / "pictures/felt").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "pictures/felt/reference_000.png")
        trackers = open_trackers(cfg, folder)
        trackers.log("run", id="3f9a0c21", folder=str(folder), config=to_plain(cfg), resumed=False, **more)
        row = {"file": "reference_000.png", "name": "good/007.png"}
        trackers.log("references", category="felt", folder=folder / "pictures/felt", rows=[row])
        trackers.close("finished")
        return folder

    return log


@pytest.fixture(scope="module")
def folder(log_run):
    return log_run(disclosed=DISCLOSED)


def test_wandb_shows_the_protocol_in_config_summary_and_tags(folder):
    (run,) = offline_runs(folder)
    for place in (run.config, run.summary):
        assert {key: place[key] for key in DISCLOSED} == DISCLOSED
    assert list(run.run.tags) == ["wood", TAG, "see notes"]


def test_wandb_gets_the_references_of_a_few_shot_run(folder):
    (run,) = offline_runs(folder)
    table = run.summary["references/felt"]
    content = json.loads((run.folder / "files" / table["path"]).read_text(encoding="utf-8"))
    assert content["columns"] == ["reference", "name"]
    assert [row[1] for row in content["data"]] == ["good/007.png"]


def test_log_has_the_protocol(folder):
    first = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["disclosed"] == DISCLOSED


def test_usual_run_has_only_the_tags_of_the_user(log_run):
    (run,) = offline_runs(log_run())
    assert list(run.run.tags) == ["wood"]
    assert not {*DISCLOSED} & {*run.config, *run.summary}
