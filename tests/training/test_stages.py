"""Teaching a detector: what it is told, in which order, and from which random state."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.features.extraction import Encoded
from anoframe.models.base import Detector, Forecast, ObservingDetector
from anoframe.tracking.timing import Clock
from anoframe.tracking.tracker import Trackers
from anoframe.training import stages as learn_module
from anoframe.training.loop import Training
from anoframe.training.stages import learn, seed_everything
from anoframe.types import Prediction, Sample

QUIET = Training("felt", 0, None, Trackers())


class Diary(ObservingDetector):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.register_buffer("place", torch.empty(0))
        self.said = []

    def begin_observation(self, images):
        self.said.append(("begin", images))

    def observe(self, features, samples):
        self.said.append(("observe", features.requires_grad, torch.is_grad_enabled(), [s.category for s in samples]))

    def finish_observation(self):
        self.said.append(("conclude",))

    def detect(self, features, size):
        return Prediction(features.sum((1, 2, 3)), features[:, 0])


class KnowsAll(Detector):
    """Learns nothing."""

    def detect(self, features, size):
        raise NotImplementedError


def batch(*names):
    samples = tuple(Sample(image=None, category=name, split="train") for name in names)  # type: ignore[arg-type]
    return Encoded(torch.ones(len(names), 3, 2, 2), torch.zeros(len(names), 1, 2, 2), samples)


def test_an_observing_detector_sees_every_batch_once_and_then_concludes():
    diary = Diary()
    learn(diary, [batch("a", "b"), batch("c")], 3, Clock(Trackers()), QUIET)
    assert diary.said == [
        ("begin", 3),
        ("observe", False, False, ["a", "b"]),
        ("observe", False, False, ["c"]),
        ("conclude",),
    ]


def test_the_stages_are_timed():
    clock = Clock(Trackers())
    learn(Diary(), [batch("a")], 1, clock, QUIET)
    assert list(clock.stages) == ["encode", "conclude"]


class Hungry(Diary):
    """Says what it needs."""

    def forecast(self, features, images):
        return Forecast(f"{images} images need 7.00 GB", 7 * 10**9, "Take fewer images")


class Ear:
    """A tracker that remembers."""

    def __init__(self):
        self.heard = []

    def log(self, event, **fields):
        self.heard.append((event, fields.get("text")))


def test_what_learning_will_take_is_told_once_before_anything_is_observed(monkeypatch):
    monkeypatch.setattr(learn_module, "available_memory", lambda: 8 * 10**9)
    ear, hungry = Ear(), Hungry()
    learn(hungry, [batch("a"), batch("b")], 2, Clock(ear), QUIET)
    assert [said for said in ear.heard if said[0] == "forecast"] == [("forecast", "2 images need 7.00 GB")]
    assert len(hungry.said) == 4


def test_what_cannot_fit_in_memory_is_refused_with_the_remedy_before_anything_is_observed(monkeypatch):
    monkeypatch.setattr(learn_module, "available_memory", lambda: 6 * 10**9)
    hungry = Hungry()
    with pytest.raises(AnoframeError, match=r"2 images need 7\.00 GB; 6\.00 GB of memory is free\. Take fewer images"):
        learn(hungry, [batch("a"), batch("b")], 2, Clock(Trackers()), QUIET)
    assert hungry.said == [("begin", 2)]


def test_a_detector_that_learns_nothing_looks_at_nothing():
    def untouched():
        pytest.fail("a batch was taken")
        yield

    learn(KnowsAll(nn.Identity()), untouched(), 1, Clock(Trackers()), QUIET)


@pytest.mark.parametrize(
    "draw",
    [random.random, lambda: np.random.rand(), lambda: torch.rand(1).item()],  # noqa: NPY002
    ids=["random", "numpy", "torch"],
)
def test_a_seed_fixes_every_generator(draw):
    def drawn(seed):
        seed_everything(seed)
        return draw()

    assert drawn(3) == drawn(3) != drawn(4)
