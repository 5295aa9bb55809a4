"""Training stages of a detector: what observations receive, in which order, and with which memory check."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector, Forecast, ObservingDetector
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training import stages
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner
from anoframe.types import Prediction, Sample

CONTEXT = FitContext("felt", 0, None, Trackers())


class CallRecorder(ObservingDetector):
    """Records every call of its observation."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.register_buffer("buffer", torch.empty(0))  # tells the device
        self.calls = []

    def begin_observation(self, images):
        self.calls.append(("begin", images))

    def observe(self, features, samples):
        self.calls.append(("observe", features.requires_grad, torch.is_grad_enabled(), [s.category for s in samples]))

    def finish_observation(self):
        self.calls.append(("finish",))

    def compute_prediction(self, features, size):
        return Prediction(features.sum((1, 2, 3)), features[:, 0])


class ZeroShot(Detector):
    """Has no training stages."""

    def compute_prediction(self, features, size):
        raise NotImplementedError


def batch(*names):
    samples = tuple(Sample(image=None, category=name, split="train") for name in names)  # type: ignore[arg-type]
    return FeatureBatch(torch.ones(len(names), 3, 2, 2), torch.zeros(len(names), 1, 2, 2), samples)


def test_observation_gets_every_batch_once_and_then_finishes():
    detector = CallRecorder()
    fit_learner(detector, [batch("a", "b"), batch("c")], 3, StageTimer(Trackers()), CONTEXT)
    assert detector.calls == [
        ("begin", 3),
        ("observe", False, False, ["a", "b"]),
        ("observe", False, False, ["c"]),
        ("finish",),
    ]


def test_stages_are_timed():
    clock = StageTimer(Trackers())
    fit_learner(CallRecorder(), [batch("a")], 1, clock, CONTEXT)
    assert list(clock.stages) == ["encode", "observation"]


class WithForecast(CallRecorder):
    """Forecasts the memory that its observation needs."""

    def forecast(self, features, images):
        return Forecast(f"{images} images need 7.00 GB", 7 * 10**9, "Take fewer images")


def test_forecast_is_logged_once_before_the_first_observation(monkeypatch, recorder):
    monkeypatch.setattr(stages, "available_memory", lambda: 8 * 10**9)
    detector = WithForecast()
    fit_learner(detector, [batch("a"), batch("b")], 2, StageTimer(recorder), CONTEXT)
    assert [fields["text"] for fields in recorder.of("forecast")] == ["2 images need 7.00 GB"]
    assert len(detector.calls) == 4


def test_forecast_above_free_memory_raises_an_error_with_the_remedy_before_the_first_observation(monkeypatch):
    monkeypatch.setattr(stages, "available_memory", lambda: 6 * 10**9)
    detector = WithForecast()
    with pytest.raises(AnoframeError, match=r"2 images need 7\.00 GB; 6\.00 GB of memory is free\. Take fewer images"):
        fit_learner(detector, [batch("a"), batch("b")], 2, StageTimer(Trackers()), CONTEXT)
    assert detector.calls == [("begin", 2)]


def test_detector_without_stages_reads_no_batch():
    def batches():
        pytest.fail("a batch was read")
        yield

    fit_learner(ZeroShot(nn.Identity()), batches(), 1, StageTimer(Trackers()), CONTEXT)
