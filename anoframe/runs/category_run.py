"""Runs with the protocols `separate` and `unified`, and tests of checkpoints: one fit after another."""

from __future__ import annotations

import json
from collections.abc import Sequence

from anoframe.data.loader import num_workers
from anoframe.models.summary import MethodSummary
from anoframe.runs.context import RunContext
from anoframe.runs.protocols import Fit
from anoframe.training.checkpoint import Checkpoint, select_checkpoint
from anoframe.utils.imports import import_in_background


def train_fits(run: RunContext) -> None:
    """Train and evaluate every fit of a run that is not done yet."""
    if num_workers(run.plan.cfg.data.workers) == 0:  # a process that is forked during an import may wait for it forever
        import_in_background("scipy.ndimage")  # the metrics need it, and it takes half a second
    for fit in run.plan.fits:
        _run_fit(run, fit)


def evaluate_checkpoints(run: RunContext, checkpoints: Sequence[Checkpoint]) -> None:
    """Evaluate, on each category that is not done yet, the checkpoint that was trained on it."""
    for category in run.plan.categories:
        _run_fit(run, Fit(category, (category,)), select_checkpoint(checkpoints, category))


def _run_fit(run: RunContext, fit: Fit, tested: Checkpoint | None = None) -> None:
    """Evaluate the detector of a fit on those of its categories that have no result, and draw missing pictures.

    Args:
        tested: the detector; None loads the one that an interrupted run has saved, or trains it.
    """
    recorder = run.recorder
    missing = [category for category in fit.categories if recorder.folder.result(category) is None]
    missing = run.plan.group.broadcast(missing)
    if run.plan.group.is_main:
        _draw_missing(run, fit, [category for category in fit.categories if category not in missing], tested)
    if not missing:
        recorder.tracker.log("done", fit=fit.name)
        return
    trained: tuple[Checkpoint, MethodSummary] | None = None
    with recorder.isolate_failures(missing):
        trained = _load(run, fit, tested)
    if trained is None:
        return
    checkpoint, summary = trained
    for category in missing:
        with recorder.isolate_failures([category]):
            run.evaluator.evaluate(checkpoint, category, summary)
    recorder.write_state("running")


def _draw_missing(run: RunContext, fit: Fit, finished: Sequence[str], tested: Checkpoint | None) -> None:
    """Draw the pictures of finished categories that an interruption has cost; without a checkpoint, say so."""
    undrawn = [category for category in finished if run.recorder.lacks_pictures(category)]
    checkpoint = (tested or run.fitter.load(fit)) if undrawn else None
    for category in undrawn:
        if checkpoint:
            run.evaluator.draw_again(checkpoint, category)
        else:
            text = f"{category}: the run ended before its pictures were drawn, and its checkpoint is missing"
            run.recorder.tracker.log("warning", text=text)


def _load(run: RunContext, fit: Fit, tested: Checkpoint | None) -> tuple[Checkpoint, MethodSummary]:
    """Return the trained detector of a fit with its summary, and log the summary."""
    checkpoint = tested or run.fitter.load_or_train(fit)
    summary = MethodSummary()
    with run.recorder.isolate_decoration(f"{fit.name}: the summary of the method"):
        reported = checkpoint.detector.summary()
        json.dumps(reported.to_json(), allow_nan=False)  # one that JSON cannot hold would cost the result file
        summary = reported
    run.recorder.log_summary(fit.name, None, summary)
    return checkpoint, summary
