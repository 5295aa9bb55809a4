"""CutPaste: sizes, masks and the three views (G6 to G9 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.data.synthesis.base import item_rng
from anoframe.data.synthesis.boxes import Box, draw_size, place_box
from anoframe.data.synthesis.color import jitter_colors, shift_hue
from anoframe.data.synthesis.cutpaste import CutPaste
from anoframe.data.synthesis.cutpaste_patch import CutPastePatch, apply_mask_rule, paste_patch
from anoframe.data.synthesis.cutpaste_scar import CutPasteScar, rotate_patch


def test_area_and_aspect_of_rectangles():
    rng = np.random.default_rng(0)
    sizes = np.array([draw_size(rng, (256, 256), (0.02, 0.15), (0.3, 3.3)) for _ in range(20_000)])
    area, aspect = sizes.prod(axis=1) / 256**2, sizes[:, 1] / sizes[:, 0]
    assert area.min() >= 0.019
    assert area.max() <= 0.152
    assert aspect.min() >= 0.29
    assert aspect.max() <= 3.45
    assert area.mean() == pytest.approx(0.085, abs=0.003)
    assert np.median(aspect) == pytest.approx(np.sqrt(0.3 * 3.3), rel=0.03)  # log-uniform


def test_places_are_uniform_and_inside():
    rng = np.random.default_rng(0)
    boxes = [place_box(rng, 3, 5, (10, 8, 3)) for _ in range(4000)]
    assert {box.top for box in boxes} == set(range(8))
    assert {box.left for box in boxes} == set(range(4))
    assert np.bincount([box.top for box in boxes]).min() > 4000 / 8 * 0.8


def test_a_patch_pasted_at_its_own_place_changes_nothing(texture_256):
    box = Box(20, 30, 40, 50)
    patch = jitter_colors(texture_256[box.slices], item_rng(0, 0, 0), 0.0)
    assert np.array_equal(paste_patch(texture_256, patch, box), texture_256)


def test_masks_of_a_flat_image():
    flat = np.full((128, 128, 3), 90, np.uint8)
    for generator in (CutPastePatch, CutPasteScar):
        region = generator(jitter=0.0).generate(flat, item_rng(0, 0, 0))
        diff = generator(jitter=0.0, mask="diff").generate(flat, item_rng(0, 0, 0))
        assert np.array_equal(region.image, flat)
        assert region.has_anomaly
        assert not diff.has_anomaly


def test_mask_of_changed_pixels_starts_above_one_grey_level():
    image = np.full((1, 3, 3), 100, np.uint8)
    edited = image + np.array([[[1, 1, 1], [2, 1, 1], [0, 0, 0]]], np.uint8)
    region = np.ones((1, 3), bool)
    kept, mask = apply_mask_rule(image, edited, region, "diff")
    assert mask.tolist() == [[False, True, False]]
    assert kept.tolist() == [[[100, 100, 100], [102, 101, 101], [100, 100, 100]]]
    assert apply_mask_rule(image, edited, region, "region")[1].all()


def test_the_mask_is_the_target_box(texture_256):
    result = CutPastePatch(jitter=0.0).generate(texture_256, item_rng(0, 0, 0))
    source, target = result.meta["source"], result.meta["target"]
    assert np.array_equal(result.mask, target.mask(texture_256.shape))
    assert np.array_equal(result.image[target.slices], texture_256[source.slices])


def test_three_views(texture_256):
    normal, patch, scar = CutPaste().three_way(texture_256, item_rng(0, 0, 0))
    assert np.array_equal(normal.image, texture_256)
    assert not normal.has_anomaly
    assert (patch.meta["generator"], scar.meta["generator"]) == ("cutpaste_patch", "cutpaste_scar")
    assert patch.mask.sum() > 0.019 * 256**2
    assert scar.mask.sum() < 0.02 * 256**2


def test_the_union_draws_each_kind_half_of_the_time(textures):
    kinds = [CutPaste().generate(textures[0], item_rng(0, 0, i)).meta["generator"] for i in range(400)]
    assert kinds.count("cutpaste_scar") / 400 == pytest.approx(0.5, abs=0.07)


def test_scars_have_the_published_sizes(texture_256):
    results = [CutPasteScar().generate(texture_256, item_rng(0, 0, i)) for i in range(300)]
    sources = np.array([result.meta["source"][2:] for result in results])
    assert (sources[:, 0].min(), sources[:, 0].max()) == (10, 25)
    assert (sources[:, 1].min(), sources[:, 1].max()) == (2, 16)
    areas = np.array([result.mask.sum() for result in results])
    assert areas.max() <= 400 * 1.1  # rounding of rotated pixels
    assert areas == pytest.approx(sources.prod(axis=1), rel=0.35, abs=8)
    assert max(abs(result.meta["angle"]) for result in results) <= 45


def test_scars_without_rotation_are_rectangles(texture_256):
    result = CutPasteScar(rotation=0.0, jitter=0.0).generate(texture_256, item_rng(0, 0, 0))
    assert np.array_equal(result.mask, result.meta["target"].mask(texture_256.shape))
    assert result.meta["target"][2:] == result.meta["source"][2:]


def test_scars_scale_with_the_image(textures):
    sides = [CutPasteScar().generate(textures[0], item_rng(0, 0, i)).meta["source"].height for i in range(200)]
    assert (min(sides), max(sides)) == (round(10 * 96 / 256), round(25 * 96 / 256))


def test_rotation_turns_patch_and_mask_together():
    patch = np.zeros((30, 10, 3), np.uint8)
    patch[:15] = 200
    turned, mask = rotate_patch(patch, 90.0)
    assert (mask.shape, mask.all()) == ((10, 30), True)
    assert (turned[:, :15] == 200).all()  # counter-clockwise: the top is now on the left
    colours, oblique = rotate_patch(patch, 45.0)
    assert set(np.unique(colours[oblique])) == {0, 200}  # nearest pixels: no mixture with what lies outside
    assert oblique.sum() == pytest.approx(300, rel=0.1)
    assert not oblique[0, 0]


def test_jitter_bounds_brightness_and_keeps_grey_images_grey():
    grey = np.full((8, 8, 3), 100, np.uint8)
    results = [jitter_colors(grey, item_rng(0, 0, i), 0.1) for i in range(200)]
    levels = np.array([result[0, 0] for result in results]).astype(int)
    assert (levels.max(axis=1) == levels.min(axis=1)).all()
    assert 88 <= levels.min() < 93
    assert 107 < levels.max() <= 111


def test_jitter_bounds_the_hue():
    red = np.full((4, 4, 3), (200, 20, 20), np.uint8)
    changed = [Image.fromarray(jitter_colors(red, item_rng(0, 0, i), 0.1)) for i in range(200)]
    hues = [picture.convert("HSV").getpixel((0, 0))[0] for picture in changed]
    shifts = (np.array(hues) + 128) % 256 - 128
    assert -28 <= shifts.min() < -20
    assert 20 < shifts.max() <= 28


def test_hue_shift_of_a_third_turns_red_to_green():
    assert shift_hue(Image.new("RGB", (1, 1), (255, 0, 0)), 85).getpixel((0, 0)) == (0, 255, 0)
