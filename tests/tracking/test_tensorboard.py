"""Content of TensorBoard event files, read back with TensorBoard."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.models.summary import MethodSummary
from anoframe.tracking.tensorboard import TensorBoard

STEP = {"fit": "felt", "phase": "distil", "lr": 0.01, "data_seconds": 0.1}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("run")
    Image.fromarray(np.full((8, 44, 3), 7, np.uint8)).save(folder / "000.png")
    tracker = TensorBoard(folder / "tensorboard")
    tracker.log("run", id="3f9a0c21", folder=str(folder), config={"seed": 3, "categories": ("felt",)}, resumed=False)
    tracker.log("stage", name="encode", seconds=1.0, peak_bytes=1)
    for step in range(3):
        tracker.log(
            "step", epoch=step // 2, step=step, losses={"cosine": step / 4}, measurements={"top1": step}, **STEP
        )
    for epoch in (2, 4):
        metrics = {"felt": {"image_auroc": epoch / 8, "aupro": None}}
        tracker.log("look", fit="felt", phase="distil", epoch=epoch, metrics=metrics, summary="fine")
    tracker.log("evaluated", category="felt", summary="fine", metrics={"image_auroc": 0.875, "aupro": None})
    row = {"file": "000.png", "kind": "worst", "defect": "cut", "name": "cut/007.png", "score": 1.25}
    tracker.log("pictures", category="felt", folder=folder, rows=[row])
    for task in range(3):
        summary = MethodSummary({"growth/total_adapters": 8 + task, "size": task / 2})
        tracker.log("method_summary", fit=f"task_0{task}", task=task, **summary.to_json())
    tracker.log("method_summary", fit="felt", task=None, **MethodSummary({"memory/rows": 12}).to_json())
    tracker.log("failed", category="mesh", reason="no test images")
    tracker.log("finished", metrics={"image_auroc": 0.875, "aupro": None}, seconds=1.0)
    tracker.close("failed")
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_losses_learning_rate_and_times_are_drawn_over_the_steps(events):
    losses = events.Scalars("train/felt/distil/loss/cosine")
    assert [(scalar.step, scalar.value) for scalar in losses] == [(0, 0), (1, 0.25), (2, 0.5)]
    measured = events.Scalars("train/felt/distil/measured/top1")
    assert [(scalar.step, scalar.value) for scalar in measured] == [(0, 0), (1, 1), (2, 2)]
    assert {"train/felt/distil/lr", "train/felt/distil/epoch", "train/felt/distil/data_seconds"} <= {
        *events.Tags()["scalars"]
    }


def test_metrics_during_training_are_drawn_over_the_epochs(events):
    looks = events.Scalars("look/felt/distil/felt/image_auroc")
    assert [(scalar.step, scalar.value) for scalar in looks] == [(2, 0.25), (4, 0.5)]


@pytest.mark.parametrize("name", ["felt", "mean"])
def test_metrics_are_scalars(events, name):
    assert [scalar.value for scalar in events.Scalars(f"test/{name}/image_auroc")] == [0.875]


def test_metric_that_is_not_available_is_not_written(events):
    assert not [tag for tag in events.Tags()["scalars"] if "aupro" in tag]


def test_pictures_are_strips(events):
    (picture,) = events.Images("pictures/felt/worst")
    assert (picture.width, picture.height) == (44, 8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("growth/total_adapters", [(0, 8), (1, 9), (2, 10)]),
        ("size", [(0, 0), (1, 0.5), (2, 1)]),
        ("memory/rows", [(0, 12)]),
    ],
)
def test_scalars_of_a_method_are_drawn_over_the_tasks(events, name, values):
    assert [(scalar.step, scalar.value) for scalar in events.Scalars(name)] == values


def test_config_and_failures_are_text(events):
    assert {"config/text_summary", "failed/mesh/text_summary"} <= {*events.Tags()["tensors"]}


def test_nothing_is_written_before_the_first_event(tmp_path):
    TensorBoard(tmp_path / "tensorboard").close("failed")
    assert list(tmp_path.iterdir()) == []
