"""Metrics of anomaly detection: plain functions on arrays. How each is defined: docs/metrics.md."""

from anoframe.metrics.families import image_metrics, pixel_metrics
from anoframe.metrics.localisation import aupro, iou_max, pro_curve, pro_per_image
from anoframe.metrics.ranking import auroc, average_precision, f1_max, pr_curve, roc_curve
from anoframe.metrics.thresholded import accuracy_at, f1_at, iou_at

__all__ = [
    "accuracy_at",
    "aupro",
    "auroc",
    "average_precision",
    "f1_at",
    "f1_max",
    "image_metrics",
    "iou_at",
    "iou_max",
    "pixel_metrics",
    "pr_curve",
    "pro_curve",
    "pro_per_image",
    "roc_curve",
]
