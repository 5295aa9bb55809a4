"""Detection of images whose class was never trained on, from a confidence per image.

The positive class is "known": an image of a trained class should have a higher confidence than one of a class that is
still to come. Source of the evaluation: Jha, Gong & Yao, CLAP4CLIP, NeurIPS 2024, section 4.4 (post-hoc novel data
detection), after Hendrycks & Gimpel, ICLR 2017.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from anoframe.metrics.array_checks import as_scores
from anoframe.metrics.auroc import auroc
from anoframe.metrics.average_precision import average_precision

NOVELTY = ("auroc", "aupr", "fpr95")
TRUE_POSITIVE_RATE = 0.95  # of FPR95


def novelty_metrics(id_confidence: ArrayLike, ood_confidence: ArrayLike) -> dict[str, float | None]:
    """Compute AUROC, AUPR (of the known images) and FPR95; all None if one of the two sets is empty.

    Args:
        id_confidence: `[N]`, of images of trained classes; higher is more familiar.
        ood_confidence: `[M]`, of images of other classes.

    Raises:
        ValueError: NaN, or an array that is not one-dimensional.

    >>> novelty_metrics([2.0, 3.0], [0.0, 1.0])
    {'auroc': 1.0, 'aupr': 1.0, 'fpr95': 0.0}
    """
    known, novel = _as_vector(id_confidence), _as_vector(ood_confidence)
    labels = np.repeat([True, False], [len(known), len(novel)])
    scores = np.concatenate([known, novel])
    if not len(known) or not len(novel):
        return dict.fromkeys(NOVELTY)
    rate = fpr_at_tpr(known, novel)
    return {"auroc": auroc(labels, scores), "aupr": average_precision(labels, scores), "fpr95": rate}


def fpr_at_tpr(id_confidence: ArrayLike, ood_confidence: ArrayLike, rate: float = TRUE_POSITIVE_RATE) -> float:
    """Share of novel images that are taken for known ones when at least `rate` of the known images are.

    The threshold is the largest confidence that keeps this share of the known images; a tie with it counts as known.

    >>> fpr_at_tpr([1.0, 2.0, 3.0, 4.0], [0.5, 2.5], rate=0.75)
    0.5
    """
    known, novel = _as_vector(id_confidence), _as_vector(ood_confidence)
    least = int(np.ceil(rate * len(known) - 1e-9))  # 0.95 * 20 is 19, whatever its last digit
    threshold = np.sort(known)[len(known) - least]
    return float(np.mean(novel >= threshold))


def _as_vector(values: ArrayLike) -> np.ndarray:
    array = np.asarray(as_scores(values))
    if array.ndim != 1:
        raise ValueError(f"confidences must be one-dimensional; got shape {list(array.shape)}")
    return array
