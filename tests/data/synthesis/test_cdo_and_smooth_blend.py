"""CDO rectangles and SmoothBlend (G24 and G25 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from anoframe.data.synthesis.base import Context, item_rng
from anoframe.data.synthesis.boxes import Box
from anoframe.data.synthesis.cdo import CDO, background_mask, draw_boxes
from anoframe.data.synthesis.smooth_blend import SmoothBlend, blend_patch, cut_patch


def test_number_coverage_and_size_of_boxes():
    rng = np.random.default_rng(0)
    shares, empty = [], 0
    for _ in range(4000):
        boxes = draw_boxes(rng, 1024, int(rng.integers(5)))
        empty += not boxes
        canvas = np.zeros((256, 256), bool)
        for box in boxes:
            assert box.clipped((1024, 1024)) == box
            assert all(side % 2 == 0 and 50 <= side <= 202 for side in box[2:])
            canvas[box.top // 4 : (box.top + box.height) // 4, box.left // 4 : (box.left + box.width) // 4] = True
        shares.append(canvas.mean())
    assert empty / 4000 == pytest.approx(0.20, abs=0.02)
    assert np.mean(shares) == pytest.approx(0.030, abs=0.003)
    assert max(shares) < 0.13


@pytest.mark.parametrize("version", [2025, 2023])
def test_a_fifth_of_the_images_is_unchanged(version):
    image = np.full((64, 64, 3), 120, np.uint8)
    results = [CDO(version).generate(image, item_rng(0, 0, i)) for i in range(250)]
    assert np.mean([not result.has_anomaly for result in results]) == pytest.approx(0.2, abs=0.07)
    counts = {len(result.meta["boxes"]) for result in results}
    assert counts == {0, 1, 2, 3, 4}


def test_at_the_size_of_the_canvas_pixels_are_replaced_by_noise():
    image = np.full((256, 256, 3), 255, np.uint8)  # noise is at most 254
    for number in range(6):
        result = CDO(2023).generate(image, item_rng(0, 0, number))
        expected = np.zeros((256, 256), bool)
        for box in result.meta["boxes"]:
            assert all(side % 2 == 0 and 12 <= side <= 48 for side in box[2:])
            expected[box.slices] = True
        assert np.array_equal(result.mask, expected)
        noise = result.image[expected].astype(int)
        if expected.any():
            assert noise.max() <= 254
            assert noise.mean() == pytest.approx(127, abs=4)
            assert noise.std() == pytest.approx(73.6, abs=3)


def test_smaller_images_get_the_averaged_noise():
    image = np.full((256, 256, 3), 120, np.uint8)
    result = CDO().as_negative().generate(image, item_rng(0, 0, 0))
    inside = np.zeros((256, 256), bool)
    for box in result.meta["boxes"]:  # in pixels of the canvas, 4 of which are one of the image
        rows = slice(-(-box.top // 4) + 1, (box.top + box.height) // 4 - 1)
        inside[rows, -(-box.left // 4) + 1 : (box.left + box.width) // 4 - 1] = True
    assert result.mask[inside].all()
    assert inside.sum() <= result.mask.sum() <= 1.6 * inside.sum()
    noise = result.image[inside].astype(float)
    assert noise.mean() == pytest.approx(127, abs=3)
    assert 10 < noise.std() < 30  # bilinear antialiasing over about 4 x 4 pixels of standard deviation 73


def test_partly_covered_pixels_are_blended():
    image = np.full((256, 256, 3), 255, np.uint8)
    result = CDO().as_negative().generate(image, item_rng(0, 0, 3))
    border = result.mask & ~binary_erosion(result.mask, iterations=1)
    assert result.image[border].mean() > result.image[binary_erosion(result.mask, iterations=4)].mean() + 40


def test_boxes_avoid_the_background_of_seven_categories():
    image = np.full((256, 256, 3), 250, np.uint8)
    image[80:180, 80:180] = 120
    background = background_mask(image)
    assert np.flatnonzero(~background[:, 128])[[0, -1]].tolist() == [89, 170]  # 9 pixels inside of the object
    assert np.flatnonzero(~background[128])[[0, -1]].tolist() == [89, 170]
    for number in range(40):
        result = CDO(2023).generate(image, item_rng(0, 0, number), Context("bottle"))
        for box in result.meta["boxes"]:
            assert not background[box.top + box.height // 2, box.left + box.width // 2]
    anywhere = [CDO(2023).generate(image, item_rng(0, 0, i), Context("cable")) for i in range(40)]
    assert any(background[b.top + b.height // 2, b.left + b.width // 2] for r in anywhere for b in r.meta["boxes"])


def test_an_image_of_background_only_stays_unchanged():
    image = np.full((64, 64, 3), 250, np.uint8)
    for number in range(5):
        assert not CDO(2023).generate(image, item_rng(0, 0, number), Context("pill")).has_anomaly


# --------------------------------------------------------------------------------------------- SmoothBlend


def test_area_and_alpha(texture_256):
    for number in range(200):
        result = SmoothBlend().generate(texture_256, item_rng(0, 0, number))
        target, alpha = result.meta["target"], result.label
        assert 0.0045 <= target.area / 256**2 <= 0.0105
        assert 0.25 <= target.width / target.height <= 4
        assert alpha.min() >= 0
        assert alpha.max() <= 1
        assert np.array_equal(result.mask, alpha > 0)
        margin = int(3 * result.meta["sigma"] + 0.5)
        outer = Box(target.top - margin, target.left - margin, target.height + 2 * margin, target.width + 2 * margin)
        if outer.clipped((255, 255)) == outer and min(outer[:2]) > 0:
            assert not alpha[[0, -1]].any()
            assert not alpha[:, [0, -1]].any()
        assert not alpha[~outer.clipped((256, 256)).mask((256, 256))].any()
        assert np.array_equal(result.image[alpha == 0], texture_256[alpha == 0])


def test_alpha_is_soft_and_symmetric():
    image, patch = np.zeros((64, 64, 3), np.uint8), np.full((20 + 12, 20 + 12, 3), 200, np.uint8)
    edited, alpha = blend_patch(image, patch, Box(22, 22, 20, 20), margin=6, sigma=2.0)
    assert alpha[32, 32] == pytest.approx(1, abs=1e-3)
    assert alpha[32, 22] == pytest.approx(0.6, abs=0.03)  # the border is half a pixel outside of the first pixel
    assert alpha[32, 21] == pytest.approx(0.4, abs=0.03)
    assert np.allclose(alpha, alpha[::-1, ::-1])
    assert np.array_equal(edited[..., 0], np.rint(200 * alpha))


def test_a_patch_at_the_border_is_cut_off(texture_256):
    patch = cut_patch(texture_256, Box(0, 250, 10, 6), 4)
    assert patch.shape == (18, 14, 3)
    assert np.array_equal(patch[4:14, 4:10], texture_256[0:10, 250:256])
    assert np.array_equal(patch[0, 4:10], texture_256[0, 250:256])  # border pixels are repeated
    _, alpha = blend_patch(texture_256, patch, Box(0, 0, 10, 6), 4, 1.0)
    assert alpha[:14, :10].any()
    assert not alpha[14:].any()


def test_the_same_place_without_jitter_changes_nothing(texture_256):
    box = Box(30, 40, 12, 20)
    edited, _ = blend_patch(texture_256, cut_patch(texture_256, box, 5), box, 5, 1.7)
    assert np.array_equal(edited, texture_256)


def test_the_older_form_has_a_hard_border_and_a_blurred_patch(texture_256):
    result = SmoothBlend(legacy_blur=8.0, jitter=0.0).generate(texture_256, item_rng(0, 0, 0))
    source, target = (result.meta[name].slices for name in ("source", "target"))
    assert np.array_equal(result.mask, result.meta["target"].mask((256, 256)))
    assert set(np.unique(result.label)) == {0, 1}
    assert result.image[target].std() < 0.5 * texture_256[source].std()
