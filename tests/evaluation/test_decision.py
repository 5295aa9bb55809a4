"""Thresholds from held-back images, and their false-positive rate on new images."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.evaluation.decision import estimate_threshold, is_defect, upper_bound


@pytest.mark.parametrize(("rate", "largest_below"), [(0.5, 3.0), (0.2, 4.0), (0.01, 4.0)])
def test_bound_is_just_above_the_value_of_its_rank(rate, largest_below):
    bound = upper_bound([4.0, 1.0, 3.0, 2.0], rate)
    assert largest_below < bound < largest_below + 1e-5


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_new_normal_scores_exceed_the_bound_at_the_requested_rate(rate):
    rng = np.random.default_rng(0)
    bounds = np.array([upper_bound(rng.lognormal(size=99).astype(np.float32).tolist(), rate) for _ in range(2000)])
    exceeding = np.mean(rng.lognormal(size=2000) >= bounds)
    assert exceeding == pytest.approx(rate, abs=0.02)


def test_no_held_back_image_is_a_defect_if_there_are_few():
    scores = np.float32([0.1, 0.7, 0.3])
    assert not is_defect(scores, estimate_threshold(scores.tolist(), scores.tolist(), 0.01).image).any()


def test_score_equal_to_the_threshold_is_a_defect():
    assert is_defect(np.float32([0.1, 0.09]), 0.1).tolist() == [True, False]


def test_a_number_read_from_a_file_is_decided_like_the_score_it_was_written_from():
    score = np.float32(0.7)  # below 0.7 in double precision
    assert is_defect(float(score), 0.7) == is_defect(score, 0.7)
