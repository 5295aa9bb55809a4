"""Run the training stages of a learner: observations and phases, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch

from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.features.store import FeatureStore
from anoframe.models.learner import Forecast, Learner, Observation, Phase, TrainingBatch
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Tracker
from anoframe.training.context import FitContext
from anoframe.training.loop import PhaseTrainer
from anoframe.training.seeding import seed_generators
from anoframe.training.settings import phase_settings
from anoframe.training.state import TrainingState, latest_state
from anoframe.training.views import TrainingImages, ViewSource
from anoframe.utils.memory import available_memory, gigabytes
from anoframe.utils.progress import progress

Stages = Sequence[Observation | Phase]

_STORE_BATCH_SIZE = 16  # images per batch of an observation whose features come from a store


def fit_learner(
    learner: Learner,
    batches: Iterable[FeatureBatch],
    num_images: int,
    clock: StageTimer,
    context: FitContext,
    training_stages: Callable[[], Stages] | None = None,
    images: TrainingImages | None = None,
) -> None:
    """Train a learner, one training stage after another.

    If the context has a folder with a training state, training resumes from it. Of several processes rank 0 reads the
    state and sends it to the others.

    Args:
        learner: on its device.
        batches: features of the training images, in the order of the index; not read if every stage has views.
        num_images: number of training images.
        clock: times each stage.
        context: of the fit.
        training_stages: stages to run instead of `learner.training_stages`. Called again after each stage, because
            later stages may depend on the learned state.
        images: the training images, for phases with views.
    """
    training_stages = training_stages or learner.training_stages
    stages = training_stages()
    if not stages:
        return
    device = next(chain(learner.parameters(), learner.buffers())).device
    features: FeatureStore | Iterable[FeatureBatch] = batches
    if any(_needs_store(stage) for stage in stages):
        with clock.stage("encode"):
            features = FeatureStore(batches, num_images, device)
    state = _restore_state(learner, context)
    index = state.stage if state else 0
    stages = training_stages()  # the restored learner may have more stages
    while index < len(stages):
        stage = stages[index]
        seed_generators(context.seed, index)  # a stage draws the same numbers after a kill between two stages
        if isinstance(stage, Phase):
            settings = phase_settings(context.section, stage.name)
            source = _view_source(stage, images, context.seed, index, device) if stage.views else features
            assert isinstance(source, FeatureStore | ViewSource)
            with clock.stage(stage.name):
                PhaseTrainer(learner, stage, index, source, settings, context).run(state)
        elif isinstance(features, FeatureStore):
            rows = range(num_images) if stage.rows is None else stage.rows
            stored = features.batches(rows, stage.batch_size or _STORE_BATCH_SIZE)
            run_observation(stage, stored, len(rows), clock, stage.name)
        else:
            run_observation(stage, features, num_images, clock)
        state, index, stages = None, index + 1, training_stages()


def _needs_store(stage: Observation | Phase) -> bool:
    """Whether a stage reads features more than once, or in an order or batch size of its own."""
    if isinstance(stage, Phase):
        return stage.views is None
    return stage.rows is not None or bool(stage.batch_size)


def _view_source(
    phase: Phase, images: TrainingImages | None, seed: int, stage: int, device: torch.device
) -> ViewSource:
    assert images is not None and phase.views is not None, "a phase with views needs the training images"
    return ViewSource(images, phase.views, seed, stage, device)


def _restore_state(learner: Learner, context: FitContext) -> TrainingState | None:
    """Load the newest training state into the learner and the context; None if there is no state.

    A state with no optimiser steps is loaded as well; its stage then runs from the beginning.
    """
    state = context.group.broadcast(latest_state(context.state_folder) if context.state_folder else None)
    if state is None:
        return None
    learner.load_learned_state(state.learned)
    context.curves = state.rest["curves"]
    context.tracker.log("training_resumed", fit=context.fit, step=state.stage, done=state.steps)
    return state


@torch.no_grad()
def run_observation(
    observation: Observation,
    batches: Iterable[FeatureBatch] | Iterable[TrainingBatch],
    num_images: int,
    clock: StageTimer,
    stage: str = "encode",
) -> None:
    """Run an observation: one pass over the features, then its conclusion.

    Args:
        observation: to run.
        batches: features of the images it observes.
        num_images: number of images in all batches.
        clock: times the pass and the conclusion.
        stage: name under which the pass is timed.
    """
    with clock.stage(stage):
        observation.begin(num_images)
        shown: Iterable[FeatureBatch | TrainingBatch] = progress(batches, stage, unit="batch")
        for number, batch in enumerate(shown):
            if number == 0:
                _check_forecast(observation.forecast(batch.features, num_images), clock.tracker)
            if observation.observe(batch.features, batch.samples):
                break
    with clock.stage(observation.name):
        observation.finish()


def _check_forecast(forecast: Forecast | None, tracker: Tracker) -> None:
    """Log the forecast of an observation; raise an AnoframeError if it needs more memory than is free."""
    if forecast is None:
        return
    tracker.log("forecast", text=forecast.text)
    free = available_memory()
    if forecast.memory > free:
        raise AnoframeError(f"{forecast.text}; {gigabytes(free)} of memory is free. {forecast.remedy}")
