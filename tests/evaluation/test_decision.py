"""Thresholds from held-back images, and their false-positive rate on new images."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import (
    HeldBack,
    Threshold,
    ThresholdOptions,
    choose_threshold,
    estimate_threshold,
    is_defect,
    rate_remark,
    upper_bound,
)


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


# ------------------------------------------------------------------------------------------------ chosen by the user

STORED = Threshold(3.0, 30.0, 0.01, 4)
HELD_BACK = HeldBack((1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0))


def choose(stored=STORED, held_back=HELD_BACK, **asked):
    return choose_threshold(stored, held_back, ThresholdOptions(**asked), "runs/a")


def test_without_options_the_stored_threshold_is_kept():
    assert choose() is STORED
    assert choose(stored=None) is None


def test_another_rate_is_estimated_on_the_held_back_scores():
    assert choose(false_positive_rate=0.5) == estimate_threshold(HELD_BACK.scores, HELD_BACK.peaks, 0.5)


def test_value_replaces_the_image_threshold_and_keeps_that_of_pixels():
    assert choose(value=7.0) == Threshold(7.0, 30.0, None, 0, ("image",))


def test_pixel_value_replaces_the_pixel_threshold_alone():
    assert choose(pixel_value=7.0) == Threshold(3.0, 7.0, 0.01, 4, ("pixel",))


def test_rate_and_pixel_value_go_together():
    chosen = choose(false_positive_rate=0.5, pixel_value=7.0)
    assert (chosen.image, chosen.pixel) == (upper_bound(HELD_BACK.scores, 0.5), 7.0)


def test_values_need_no_held_back_scores():
    assert choose(None, None, value=7.0, pixel_value=8.0) == Threshold(7.0, 8.0, None, 0, ("image", "pixel"))
    assert choose(None, None, value=7.0).pixel is None


@pytest.mark.parametrize("held_back", [None, HeldBack(())])
def test_rate_without_held_back_scores_is_an_error_with_a_way_out(held_back):
    with pytest.raises(AnoframeError, match=r"runs/a has no scores of held-back.*--threshold\.value"):
        choose(held_back=held_back, false_positive_rate=0.1)


def test_pixel_value_without_any_image_threshold_is_an_error():
    with pytest.raises(AnoframeError, match=r"no threshold for images.*add --threshold\.value"):
        choose(None, None, pixel_value=1.0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"false_positive_rate": 0.0}, r"share in \(0, 1\), got 0.0"),
        ({"false_positive_rate": 1}, r"share in \(0, 1\), got 1"),
        ({"value": float("nan")}, "threshold.value takes a number, got nan"),
        ({"pixel_value": "3"}, "threshold.pixel_value takes a number, got '3'"),
        ({"value": 1.0, "false_positive_rate": 0.1}, "give one of them"),
    ],
)
def test_wrong_options_are_refused(asked, message):
    with pytest.raises(AnoframeError, match=message):
        ThresholdOptions(**asked)


def test_values_that_were_not_given_leave_no_trace_in_a_file():
    assert STORED.to_json() == {"image": 3.0, "pixel": 30.0, "false_positive_rate": 0.01, "images": 4}
    assert choose(value=7.0).to_json()["given"] == ["image"]


@pytest.mark.parametrize(("images", "rate", "has_remark"), [(99, 0.01, False), (98, 0.01, True), (4, 0.2, False)])
def test_rate_that_the_images_cannot_support_has_a_remark(images, rate, has_remark):
    remark = rate_remark(Threshold(1.0, None, rate, images))
    assert bool(remark) is has_remark
    if has_remark:
        assert f"below {1 / (images + 1):.2g}" in remark


def test_given_values_have_no_remark():
    assert rate_remark(choose(value=7.0)) == rate_remark(None) == ""
