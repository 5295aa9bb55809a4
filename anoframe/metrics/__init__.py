"""Metrics of anomaly detection: functions on arrays. docs/metrics.md defines each metric.

The functions `aupro`, `auroc` and `average_precision` have the names of their modules: after
`from anoframe.metrics import aupro` the name is the function.
"""

from anoframe.metrics.aupro import aupro, pro_curve, pro_per_image
from anoframe.metrics.auroc import auroc, roc_curve
from anoframe.metrics.average_precision import average_precision, pr_curve
from anoframe.metrics.category_metrics import image_metrics, pixel_metrics
from anoframe.metrics.f1 import accuracy_at, f1_at, f1_max
from anoframe.metrics.iou import iou_at, iou_max
from anoframe.metrics.spro import auspro, spro_curve

__all__ = [
    "accuracy_at",
    "aupro",
    "auroc",
    "auspro",
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
    "spro_curve",
]
