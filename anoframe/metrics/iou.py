"""Intersection over union: its maximum over all thresholds, and IoU at a given threshold.

Arguments, errors and memory: as in `aupro` for `iou_max`, as in `decisions` for a given threshold.
None means "not available": one class is missing (`iou_max`), or no positive (`iou_at`).
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_maps
from anoframe.metrics.decisions import count_decisions
from anoframe.metrics.threshold_sweep import sweep_threshold


def iou_max(masks: ArrayLike, maps: ArrayLike) -> float | None:
    """Maximum IoU of the anomalous pixels of all images together over all thresholds, in (0, 1].

    An oracle: the threshold is chosen on the masks it is measured with. The threshold is that of the maximum pixel F1,
    because IoU = F1 / (2 - F1).
    Source: Zhang et al., "Learning Feature Inversion for Multi-class Anomaly Detection", arXiv:2404.10760 (mIoU-max).

    >>> iou_max([[[1, 1, 0, 0]]], [[[0.9, 0.4, 0.5, 0.1]]])
    0.6666666666666666
    """
    sweep = sweep_threshold(*as_maps(masks, maps))
    return None if sweep is None else sweep.iou_max()


def iou_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """IoU of decided and true positives at a threshold, over all samples together, in [0, 1].

    >>> iou_at([0, 0, 1, 1], [30.0, 50.0, 40.0, 60.0], threshold=40.0)
    0.6666666666666666
    """
    return count_decisions(labels, scores, threshold).iou()
