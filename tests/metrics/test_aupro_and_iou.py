"""AUPRO, the PRO curve, PRO per image and IoU-max."""

import naive_metrics as naive
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anoframe.metrics import aupro, auroc, iou_max, pro_curve, pro_per_image

examples = settings(max_examples=30, deadline=None)


@st.composite
def tied_maps(draw):
    """A few small masks with both classes, and maps with many ties."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    masks = draw(arrays(bool, shape))
    assume(masks.any() and not masks.all())
    return masks, draw(arrays(np.int64, shape, elements=st.integers(0, 6)))


def random_case(seed):
    """Squares in half of twelve images, and maps that detect them partly."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((12, 16, 16), dtype=bool)
    for mask, (y, x), size in zip(masks[:6], rng.integers(0, 12, (6, 2)), rng.integers(1, 6, 6), strict=True):
        mask[y : y + size, x : x + size] = True
    return masks, rng.normal(masks * 1.0, 1.0).astype(np.float32)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@examples
@given(case=tied_maps())
def test_aupro_equals_the_naive_definition(case, limit):
    masks, maps = case
    assert aupro(masks, maps, limit) == pytest.approx(naive.aupro(masks, maps, limit), abs=1e-12)


@examples
@given(case=tied_maps())
def test_iou_max_equals_the_naive_definition(case):
    masks, maps = case
    assert iou_max(masks, maps) == pytest.approx(naive.iou_max(masks, maps), abs=1e-12)


@examples
@given(case=tied_maps(), scale=st.sampled_from([1, 7, 40]))
def test_pro_per_image_equals_the_naive_definition(case, scale):
    masks, maps = case
    maps = maps * scale + np.arange(maps.size).reshape(maps.shape) % scale  # fewer ties with a larger scale
    expected = naive.pro_per_image(masks, maps)
    assert pro_per_image(masks, maps) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@examples
@given(case=tied_maps())
def test_pro_curve_contains_every_point_of_the_naive_definition(case):
    masks, maps = case
    curve = pro_curve(masks, maps)
    for x, y in naive.pro_points(masks, maps):
        same_x = np.isclose(curve.fpr, x)
        on_step = same_x.any() and curve.tpr[same_x].min() - 1e-12 <= y <= curve.tpr[same_x].max() + 1e-12
        assert on_step or np.interp(x, curve.fpr, curve.tpr) == pytest.approx(y)


def test_aupro_by_hand():
    # two regions, of two pixels and of one pixel; five normal pixels, one with the score of a pixel of the first region
    mask = [[[1, 1, 0, 1, 0, 0, 0, 0]]]
    scores = [[[0.9, 0.4, 0.7, 0.6, 0.5, 0.4, 0.1, 0.1]]]
    # fpr 0 to 0.2: overlap 1/4; 0.2 to 0.4: 3/4; 0.4 to 0.6: a straight line from 3/4 to 1, cut at 0.5
    expected_area = 0.2 * 0.25 + 0.2 * 0.75 + 0.1 * (0.75 + 0.875) / 2
    assert aupro(mask, scores, limit=0.5) == pytest.approx(expected_area / 0.5)


def test_perfect_map_has_aupro_one():
    masks, _ = random_case(0)
    assert aupro(masks, masks.astype(np.float32)) == 1.0


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_of_a_constant_map_is_half_of_the_limit(limit):
    masks, maps = random_case(0)
    assert aupro(masks, np.zeros_like(maps), limit) == pytest.approx(limit / 2)


