"""Evaluator of anomaly detectors: metrics of one category from its predictions."""

from __future__ import annotations

from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.evaluation.results import Metrics, category_metrics


class AnomalyEvaluator:
    """Image and pixel metrics of the catalogue.

    Args:
        aupro_limits: false-positive rates of further AUPROs.
        pixel_thresholds: values of the anomaly map, for metrics at fixed thresholds.
    """

    def __init__(self, aupro_limits: tuple[float, ...] = (), pixel_thresholds: tuple[float, ...] = ()):
        self.aupro_limits, self.pixel_thresholds = aupro_limits, pixel_thresholds

    def measure(self, predictions: CategoryPredictions) -> Metrics:
        """Compute the metrics of a category; None is "not available"."""
        return category_metrics(predictions, self.aupro_limits, self.pixel_thresholds)
