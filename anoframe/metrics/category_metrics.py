"""All metrics of a category by name: the content of a results table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import Labels, Scores, as_maps, as_pair, check_limit
from anoframe.metrics.aupro import STANDARD_LIMIT, mean_pro_per_image
from anoframe.metrics.decisions import count_decisions
from anoframe.metrics.threshold_sweep import Sweep, sweep_pixels, sweep_threshold

Metrics = dict[str, float | None]  # None: not available


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> Metrics:
    """Compute `image_auroc`, `image_ap` and `image_f1max` of a category; labels and scores are [n].

    >>> image_metrics([0, 0, 1], [0.1, 0.2, 0.9])
    {'image_auroc': 1.0, 'image_ap': 1.0, 'image_f1max': 1.0}
    """
    return image_metrics_from_sweep(sweep_threshold(*as_pair(labels, scores)))


def image_metrics_from_sweep(sweep: Sweep | None) -> Metrics:
    """Compute the image metrics from an existing sweep over the scores; None: one class is missing."""
    measures = {"image_auroc": Sweep.auroc, "image_ap": Sweep.average_precision, "image_f1max": Sweep.f1_max}
    return _measure(sweep, measures)


def pixel_metrics(
    masks: ArrayLike,
    maps: ArrayLike,
    aupro_limits: Iterable[float] = (STANDARD_LIMIT,),
    thresholds: Iterable[float] = (),
) -> Metrics:
    """Compute `pixel_auroc`, `pixel_ap`, `pixel_f1max`, `aupro`, `iou_max` and `pro_per_image` of a category.

    All rank-based values come from one sort. Errors and memory: as in `aupro`.

    Args:
        masks, maps: [n, H, W].
        aupro_limits: false-positive rates in (0, 1]; a limit other than 0.3 is part of the name (`aupro_0.05`).
        thresholds: raw map values; each adds `pixel_f1_at_0.5`, `pixel_accuracy_at_0.5` and `pixel_iou_at_0.5`.

    >>> pixel_metrics([[[1, 0, 0, 0]]], [[[0.9, 0.1, 0.2, 0.1]]])
    {'pixel_auroc': 1.0, 'pixel_ap': 1.0, 'pixel_f1max': 1.0, 'aupro': 1.0, 'iou_max': 1.0, 'pro_per_image': 1.0}
    """
    flags, values = as_maps(masks, maps)
    ranked = pixel_metrics_from_sweep(sweep_pixels(flags, values), aupro_limits)
    return ranked | per_image_metrics(flags, values) | metrics_at_thresholds(flags, values, thresholds)


def pixel_metrics_from_sweep(sweep: Sweep | None, aupro_limits: Iterable[float] = (STANDARD_LIMIT,)) -> Metrics:
    """Compute the rank-based pixel metrics from an existing `sweep_pixels`; None: one class is missing."""
    measures: dict[str, Callable[[Sweep], float]] = {
        "pixel_auroc": Sweep.auroc,
        "pixel_ap": Sweep.average_precision,
        "pixel_f1max": Sweep.f1_max,
    }
    for limit in aupro_limits:
        check_limit(limit)
        measures["aupro" if limit == STANDARD_LIMIT else f"aupro_{limit}"] = partial(Sweep.aupro, limit=limit)
    measures["iou_max"] = Sweep.iou_max
    return _measure(sweep, measures)


def per_image_metrics(masks: Labels, maps: Scores, counted: Labels | None = None) -> Metrics:
    """Compute the pixel metrics that are averages over single images; checked arrays [n, H, W].

    `counted` are the pixels to count, all of the anomalous ones among them; None counts all.
    """
    return {"pro_per_image": mean_pro_per_image(masks, maps, counted)}


def metrics_at_thresholds(masks: Labels, maps: Scores, thresholds: Iterable[float]) -> Metrics:
    """Compute pixel F1, accuracy and IoU at each threshold; checked arrays of one shape."""
    metrics: Metrics = {}
    for threshold in thresholds:
        decisions = count_decisions(masks, maps, threshold)
        metrics[f"pixel_f1_at_{threshold}"] = decisions.f1()
        metrics[f"pixel_accuracy_at_{threshold}"] = decisions.accuracy()
        metrics[f"pixel_iou_at_{threshold}"] = decisions.iou()
    return metrics


def _measure(sweep: Sweep | None, measures: Mapping[str, Callable[[Sweep], float]]) -> Metrics:
    return {name: None if sweep is None else measure(sweep) for name, measure in measures.items()}