def test_pixels_that_touch_at_a_corner_are_one_region():
    # 8-connected: regions of 2 and 1 pixels, and half of one region is detected; 4-connected: one of three regions
    mask = [[[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]]
    scores = [[[9, 5, 5, 5], [5, 0, 5, 0], [5, 5, 5, 5]]]
    assert aupro(mask, scores) == pytest.approx(1 / 4)


def test_pixels_of_two_images_are_separate_regions():
    mask = [[[1, 0, 0, 0]], [[1, 1, 0, 0]]]
    scores = [[[9, 5, 5, 5]], [[0, 0, 5, 5]]]
    assert aupro(mask, scores) == pytest.approx(1 / 2)


def test_small_and_large_regions_have_the_same_weight():
    mask = [[[1, 0, 1, 1, 1, 0]]]
    small_detected, large_detected = [[[9, 5, 0, 0, 0, 5]]], [[[0, 5, 9, 9, 9, 5]]]
    assert aupro(mask, small_detected) == pytest.approx(aupro(mask, large_detected))


def test_false_alarms_on_normal_images_count():
    masks, maps = random_case(1)
    noisy = np.where(masks.any(axis=(1, 2), keepdims=True), maps, 9)
    assert aupro(masks, noisy) < aupro(masks, maps)


def test_aupro_of_one_region_up_to_one_equals_the_auroc():
    masks, maps = random_case(2)
    mask, scores = masks[:1], maps[:1]
    assert aupro(mask, scores, limit=1.0) == pytest.approx(auroc(mask, scores), abs=1e-12)


def test_pro_per_image_by_hand():
    # two regions of one pixel each; ten normal pixels. Above 0.5: one region, no false alarm; above 0.25: one false
    # alarm; above 0.1: the second region; below that: the second false alarm
    mask = [[[1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]
    scores = [[[1.0, 0.5, 0.25, 0.1, 0, 0, 0, 0, 0, 0, 0, 0]]]
    assert pro_per_image(mask, scores) == pytest.approx((0.1 * 0.5 + 0.1 * 1) / 0.2)


def test_pro_per_image_ends_below_the_limit():
    # above 0.5: half of the region, no false alarm; below: the whole region, and three of ten normal pixels
    mask = [[[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]
    scores = [[[1.0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]]]
    assert pro_per_image(mask, scores) == 0.5, "a false-positive rate of exactly 0.3 does not count"


def test_pro_per_image_with_one_of_two_regions_missed_is_half():
    mask = [[[1, 1, 0, 1, 0, 0]]]
    assert pro_per_image(mask, [[[1, 1, 0, 0, 0, 0]]]) == 0.5


def test_perfect_map_has_pro_per_image_one():
    masks, _ = random_case(0)
    assert pro_per_image(masks, masks.astype(np.float32)) == 1.0


def test_constant_map_has_pro_per_image_zero():
    masks, maps = random_case(0)
    assert pro_per_image(masks, np.full_like(maps, 0.7)) == 0.0


def test_pro_per_image_is_the_mean_over_anomalous_images():
    masks, maps = random_case(1)
    single = [pro_per_image(masks[i : i + 1], maps[i : i + 1]) for i in range(6)]
    assert pro_per_image(masks, maps) == pytest.approx(np.mean(single))


def test_normal_images_do_not_count_in_pro_per_image():
    masks, maps = random_case(1)
    assert pro_per_image(masks[:6], maps[:6]) == pro_per_image(masks, maps)


def test_pro_per_image_does_not_depend_on_the_scale_of_an_image():
    masks, maps = random_case(3)
    factors = 2.0 ** np.arange(len(maps))[:, None, None]
    assert pro_per_image(masks, factors * maps.astype(np.float64)) == pro_per_image(masks, maps)


def test_pro_per_image_with_an_infinite_score_is_not_available():
    masks, maps = random_case(3)
    maps[2, 0, 0] = np.inf
    assert pro_per_image(masks, maps) is None


@pytest.mark.parametrize("metric", [aupro, iou_max])
def test_metric_is_invariant_to_increasing_transforms(metric):
    masks, maps = random_case(3)
    transformed = np.exp(3 * maps.astype(np.float64)) + 40
    assert metric(masks, transformed) == pytest.approx(metric(masks, maps), abs=1e-12)


@pytest.mark.parametrize("metric", [aupro, iou_max, pro_per_image])
def test_order_of_images_does_not_matter(metric):
    masks, maps = random_case(4)
    order = np.random.default_rng(4).permutation(len(masks))
    assert metric(masks[order], maps[order]) == pytest.approx(metric(masks, maps), abs=1e-12)


@pytest.mark.parametrize("metric", [aupro, iou_max, pro_curve, pro_per_image])
@pytest.mark.parametrize("masks", [np.zeros((2, 3, 3)), np.ones((2, 3, 3)), np.zeros((0, 3, 3))])
def test_single_class_is_not_available(metric, masks):
    assert metric(masks, np.zeros(masks.shape)) is None


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_limit_outside_its_range_is_an_error(limit):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]; got"):
        aupro(*random_case(6), limit=limit)


@pytest.mark.parametrize("metric", [aupro, iou_max, pro_curve, pro_per_image])
def test_channel_axis_is_an_error(metric):
    masks, maps = random_case(7)
    with pytest.raises(ValueError, match=r"must be \[n, H, W\]; got \(12, 1, 16, 16\)"):
        metric(masks[:, None], maps[:, None])


@pytest.mark.parametrize("metric", [aupro, iou_max, pro_curve, pro_per_image])
def test_nan_is_an_error_with_its_index(metric):
    masks, maps = random_case(8)
    maps[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match=r"1 NaN among 3072 values, the first at index \(3, 4, 5\)"):
        metric(masks, maps)


def test_mask_values_of_255_are_an_error():
    masks, maps = random_case(9)
    with pytest.raises(ValueError, match="the first is 255"):
        aupro(masks.astype(np.uint8) * 255, maps)


def test_float32_and_float64_of_the_same_values_agree():
    masks, maps = random_case(10)
    assert aupro(masks, maps) == pytest.approx(aupro(masks, maps.astype(np.float64)), abs=1e-12)
