"""Metrics of each defect type of a category: the good images together with the defects of that type."""

from __future__ import annotations

import numpy as np

from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics.array_checks import as_maps, as_pair
from anoframe.metrics.aupro import STANDARD_LIMIT
from anoframe.metrics.category_metrics import Metrics
from anoframe.metrics.threshold_sweep import Sweep, sweep_pixels, sweep_threshold

NAMES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
MOST_PIXELS = 200_000_000  # of all types together: sorting more takes longer than the prediction


def metrics_by_defect(predictions: CategoryPredictions) -> dict[str, Metrics]:
    """Compute image AUROC, pixel AUROC, pixel AP and AUPRO of each defect type; empty without a defect.

    Pixel metrics are None for a method without maps, for a type that lacks a mask, and in test sets so large that they
    would take longer than the prediction (`MOST_PIXELS`).
    """
    types = sorted({sample.defect for sample in predictions.samples if sample.is_defect})
    good = ~predictions.labels
    rows = {name: good | np.array([sample.defect == name for sample in predictions.samples], bool) for name in types}
    pixels = sum(int(chosen.sum()) for chosen in rows.values()) * int(np.prod(predictions.masks.shape[1:]))
    return {name: _metrics(predictions, chosen, pixels <= MOST_PIXELS) for name, chosen in rows.items()}


def _metrics(predictions: CategoryPredictions, chosen: np.ndarray, with_pixels: bool) -> Metrics:
    """Compute the metrics of the images in `chosen`, `[n]` bool."""
    if chosen.all():  # the only defect type: the sweeps are those of the category
        return _values(predictions.image_sweep, predictions.pixel_sweep if with_pixels else None)
    images = sweep_threshold(*as_pair(predictions.labels[chosen], predictions.scores[chosen]))
    samples = [sample for sample, is_chosen in zip(predictions.samples, chosen, strict=True) if is_chosen]
    has_masks = all(sample.mask is not None for sample in samples if sample.is_defect)
    pixels: Sweep | None = None
    if with_pixels and has_masks and predictions.maps is not None:
        counted = None if predictions.counted is None else predictions.counted[chosen]
        pixels = sweep_pixels(*as_maps(predictions.masks[chosen], predictions.maps[chosen]), counted)
    return _values(images, pixels)


def _values(images: Sweep | None, pixels: Sweep | None) -> Metrics:
    return {
        "image_auroc": None if images is None else images.auroc(),
        "pixel_auroc": None if pixels is None else pixels.auroc(),
        "pixel_ap": None if pixels is None else pixels.average_precision(),
        "aupro": None if pixels is None else pixels.aupro(STANDARD_LIMIT),
    }
