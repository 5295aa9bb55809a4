"""Teaching a detector, in the way it says it learns."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import torch

from anoframe.detector import Detector, Forecast, Observation
from anoframe.encoding import Encoded
from anoframe.errors import AnoframeError
from anoframe.memory import available_memory, gigabytes
from anoframe.progress import progress
from anoframe.tracking.clock import Clock
from anoframe.tracking.tracker import Tracker


def seed_everything(seed: int) -> None:
    """Seed every generator that a method might draw from, and ask torch for repeatable kernels."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def learn(detector: Detector, batches: Iterable[Encoded], images: int, clock: Clock) -> None:
    """Fit a detector to normal images.

    Args:
        batches: features of the training images, in the order of the index.
        images: how many they are.
    """
    for step in detector.learning():
        if isinstance(step, Observation):
            observe(step, batches, images, clock)


@torch.no_grad()
def observe(step: Observation, batches: Iterable[Encoded], images: int, clock: Clock) -> None:
    """One pass over the features, then a conclusion."""
    with clock.stage("encode"):
        step.begin(images)
        for number, batch in enumerate(progress(batches, "encode", unit="batch")):
            if number == 0:
                _announce(step.forecast(batch.features, images), clock.tracker)
            step.observe(batch.features, batch.samples)
    with clock.stage(step.name):
        step.conclude()


def _announce(forecast: Forecast | None, tracker: Tracker) -> None:
    """Tell what learning will take, or refuse what cannot end well."""
    if forecast is None:
        return
    tracker.log("forecast", text=forecast.text)
    free = available_memory()
    if forecast.memory > free:
        raise AnoframeError(f"{forecast.text}; {gigabytes(free)} of memory is free. {forecast.remedy}")
