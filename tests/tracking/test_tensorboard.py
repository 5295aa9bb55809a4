"""What TensorBoard shows of a run, read back from its event files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.tracking.tensorboard import TensorBoard

STEP = {"fit": "felt", "phase": "distil", "lr": 0.01, "data_seconds": 0.1}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("run")
    Image.fromarray(np.full((8, 44, 3), 7, np.uint8)).save(folder / "000.png")
    tracker = TensorBoard(folder / "tensorboard")
    tracker.log("run", id="3f9a0c21", folder=str(folder), config={"seed": 3, "categories": ("felt",)}, resumed=False)
    tracker.log("stage", name="encode", seconds=1.0, peak_bytes=1)
    for step in range(3):
        tracker.log("step", epoch=step // 2, step=step, losses={"cosine": step / 4}, **STEP)
    for epoch in (2, 4):
        metrics = {"felt": {"image_auroc": epoch / 8, "aupro": None}}
        tracker.log("look", fit="felt", phase="distil", epoch=epoch, metrics=metrics, summary="fine")
    tracker.log("evaluated", category="felt", summary="fine", metrics={"image_auroc": 0.875, "aupro": None})
    row = {"file": "000.png", "kind": "worst", "defect": "cut", "name": "cut/007.png", "score": 1.25}
    tracker.log("pictures", category="felt", folder=folder, rows=[row])
    tracker.log("failed", category="mesh", reason="no test images")
    tracker.log("finished", metrics={"image_auroc": 0.875, "aupro": None}, seconds=1.0)
    tracker.close("failed")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_losses_rates_and_times_are_drawn_over_the_steps(shown):
    losses = shown.Scalars("train/felt/distil/loss/cosine")
    assert [(one.step, one.value) for one in losses] == [(0, 0), (1, 0.25), (2, 0.5)]
    assert {"train/felt/distil/lr", "train/felt/distil/epoch", "train/felt/distil/data_seconds"} <= {
        *shown.Tags()["scalars"]
    }


def test_looks_are_drawn_over_the_epochs(shown):
    looks = shown.Scalars("look/felt/distil/felt/image_auroc")
    assert [(one.step, one.value) for one in looks] == [(2, 0.25), (4, 0.5)]


@pytest.mark.parametrize("name", ["felt", "mean"])
def test_metrics_are_scalars(shown, name):
    assert [one.value for one in shown.Scalars(f"test/{name}/image_auroc")] == [0.875]


def test_a_metric_that_is_not_available_is_not_shown(shown):
    assert not [tag for tag in shown.Tags()["scalars"] if "aupro" in tag]


def test_pictures_are_strips(shown):
    (picture,) = shown.Images("pictures/felt/worst")
    assert (picture.width, picture.height) == (44, 8)


def test_config_and_failures_are_text(shown):
    assert {"config/text_summary", "failed/mesh/text_summary"} <= {*shown.Tags()["tensors"]}


def test_nothing_is_written_before_there_is_something(tmp_path):
    TensorBoard(tmp_path / "tensorboard").close("failed")
    assert list(tmp_path.iterdir()) == []
