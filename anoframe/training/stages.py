"""Teaching a detector, by the steps that it says it learns by."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from anoframe.errors import AnoframeError
from anoframe.features.extraction import Encoded
from anoframe.features.store import FeatureStore
from anoframe.models.base import Detector, Forecast, Observation, Phase, TrainingBatch
from anoframe.tracking.timing import Clock
from anoframe.tracking.tracker import Tracker
from anoframe.training.loop import PhaseTrainer, Training
from anoframe.training.settings import settings_of
from anoframe.training.state import TrainingState, latest_state, seed_generators
from anoframe.utils.memory import available_memory, gigabytes
from anoframe.utils.progress import progress

_AT_ONCE = 16  # images that an observation is shown together where all features are at hand


def seed_everything(seed: int) -> None:
    """Seed every generator that a method might draw from, and ask torch for repeatable kernels."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs time alone


def learn(
    detector: Detector,
    batches: Iterable[Encoded],
    images: int,
    clock: Clock,
    training: Training,
    learning: Callable[[], Sequence[Observation | Phase]] | None = None,
) -> None:
    """Fit a detector to normal images, one step of its `learning` after another.

    Args:
        batches: features of the training images, in the order of the index.
        images: how many they are.
        training: of this fit. Where it keeps states and there is one, learning goes on from there: of several
            processes rank 0 keeps states, and has the others know.
        learning: gives other steps than the detector's own.
    """
    learning = learning or detector.training_stages
    steps = learning()
    if not steps:
        return
    device = next(detector.buffers()).device
    source: FeatureStore | Iterable[Encoded] = batches
    if any(isinstance(step, Phase) or step.rows is not None or step.batch_size for step in steps):
        with clock.stage("encode"):
            source = FeatureStore(batches, images, device)
    state = _earlier(detector, training)
    done = state.step if state else 0
    steps = learning()  # what was put back may have more of them
    while done < len(steps):
        step = steps[done]
        seed_generators(training.seed, done)  # so that it draws the same after a kill between two steps
        if isinstance(step, Phase):
            assert isinstance(source, FeatureStore)
            settings = settings_of(training.section, step.name)
            with clock.stage(step.name):
                PhaseTrainer(detector, step, done, source, settings, training).run(state)
        elif isinstance(source, FeatureStore):
            shown, rows = step.batch_size or _AT_ONCE, range(images) if step.rows is None else step.rows
            observe(step, source.batches(rows, shown), len(rows), clock, step.name)
        else:
            observe(step, source, images, clock)
        state, done, steps = None, done + 1, learning()


def _earlier(detector: Detector, training: Training) -> TrainingState | None:
    """Put back what an interrupted fit had learned; None where nothing is kept of one.

    A state at the very beginning of a step is put back too, but that step then begins as any other.
    """
    state = training.group.broadcast(latest_state(training.home) if training.home else None)
    if state is None:
        return None
    detector.load_learned_state(state.learned)
    training.curves = state.rest["curves"]
    training.tracker.log("training_resumed", fit=training.fit, step=state.step, done=state.done)
    return state


@torch.no_grad()
def observe(
    step: Observation,
    batches: Iterable[Encoded] | Iterable[TrainingBatch],
    images: int,
    clock: Clock,
    stage: str = "encode",
) -> None:
    """One pass over the features, timed as a stage of that name, then a conclusion."""
    with clock.stage(stage):
        step.begin(images)
        shown: Iterable[Encoded | TrainingBatch] = progress(batches, stage, unit="batch")
        for number, batch in enumerate(shown):
            if number == 0:
                _announce(step.forecast(batch.features, images), clock.tracker)
            if step.observe(batch.features, batch.samples):
                break
    with clock.stage(step.name):
        step.finish()


def _announce(forecast: Forecast | None, tracker: Tracker) -> None:
    """Tell what learning will take, or refuse what cannot end well."""
    if forecast is None:
        return
    tracker.log("forecast", text=forecast.text)
    free = available_memory()
    if forecast.memory > free:
        raise AnoframeError(f"{forecast.text}; {gigabytes(free)} of memory is free. {forecast.remedy}")
