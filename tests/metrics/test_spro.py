"""Saturated per-region overlap: against a naive definition, and its properties."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.metrics import aupro, auspro, spro_curve


def naive_auspro(regions, maps, limit):
    """Evaluate the definition at every distinct score: mean of min(hits / saturation area, 1), over the FPR."""
    defect = np.zeros(maps.shape, bool)
    for image, image_regions in enumerate(regions):
        for mask, _ in image_regions:
            defect[image] |= mask
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        decided = maps >= threshold
        overlaps = [
            min(np.sum(decided[image] & mask) / min(area, mask.sum()), 1.0)
            for image, image_regions in enumerate(regions)
            for mask, area in image_regions
        ]
        points.append((np.sum(decided & ~defect) / np.sum(~defect), np.mean(overlaps)))
    x, y = np.array(points).T
    inside = x <= limit
    x_end, y_end = np.append(x[inside], limit), np.append(y[inside], 0.0)
    if inside.all():
        y_end[-1] = y[-1]
    else:
        after = np.argmin(inside)
        share = (limit - x[after - 1]) / (x[after] - x[after - 1])
        y_end[-1] = y[after - 1] + share * (y[after] - y[after - 1])
    return np.trapezoid(y_end, x_end) / limit


def random_case(seed, ties):
    """Three images with none to three overlapping regions, of absolute and of cut saturation areas."""
    rng = np.random.default_rng(seed)
    maps = rng.random((3, 8, 9)) if not ties else rng.integers(0, 6, (3, 8, 9)).astype(np.float32)
    regions = []
    for count in rng.permutation([0, 1, 3]):
        masks = []
        for _ in range(count):
            top, left = rng.integers(0, 5, 2)
            mask = np.zeros((8, 9), bool)
            mask[top : top + rng.integers(1, 4), left : left + rng.integers(1, 5)] = True
            masks.append((mask, float(rng.choice([1, 2.5, 4, 100]))))
        regions.append(masks)
    return regions, maps


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_auspro_is_its_definition(seed, ties, limit):
    regions, maps = random_case(seed, ties)
    assert auspro(regions, maps, limit) == pytest.approx(naive_auspro(regions, maps, limit), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_saturation_at_the_area_of_each_region_is_aupro(seed):
    rng = np.random.default_rng(seed)
    maps, masks = rng.random((2, 12, 12)), np.zeros((2, 12, 12), bool)
    masks[0, 1:4, 1:4] = masks[0, 7:9, 6:11] = True  # two regions that do not touch
    one, other = masks[0].copy(), masks[0].copy()
    one[6:], other[:6] = False, False
    regions = [[(one, one.sum()), (other, other.sum())], []]
    assert auspro(regions, maps, 0.3) == pytest.approx(aupro(masks, maps, 0.3), abs=1e-12)


def test_half_of_a_region_is_enough_at_a_saturation_of_half():
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    scores = np.zeros((1, 4, 4))
    scores[0, 0] = 1
    assert auspro([[(mask, 4)]], scores) == pytest.approx(1.0)
    assert auspro([[(mask, 8)]], scores, 1.0) == pytest.approx(0.75)  # half at once, the rest with all normal pixels


def test_constant_map_has_half_of_the_limit():
    mask = np.eye(4, dtype=bool)
    assert auspro([[(mask, 4)]], np.zeros((1, 4, 4)), 0.3) == pytest.approx(0.15)


def test_small_saturation_never_lowers_the_value():
    regions, maps = random_case(1, False)
    saturated = [[(mask, 1.0) for mask, _ in image] for image in regions]
    assert auspro(saturated, maps) >= auspro(regions, maps)


def test_curve_ends_at_one():
    curve = spro_curve(*random_case(2, False))
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1]) == (0, 0, 1)
    assert curve.tpr[-1] == pytest.approx(1)
    assert (np.diff(curve.tpr) >= 0).all()


def test_without_a_region_or_a_normal_pixel_it_is_not_available():
    maps = np.arange(4.0).reshape(1, 2, 2)
    assert auspro([[]], maps) is None
    assert auspro([[(np.ones((2, 2), bool), 1)]], maps) is None
    assert auspro([], np.empty((0, 2, 2))) is None


@pytest.mark.parametrize(
    ("regions", "limit", "message"),
    [
        ([[(np.ones((2, 3), bool), 1)]], 0.3, "shape of its map"),
        ([[(np.zeros((2, 2), bool), 1)]], 0.3, "at least one pixel"),
        ([[(np.eye(2, dtype=bool), 0)]], 0.3, "must be positive"),
        ([[(np.eye(2, dtype=bool), np.nan)]], 0.3, "must be positive"),
        ([[(2 * np.eye(2), 1)]], 0.3, "must be 0 or 1"),
        ([[], []], 0.3, "one for each of 2 images"),
        ([[(np.eye(2, dtype=bool), 1)]], 0.0, "limit"),
    ],
)
def test_invalid_input_is_refused(regions, limit, message):
    with pytest.raises(ValueError, match=message):
        auspro(regions, np.zeros((1, 2, 2)), limit)
