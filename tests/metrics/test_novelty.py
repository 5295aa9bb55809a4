"""Detection of novel classes: polarity, brute force, and what is not available."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.metrics.novelty import NOVELTY, fpr_at_tpr, novelty_metrics


def test_known_images_with_larger_confidence_are_separated_perfectly():  # C17
    assert novelty_metrics([5.0, 6.0, 7.0], [1.0, 2.0]) == {"auroc": 1.0, "aupr": 1.0, "fpr95": 0.0}
    swapped = novelty_metrics([1.0, 2.0], [5.0, 6.0, 7.0])
    assert (swapped["auroc"], swapped["fpr95"]) == (0.0, 1.0)


def test_equal_confidences_are_chance():
    assert novelty_metrics([1.0] * 4, [1.0] * 6) == {"auroc": 0.5, "aupr": 0.4, "fpr95": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_against_counting(seed):
    rng = np.random.default_rng(seed)
    known, novel = np.round(rng.normal(1, 1, 37), 1), np.round(rng.normal(0, 1, 23), 1)  # rounded: there are ties
    metrics = novelty_metrics(known, novel)
    wins = (known[:, None] > novel[None]).mean() + 0.5 * (known[:, None] == novel[None]).mean()
    assert metrics["auroc"] == pytest.approx(wins)
    rates = [(novel >= t).mean() for t in known if (known >= t).mean() >= 0.95]
    assert metrics["fpr95"] == pytest.approx(min(rates))


def test_the_share_of_known_images_is_reached_exactly():
    known = np.arange(20.0)  # 95 % are 19 images: the threshold is 1
    assert fpr_at_tpr(known, [0.5, 1.0, 1.5, 2.5]) == 0.75


@pytest.mark.parametrize(("known", "novel"), [([], [1.0]), ([1.0], [])])
def test_one_empty_set_is_not_available(known, novel):
    assert novelty_metrics(known, novel) == dict.fromkeys(NOVELTY)


def test_wrong_arrays_are_errors():
    with pytest.raises(ValueError, match="NaN"):
        novelty_metrics([float("nan")], [1.0])
    with pytest.raises(ValueError, match="one-dimensional"):
        novelty_metrics([[1.0]], [1.0])
