"""Evaluation on the test images during training: curves, and selection of the best epoch on the test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anoframe.evaluation.results import percent
from anoframe.metrics.catalogue import SUMMARY
from anoframe.models.learner import Learner
from anoframe.training.context import CategoryMetrics, Evaluate, FitContext
from anoframe.training.distributed_loss import sync_learned_state
from anoframe.training.seeding import random_states, set_random_states
from anoframe.training.settings import TrainingSettings


class TestEvaluation:
    """Evaluates a learner on the test images every `trainer.evaluate_every` epochs.

    Training is not affected: random states are restored afterwards.

    Args:
        context: of the fit.
        settings: of the phase.
        title: of the phase, for events and curves.
        best: `best` of a phase that is resumed.

    Attributes:
        best: with `trainer.select = "best_on_test"`: `mean` of the metrics of `trainer.select_metric` over the
            categories, and `learned` state of the best evaluation so far; empty before the first evaluation.
    """

    __test__ = False  # not a test class of pytest

    def __init__(
        self, context: FitContext, settings: TrainingSettings, title: str, best: Mapping[str, Any] | None = None
    ):
        self._context, self._settings, self._title = context, settings, title
        self.best: dict[str, Any] = dict(best or {})

    def run_if_due(self, learner: Learner, epoch: int, is_last_step: bool) -> None:
        """Evaluate if `epoch` is a multiple of `trainer.evaluate_every`, or if training ends with this step."""
        every = self._settings.evaluate_every
        if self._context.evaluate and every and (epoch % every == 0 or is_last_step):
            self._run(self._context.evaluate, learner, epoch)

    def _run(self, evaluate: Evaluate, learner: Learner, epoch: int) -> None:
        states = random_states()
        sync_learned_state(learner, self._context.group)
        learner.eval()
        results = {category: dict(metrics) for category, metrics in evaluate(learner).items()}
        learner.train()
        set_random_states(states)
        names = {"fit": self._context.fit, "phase": self._title, "epoch": epoch}
        summary = _summary_line(results)
        if self._settings.select == "best_on_test":
            summary += f"; {self._keep_if_best(learner, results)}"
        self._context.tracker.log("look", **names, metrics=results, summary=summary)
        self._context.curves["looks"].append({"phase": self._title, "epoch": epoch, "metrics": results})

    def _keep_if_best(self, learner: Learner, results: CategoryMetrics) -> str:
        """Keep the learned state of the best evaluation; return the value that decides, as text."""
        metrics = self._settings.selection_metrics
        values = [values[name] for values in results.values() for name in metrics]
        available = [value for value in values if value is not None]
        mean = sum(available) / len(available) if available else None
        is_best = mean is not None and mean > self.best.get("mean", -1.0)
        if is_best:
            learned = {name: value.detach().clone() for name, value in learner.learned_state().items()}
            self.best = {"mean": mean, "learned": learned}
        return f"selection by the mean of {', '.join(metrics)}: {percent(mean)}{', best so far' * is_best}"


def _summary_line(results: CategoryMetrics) -> str:
    """Summary metrics in percent, each averaged over the categories for which it is available."""
    texts = []
    for name in SUMMARY:
        values = [value for metrics in results.values() if (value := metrics.get(name)) is not None]
        texts.append(f"{name} {percent(sum(values) / len(values) if values else None)}")
    return ", ".join(texts)
