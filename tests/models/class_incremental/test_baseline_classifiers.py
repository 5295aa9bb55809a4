"""Linear probe with replay, and nearest class mean: what a task changes, and what their states hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.models.class_incremental.linear_probe import LinearProbe
from anoframe.models.class_incremental.nearest_class_mean import NearestClassMean
from anoframe.models.learner import Phase, TaskData
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner
from anoframe.types import Sample

WIDTH = 6
CENTRES = F.normalize(torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)), dim=1)
TRAINER = {"epochs": 4, "batch_size": 4, "optimizer": {"name": "adam", "lr": 0.05}}


def task_images(classes, count=12, seed=0):
    """Features near the centre of each class, and their samples."""
    generator = torch.Generator().manual_seed(seed)
    names = [name for name in classes for _ in range(count)]
    noise = 0.1 * torch.randn(len(names), WIDTH, generator=generator)
    samples = tuple(Sample(Path(f"{name}/{i}.png"), f"c{name}", "train") for i, name in enumerate(names))
    return CENTRES[torch.tensor(names)] + noise, samples


def train(learner, task, features, samples, num_new):
    learner.start_task(task, TaskData(samples, num_new))
    batch = FeatureBatch(features, torch.zeros(len(features), 1, 1, 1, dtype=torch.bool), samples)
    tracker = Trackers()
    fit_learner(learner, [batch], len(samples), StageTimer(tracker), FitContext("task", task, TRAINER, tracker))
    learner.finish_task()
    return learner.eval()


def two_tasks(learner):
    """Train tasks (c0, c1) and (c2, c3), with the exemplars of the first in the second."""
    first, names = task_images([0, 1])
    train(learner, 0, first, names, len(names))
    kept = learner.exemplar_rows.tolist()
    second, others = task_images([2, 3], seed=1)
    samples = (*others, *(names[row] for row in kept))
    return train(learner, 1, torch.cat([second, first[kept]]), samples, len(others))


@pytest.mark.parametrize(
    "build", [lambda: LinearProbe(WIDTH, memory={"per_class": 3}), lambda: NearestClassMean(WIDTH)]
)
def test_all_classes_are_told_apart_after_two_tasks(build):
    learner = two_tasks(build())
    assert learner.classes == ("c0", "c1", "c2", "c3")
    logits = learner.logits(CENTRES)
    assert logits.shape == (1, 4, 4)
    assert logits[0].argmax(1).tolist() == [0, 1, 2, 3]


def test_a_probe_without_exemplars_forgets():
    learner = two_tasks(LinearProbe(WIDTH, memory={"per_class": 0}))
    assert len(learner.exemplar_rows) == 0
    assert set(learner.logits(CENTRES[:2])[0].argmax(1).tolist()) & {2, 3}


def test_a_probe_keeps_equally_many_exemplars_of_each_class_and_balances_on_them():
    learner = two_tasks(LinearProbe(WIDTH, memory={"per_class": 3}))
    assert len(learner.exemplar_rows) == 12
    stages = learner.training_stages()
    assert [stage.name for stage in stages] == ["task", "exemplars", "balance"]
    assert isinstance(stages[-1], Phase)
    assert stages[-1].rows == learner.exemplar_rows.tolist()


def test_class_means_are_those_of_the_unit_features_and_stay():
    learner, (first, names) = NearestClassMean(WIDTH), task_images([0, 1])
    train(learner, 0, first, names, len(names))
    expected = F.normalize(F.normalize(first.double(), dim=1).unflatten(0, (2, 12)).mean(1), dim=1).float()
    torch.testing.assert_close(learner.means, expected)
    before = learner.means.clone()
    second, others = task_images([2], seed=1)
    train(learner, 1, second, others, len(others))
    assert torch.equal(learner.means[:2], before)


@pytest.mark.parametrize("build", [lambda: LinearProbe(WIDTH), lambda: NearestClassMean(WIDTH)])
def test_a_state_loads_into_an_untrained_classifier(build):
    learner, loaded = two_tasks(build()), build()
    loaded.load_learned_state(learner.learned_state())
    features, _ = task_images([0, 3], seed=5)
    assert torch.equal(loaded.logits(features), learner.logits(features))
    assert loaded.classes == learner.classes


@pytest.mark.parametrize("build", [lambda: LinearProbe(WIDTH), lambda: NearestClassMean(WIDTH)])
def test_tasks_are_trained_in_order_and_classes_belong_to_one(build):
    learner, (features, names) = build(), task_images([0, 1])
    with pytest.raises(AnoframeError, match="in order"):
        learner.start_task(2, TaskData(names, len(names)))
    train(learner, 0, features, names, len(names))
    with pytest.raises(AnoframeError, match="earlier task"):
        learner.start_task(1, TaskData(names, len(names)))


def test_a_scale_below_zero_is_an_error():
    with pytest.raises(AnoframeError, match=r"classifier\.scale"):
        NearestClassMean(WIDTH, scale=-1.0)
