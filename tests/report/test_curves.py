"""Curves of a category: thinned, and with the area of their metric."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.metrics import aupro, auroc, average_precision
from anoframe.metrics.threshold_sweep import sweep_pixels, sweep_threshold
from anoframe.report.curves import MAX_POINTS, category_curves, thin

NAMES = ("roc", "pr", "pro", "pixel_roc", "pixel_pr")


def area(curve, limit=1.0):
    """Area under the straight lines of a curve, up to a limit of x."""
    x, y = np.array(curve["x"]), np.array(curve["y"])
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return np.diff(x) @ (y[1:] + y[:-1]) / 2


def example(seed, images=60, side=40, shift=1.0, decimals=None):
    """Labels, scores, masks and maps whose defects are `shift` standard deviations above the rest."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), bool)
    for mask in masks[: images // 2]:
        top, left = rng.integers(0, side - 12, 2)
        mask[top : top + rng.integers(2, 12), left : left + rng.integers(2, 12)] = True
    labels = masks.any((1, 2))
    scores, maps = rng.normal(shift * labels), rng.normal(shift * masks)
    if decimals is not None:
        scores, maps = scores.round(decimals), maps.round(decimals)
    return labels, scores, masks, maps.astype(np.float32)


def curves_of(labels, scores, masks, maps):
    return category_curves(sweep_threshold(labels, scores), sweep_pixels(masks, maps))


CASES = {
    "weak": example(0, shift=0.3),
    "fair": example(1, shift=1.5),
    "strong": example(2, shift=6.0),
    "below chance": example(3, shift=-1.0),
    "ties": example(4, decimals=0),
    "many images": example(5, images=4000, side=14),
    "few images": example(6, images=6),
    "large": example(7, images=40, side=200),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    return CASES[request.param], curves_of(*CASES[request.param])


@pytest.mark.parametrize("name", NAMES)
def test_curve_has_a_limited_number_of_points(case, name):
    assert len(case[1][name]["x"]) == len(case[1][name]["y"]) <= MAX_POINTS


@pytest.mark.parametrize("name", NAMES)
def test_curve_is_in_the_unit_square_and_x_rises(case, name):
    x, y = case[1][name]["x"], case[1][name]["y"]
    assert min(x + y) >= 0
    assert max(x + y) <= 1
    assert (np.diff(x) >= 0).all()


@pytest.mark.parametrize("name", ["roc", "pro", "pixel_roc"])
def test_curve_over_fpr_has_both_ends(case, name):
    curve = case[1][name]
    assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)


def test_area_under_a_thinned_curve_is_the_metric(case):
    (labels, scores, masks, maps), curves = case
    areas = {name: area(curves[name]) for name in ("roc", "pr", "pixel_roc", "pixel_pr")}
    exact = {
        "roc": auroc(labels, scores),
        "pr": average_precision(labels, scores),
        "pixel_roc": auroc(masks, maps),
        "pixel_pr": average_precision(masks, maps),
    }
    assert areas == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_area_under_the_thinned_pro_curve_is_aupro(case, limit):
    (_, _, masks, maps), curves = case
    assert area(curves["pro"], limit) / limit == pytest.approx(aupro(masks, maps, limit), abs=1e-3)


def test_single_class_has_no_curves():
    labels, scores, masks, maps = example(0)
    good = ~labels
    assert curves_of(labels[good], scores[good], masks[good], maps[good]) == dict.fromkeys(NAMES)


def test_without_masks_there_are_only_image_curves():
    labels, scores, _, _ = example(0)
    curves = category_curves(sweep_threshold(labels, scores), None)
    assert [name for name in NAMES if curves[name]] == ["roc", "pr"]


def test_thinning_keeps_corners():
    x = np.concatenate([np.zeros(500), np.linspace(0, 1, 500)])
    y = np.concatenate([np.linspace(0, 1, 500), np.ones(500)])
    kept = thin(x, y, 3)
    assert list(zip(x[kept], y[kept], strict=True)) == [(0, 0), (0, 1), (1, 1)]


def test_thinning_keeps_all_points_of_a_short_line():
    assert thin(np.arange(4.0), np.array([0.0, 1, 0, 1])).tolist() == [0, 1, 2, 3]
