"""All metrics of a category by name: what a results table holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from numpy.typing import ArrayLike

from anoframe.metrics.checks import Labels, Scores, as_maps, as_pair, check_limit
from anoframe.metrics.localisation import STANDARD_LIMIT, mean_of_images, sweep_pixels
from anoframe.metrics.sweep import Sweep, sweep_threshold
from anoframe.metrics.thresholded import decide

Metrics = dict[str, float | None]  # None: not available


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> Metrics:
    """`image_auroc`, `image_ap`, `image_f1max` of one category; labels and scores are [n].

    >>> image_metrics([0, 0, 1], [0.1, 0.2, 0.9])
    {'image_auroc': 1.0, 'image_ap': 1.0, 'image_f1max': 1.0}
    """
    return metrics_of_images(sweep_threshold(*as_pair(labels, scores)))


def metrics_of_images(sweep: Sweep | None) -> Metrics:
    """The same from a threshold sweep that is there already."""
    measures = {"image_auroc": Sweep.auroc, "image_ap": Sweep.average_precision, "image_f1max": Sweep.f1_max}
    return _measure(sweep, measures)


def pixel_metrics(
    masks: ArrayLike,
    maps: ArrayLike,
    aupro_limits: Iterable[float] = (STANDARD_LIMIT,),
    thresholds: Iterable[float] = (),
) -> Metrics:
    """Metrics of the maps of one category; masks and maps are [n, H, W].

    `pixel_auroc`, `pixel_ap`, `pixel_f1max`, `aupro`, `iou_max` and `pro_per_image`.

    A limit other than 0.3 carries its number (`aupro_0.05`). Each threshold adds `pixel_f1_at_0.5`,
    `pixel_accuracy_at_0.5` and `pixel_iou_at_0.5`. All rank-based values come from one sort; errors and memory are
    those of `localisation`.

    >>> pixel_metrics([[[1, 0, 0, 0]]], [[[0.9, 0.1, 0.2, 0.1]]])
    {'pixel_auroc': 1.0, 'pixel_ap': 1.0, 'pixel_f1max': 1.0, 'aupro': 1.0, 'iou_max': 1.0, 'pro_per_image': 1.0}
    """
    flags, values = as_maps(masks, maps)
    ranked = metrics_of_pixels(sweep_pixels(flags, values), aupro_limits)
    return ranked | metrics_of_each_image(flags, values) | metrics_at(flags, values, thresholds)


def metrics_of_pixels(sweep: Sweep | None, aupro_limits: Iterable[float] = (STANDARD_LIMIT,)) -> Metrics:
    """The rank-based ones of them, from a sweep of the pixels that is there already."""
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


def metrics_of_each_image(masks: Labels, maps: Scores) -> Metrics:
    """Those of them that are taken of one image at a time, and averaged; masks and maps are [n, H, W]."""
    return {"pro_per_image": mean_of_images(masks, maps)}


def metrics_at(masks: Labels, maps: Scores, thresholds: Iterable[float]) -> Metrics:
    """Those of them that a threshold decides; masks and maps are [n, H, W]."""
    metrics: Metrics = {}
    for threshold in thresholds:
        decisions = decide(masks, maps, threshold)
        metrics[f"pixel_f1_at_{threshold}"] = decisions.f1()
        metrics[f"pixel_accuracy_at_{threshold}"] = decisions.accuracy()
        metrics[f"pixel_iou_at_{threshold}"] = decisions.iou()
    return metrics


def _measure(sweep: Sweep | None, measures: Mapping[str, Callable[[Sweep], float]]) -> Metrics:
    return {name: None if sweep is None else measure(sweep) for name, measure in measures.items()}
