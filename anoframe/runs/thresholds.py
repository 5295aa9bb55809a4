"""Thresholds as a decision of the user: for one test or prediction, or stored in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.decision import Threshold, ThresholdOptions, rate_remark
from anoframe.registry import check_arguments
from anoframe.training.checkpoint import Checkpoint, list_checkpoints, read_thresholds, store_thresholds
from anoframe.training.threshold import resolve_threshold
from anoframe.utils.paths import expand_path

Asked = ThresholdOptions | Mapping[str, float | None] | None  # as a dict: {"false_positive_rate": 0.001}


@dataclass(frozen=True)
class StoredThreshold:
    """A threshold that `set_threshold` has stored.

    Attributes:
        category: whose threshold it is.
        before: the threshold until now; None if there was none.
        now: the new one.
        remark: what is to be known about the new one; empty if nothing is.
    """

    category: str
    before: Threshold | None
    now: Threshold
    remark: str


def threshold_options(asked: Asked) -> ThresholdOptions:
    """Return the options of a caller, who may give them as a dict.

    Raises:
        AnoframeError: an unknown name, or a value that is not allowed.
    """
    if isinstance(asked, ThresholdOptions):
        return asked
    values = dict(asked or {})
    check_arguments(ThresholdOptions, values, "threshold")
    return ThresholdOptions(**values)


def with_thresholds(checkpoint: Checkpoint, categories: Sequence[str], options: ThresholdOptions) -> Checkpoint:
    """Return a checkpoint with the thresholds that a user asks for.

    Args:
        categories: those that the checkpoint decides about.

    Raises:
        AnoframeError: as `resolve_threshold`.
    """
    if not options.asked:
        return checkpoint
    chosen = {category: resolve_threshold(checkpoint, category, options) for category in categories}
    return replace(checkpoint, thresholds={**checkpoint.thresholds, **chosen})


def rate_remarks(checkpoints: Sequence[Checkpoint], categories: Sequence[str]) -> list[str]:
    """Name the categories whose held-back images do not support the requested rate, with the rate that they support."""
    thresholds = {name: each.thresholds[name] for each in checkpoints for name in categories if name in each.thresholds}
    return [f"{name}: {text}" for name, each in thresholds.items() if (text := rate_remark(each))]


def set_threshold(
    checkpoint: str | Path, categories: Sequence[str] | None = None, threshold: Asked = None
) -> list[StoredThreshold]:
    """Store other thresholds in a trained run: what a later test, prediction or export uses.

    Nothing is trained, and no result of the run changes: each result has the threshold that it was computed with.

    Args:
        checkpoint: a run folder, its `checkpoint/`, or the folder of one fit.
        categories: whose thresholds to set; None: all.
        threshold: `false_positive_rate`, or for one detector `value`, and `pixel_value`.

    Raises:
        AnoframeError: there is no checkpoint or category, nothing is asked for, or a checkpoint has no scores of
            held-back images to estimate a rate on. Nothing is stored then.
    """
    path, options = expand_path(checkpoint, "checkpoint"), threshold_options(threshold)
    if not options.asked:
        raise AnoframeError(
            "no threshold is given: add --false_positive_rate 0.01, --threshold.value or --threshold.pixel_value"
        )
    stored = {folder: read_thresholds(folder) for folder in list_checkpoints(path).values()}
    known = [name for read in stored.values() for name in read.categories]
    chosen = list(dict.fromkeys(known if categories is None or list(categories) == ["all"] else categories))
    for name in chosen:
        if name not in known:
            raise AnoframeError(f"{path} has no detector for category {name!r}: {suggest(name, known)}")
    check_one_detector(options, [[name for name in chosen if name in read.categories] for read in stored.values()])
    changes: dict[Path, dict[str, Threshold]] = {}
    for folder, read in stored.items():
        new = {name: resolve_threshold(read, name, options) for name in chosen if name in read.categories}
        changes[folder] = {name: threshold for name, threshold in new.items() if threshold}
    for folder, thresholds in changes.items():  # only now that every one of them is known
        if thresholds:
            store_thresholds(folder, thresholds)
    return [
        StoredThreshold(name, stored[folder].thresholds.get(name), threshold, rate_remark(threshold))
        for folder, thresholds in changes.items()
        for name, threshold in thresholds.items()
    ]


def check_one_detector(options: ThresholdOptions, detectors: Sequence[Sequence[str]]) -> None:
    """Check that values, which are in the unit of one detector's scores, are not given for several detectors.

    Args:
        options: what the user asks for.
        detectors: categories that each detector decides about.

    Raises:
        AnoframeError: they are.
    """
    deciding = [names for names in detectors if names]
    given = [name for name in ("value", "pixel_value") if name in options.asked]
    if given and len(deciding) > 1:
        names = ", ".join(name for each in deciding for name in each)
        raise AnoframeError(
            f"--threshold.{given[0]} is in the unit of the scores of one detector, and {names} have one each: choose a "
            "category with --cls_names, or give --threshold.false_positive_rate"
        )
