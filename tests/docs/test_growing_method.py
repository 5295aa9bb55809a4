"""A method outside the package that grows with each task, and what it reports about that."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch

from anoframe.models.base import ContinualDetector
from anoframe.models.factory import build_detector

GROWING = '''"""A continual method in one file: it stores one mean feature per task."""

import torch

from anoframe.models.base import ContinualDetector, Observation
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.types import Prediction


class Growing(ContinualDetector):
    """Distance of a location to the nearest of the means of all tasks."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.register_buffer("means", torch.empty(0))  # [tasks, C]
        self.register_buffer("images", torch.empty(0, dtype=torch.int64))  # [tasks]
        self.task = 0

    def start_task(self, task, images):
        self.task = task

    def finish_task(self):
        self.task += 1

    def training_stages(self):
        return [Observation("mean", self._begin, self._observe, self._finish)]

    def _begin(self, images):
        self._count, self._sum = images, 0

    def _observe(self, features, samples):
        self._sum = self._sum + features[0].mean((2, 3)).sum(0)

    def _finish(self):
        mean = self._sum[None] / self._count
        self.means = torch.cat([self.means[: self.task], mean]) if self.task else mean
        self.images = torch.cat([self.images[: self.task], torch.tensor([self._count])])

    def compute_prediction(self, features, size):
        offsets = features[0][:, None] - self.means[None, :, :, None, None]
        maps = upsample(offsets.norm(dim=2).amin(1), size)
        return Prediction(maps.flatten(1).amax(1), maps)

    def messages(self):
        return [f"mean of task {i} stored" for i in range(len(self.means))]

    def summary(self):
        counts = self.images.tolist()
        return MethodSummary(
            scalars={"growth/means": len(counts)},
            tables=[Table("means", "Means", ("task", "images"), list(enumerate(counts)), note="One mean per task.")],
            series=[Series("images", [(float(i), float(n)) for i, n in enumerate(counts)])],
            message=f"{len(counts)} means stored",
            config_records={"kind": "mean"},
            task_records={"images_per_task": counts[-1] if counts else None},
            stream_records={"num_means": len(counts)},
        )
'''
SECTION = {"name": "growing:Growing", "backbone": {"name": "test_resnet", "levels": (1,), "weights": "random"}}


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """The detector, named `growing:Growing` in the model section."""
    (tmp_path / "growing.py").write_text(GROWING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield build_detector(SECTION).eval()
    sys.modules.pop("growing", None)


def train_task(detector, task, seed, count):
    """Train on one task of random images."""
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    detector.start_task(task, count)
    (stage,) = detector.training_stages()
    stage.begin(count)
    stage.observe(detector.encode(images), ())
    stage.finish()
    detector.finish_task()
    return images


def test_a_method_outside_the_package_is_built_by_its_module_and_class(growing):
    assert isinstance(growing, ContinualDetector)
    assert type(growing).__name__ == "Growing"


def test_it_grows_by_one_mean_per_task(growing):
    sizes = []
    for task, count in enumerate((3, 2, 4)):
        train_task(growing, task, task, count)
        sizes.append(len(growing.means))
    assert sizes == [1, 2, 3]
    assert list(growing.messages()) == [f"mean of task {i} stored" for i in range(3)]


def test_an_earlier_task_is_not_forgotten(growing):
    images = train_task(growing, 0, 0, 3)
    before = growing.predict(images)
    train_task(growing, 1, 1, 2)
    assert (growing.predict(images).score <= before.score).all()


def test_the_summary_has_a_scalar_a_table_and_a_series_as_json_types(growing):
    for task, count in enumerate((3, 2)):
        train_task(growing, task, task, count)

    summary = growing.summary().to_json()

    assert json.loads(json.dumps(summary, allow_nan=False)) == {
        "scalars": {"growth/means": 2},
        "tables": [
            {
                "name": "means",
                "title": "Means",
                "columns": ["task", "images"],
                "rows": [[0, 3], [1, 2]],
                "note": "One mean per task.",
                "shaded": False,
            }
        ],
        "series": [{"name": "images", "points": [[0.0, 3.0], [1.0, 2.0]], "x_label": "task"}],
        "message": "2 means stored",
        "config_records": {"kind": "mean"},
        "task_records": {"images_per_task": 2},
        "stream_records": {"num_means": 2},
    }


def test_the_learned_state_restores_what_later_tasks_need(growing):
    images = train_task(growing, 0, 0, 3)
    train_task(growing, 1, 1, 2)
    fresh = build_detector(SECTION)
    fresh.load_learned_state({name: value.clone() for name, value in growing.learned_state().items()})
    assert torch.equal(fresh.predict(images).score, growing.predict(images).score)
    assert fresh.summary() == growing.summary()
