"""NSA and FPI: sizes, number of patches, background rule, labels and class table (G14 to G18 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter
from skimage.filters import median
from skimage.morphology import disk

from anoframe.data.synthesis.base import Context, item_rng
from anoframe.data.synthesis.blending import apply_patches, to_pixels
from anoframe.data.synthesis.boxes import Box
from anoframe.data.synthesis.filters import changed_mask, median_change, median_mask
from anoframe.data.synthesis.fpi import FPI
from anoframe.data.synthesis.fpi_poisson import FPIPoisson
from anoframe.data.synthesis.nsa import NSA, class_settings, default_blend, logistic_label
from anoframe.data.synthesis.nsa_classes import GENERIC_OBJECT, NSA_CLASSES, NsaClass
from anoframe.data.synthesis.nsa_patch import (
    Patch,
    draw_half_side,
    draw_new_size,
    draw_patches,
    object_mask,
    pixel_bounds,
)

SIDE = 1000


def generate(generator, images, number, category=""):
    return generator.generate(images[0], item_rng(0, number, 0), Context(category, images, 0))


# --------------------------------------------------------------------------------------------- patches


def test_half_sides_follow_the_clipped_gamma_distribution():
    rng = np.random.default_rng(0)
    halves = np.array([draw_half_side(rng, SIDE, (0.03, 0.40)) for _ in range(40_000)]) / SIDE
    assert halves.mean() == pytest.approx(0.130, abs=0.002)
    assert np.median(halves) == pytest.approx(0.114, abs=0.002)
    assert (halves.min(), halves.max()) == (0.03, 0.40)
    assert (halves == 0.40).mean() == pytest.approx(0.005, abs=0.0015)


@pytest.mark.parametrize(("largest", "expected"), [(3, 2.0), (4, 2.5)])
def test_expected_number_of_patches(largest, expected, textures):
    settings = NsaClass(max_patches=largest)
    rng = np.random.default_rng(0)
    counts = [len(draw_patches(rng, textures[0], textures[1], settings)) for _ in range(2000)]
    assert np.mean(counts) == pytest.approx(expected, abs=0.06)
    assert (min(counts), max(counts)) == (1, largest)


def test_patches_lie_inside_and_have_new_sizes_within_the_bounds(textures):
    rng = np.random.default_rng(0)
    low, high = pixel_bounds(96, (0.03, 0.40))
    for _ in range(300):
        for patch in draw_patches(rng, textures[0], textures[1], NSA_CLASSES["tile"]):
            assert patch.target.clipped((96, 96)) == patch.target
            assert patch.source.clipped((96, 96)) == patch.source
            assert patch.pixels.shape == (patch.target.height, patch.target.width, 3)
            assert low <= min(patch.target[2:])
            assert max(patch.target[2:]) <= high


def test_resizing_keeps_the_aspect_ratio_up_to_the_bounds():
    rng, source = np.random.default_rng(0), Box(0, 0, 200, 100)
    sizes = np.array([draw_new_size(rng, source, (SIDE, SIDE), NSA_CLASSES["cable"]) for _ in range(2000)])
    assert sizes[:, 0] / sizes[:, 1] == pytest.approx(2, abs=0.03)
    assert (sizes[:, 0].min(), sizes[:, 0].max()) == (140, 260)  # objects: factor 0.7 to 1.3
    textures = np.array([draw_new_size(rng, source, (SIDE, SIDE), NSA_CLASSES["wood"]) for _ in range(2000)])
    assert (textures[:, 0].min(), textures[:, 0].max()) == (100, 400)


def test_without_shift_patches_stay_in_place(textures):
    rng = np.random.default_rng(0)
    for _ in range(50):
        for patch in draw_patches(rng, textures[0], textures[1], NSA_CLASSES["tile"], shift=False):
            assert patch.source == patch.target
            assert np.array_equal(patch.pixels, textures[1][patch.source.slices])


# --------------------------------------------------------------------------------------------- background rule


def test_object_mask_finds_the_disc(objects):
    y, x = np.mgrid[:128, :128] - 63.5
    found = object_mask(objects[0], 200, 60)
    assert (found != (np.hypot(y, x) < 40)).mean() < 0.01


def test_accepted_patches_fulfil_the_background_rule(objects):
    rng, settings = np.random.default_rng(0), NsaClass(min_object=0.7, background=(200, 60))
    image_objects, other_objects = (object_mask(image, 200, 60) for image in objects[:2])
    accepted = [patch for _ in range(200) for patch in draw_patches(rng, *objects[:2], settings)]
    assert len(accepted) > 200
    for patch in accepted:
        assert other_objects[patch.source.slices].mean() > 0.7
        overlap = image_objects[patch.target.slices].mean()
        assert overlap > 0.25 * 0.7 * 0.8  # a quarter of the object pixels, of which resizing loses some


def test_an_impossible_background_rule_returns_the_image(textures):
    empty = np.full((96, 96, 3), 200, np.uint8)
    for images in ([empty, empty], [textures[0], empty], [empty, textures[0] // 3]):
        result = generate(NSA(like="bottle", label="logistic"), images, 0)
        assert np.array_equal(result.image, images[0])
        assert not result.has_anomaly
        assert not result.label.any()
        assert result.meta["patches"] == []


# --------------------------------------------------------------------------------------------- blending


def test_a_pasted_copy_of_the_same_place_changes_nothing(textures):
    image, box = textures[0], Box(10, 20, 40, 30)
    patch = Patch(image[box.slices], np.ones((40, 30), bool), box, box)
    for blend in ("normal", "mixed", "swap"):
        edited, mask = apply_patches(image, [patch], blend)
        assert np.array_equal(edited, image)
        assert not mask.any()


def test_poisson_blending_ignores_brightness_and_swap_does_not(textures):
    image, box = textures[0] // 2, Box(10, 20, 40, 30)
    brighter = Patch(image[box.slices] + np.uint8(90), np.ones((40, 30), bool), box, box)
    assert np.array_equal(apply_patches(image, [brighter], "normal")[0], image)
    edited, mask = apply_patches(image, [brighter], "swap")
    assert mask.sum() > 0.98 * 1200  # the median rounds the corners
    assert np.array_equal(edited[mask], image[mask] + np.uint8(90))


def test_masks_of_overlapping_patches_are_united(textures):
    """The official code loses the label of an earlier patch in the bounding box of a later one."""
    image = textures[0] // 2
    bright = image + np.uint8(90)
    first, second = Box(10, 10, 40, 40), Box(20, 20, 40, 40)
    nothing = np.zeros((40, 40), bool)
    patches = [
        Patch(bright[first.slices], ~nothing, first, first),
        Patch(bright[second.slices], nothing, second, second),
    ]
    _, mask = apply_patches(image, patches, "swap")
    assert mask[22:48, 22:48].all()
    assert mask.sum() > 0.98 * 1600


def test_a_tiny_patch_is_left_out(textures):
    image, box = textures[0], Box(10, 20, 8, 8)  # 6 x 6 inner pixels are fewer than 50
    patch = Patch(255 - image[box.slices], np.ones((8, 8), bool), box, box)
    assert not apply_patches(image, [patch], "normal")[1].any()


def test_rounding_does_not_depend_on_the_last_digits():
    values = np.array([0.5, 1.5, 254.5]) + np.array([[-1e-11], [0], [1e-11]])
    assert (to_pixels(values) == to_pixels(values)[0]).all()
    assert to_pixels(np.array([-3.0, 300.0])).tolist() == [0, 255]


# --------------------------------------------------------------------------------------------- masks and labels


def test_binary_median_equals_scipy():
    mask = np.random.default_rng(0).random((40, 50)) < 0.5
    for side in (5, 7):
        assert np.array_equal(median_mask(mask, side), median_filter(mask.astype(np.uint8), side, mode="nearest") > 0)


def test_changed_mask_equals_its_definition_on_the_whole_image():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 250, (40, 50, 3), dtype=np.uint8)
    after = before + rng.integers(0, 4, before.shape, dtype=np.uint8)
    for box in (Box(0, 0, 40, 50), Box(0, 10, 20, 30), Box(17, 20, 9, 30)):
        within = box.mask(before.shape)
        change = np.abs(after.astype(float) - before).mean(axis=2)
        expected = median_filter(((change > 1) & within).astype(np.uint8), 5, mode="nearest") > 0
        assert np.array_equal(changed_mask(before, after, within, 1.0), expected & within)


def test_median_change_equals_skimage_on_the_whole_image():
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    for box in (Box(0, 0, 40, 50), Box(0, 10, 20, 30), Box(17, 20, 12, 13)):
        mask = box.mask(before.shape) & (rng.random((40, 50)) < 0.9)
        change = np.abs(after.astype(float) - before).mean(axis=2) * mask
        assert median_change(before, after, mask) == pytest.approx(median(change, disk(5)), abs=1e-9)
    assert not median_change(before, after, np.zeros((40, 50), bool)).any()


def test_logistic_label():
    change = np.array([[1.0, 15.0, 60.0, 60.0]])
    mask = np.array([[True, True, True, False]])
    label = logistic_label(change, mask, 1 / 6, 15)
    assert label[0] == pytest.approx([0.0884, 0.5, 0.9994, 0], abs=5e-5)
    assert logistic_label(change, mask, 1 / 12, 24)[0, 2] == pytest.approx(0.9526, abs=5e-5)
    rising = logistic_label(np.linspace(0, 255, 99)[None], np.ones((1, 99), bool), 1 / 12, 24)[0]
    assert (np.diff(rising) >= 0).all()


def test_labels_of_nsa_agree_with_the_change(textures):
    for number in range(6):
        binary = generate(NSA(like="tile"), textures, number)
        logistic = generate(NSA(like="tile", label="logistic"), textures, number)
        intensity = generate(NSA(like="tile", label="intensity"), textures, number)
        assert binary.label is None
        assert np.array_equal(binary.mask, logistic.mask)
        change = median_change(logistic.base, logistic.image, logistic.mask)
        inside = logistic.mask
        assert logistic.label[inside] == pytest.approx(1 / (1 + np.exp(-(change[inside] - 7) / 3)), abs=1e-5)
        assert intensity.label[inside] == pytest.approx(change[inside] / 255, abs=1e-6)


# --------------------------------------------------------------------------------------------- class table


def test_the_class_table():
    assert len(NSA_CLASSES) == 15
    textures = {name for name, row in NSA_CLASSES.items() if row.is_texture}
    assert textures == {"carpet", "grid", "leather", "tile", "wood"}
    assert {name for name, row in NSA_CLASSES.items() if row.max_patches == 4} == textures | {"screw", "zipper"}
    assert {name for name, row in NSA_CLASSES.items() if row.epochs == 560} == {"hazelnut", "metal_nut", "screw"}
    assert {name for name, row in NSA_CLASSES.items() if row.background == (200, 60)} == {
        "bottle",
        "capsule",
        "screw",
        "zipper",
    }
    assert {name for name, row in NSA_CLASSES.items() if row.background == (20, 20)} == {
        "hazelnut",
        "metal_nut",
        "pill",
        "toothbrush",
    }
    assert {name: row.min_object for name, row in NSA_CLASSES.items() if row.background} == {
        "bottle": 0.70,
        "capsule": 0.70,
        "hazelnut": 0.70,
        "metal_nut": 0.50,
        "pill": 0.70,
        "screw": 0.50,
        "toothbrush": 0.25,
        "zipper": 0.70,
    }
    labels = {name: (row.slope, row.midpoint) for name, row in NSA_CLASSES.items()}
    assert labels["screw"] == (1, 3)
    assert labels["capsule"] == (1 / 2, 4)
    assert {name for name, label in labels.items() if label == (1 / 12, 24)} == {"bottle", "cable", "hazelnut"}
    sevens = {"metal_nut", "pill", "carpet", "grid", "leather", "tile"}
    assert {name for name, label in labels.items() if label == (1 / 3, 7)} == sevens
    bounds = {name: (row.height, row.width) for name, row in NSA_CLASSES.items()}
    assert bounds["screw"] == ((0.03, 0.12), (0.03, 0.12))
    assert bounds["capsule"] == ((0.03, 0.15), (0.03, 0.40))
    assert bounds["pill"] == ((0.03, 0.20), (0.03, 0.40))
    assert bounds["toothbrush"] == bounds["zipper"] == ((0.03, 0.40), (0.03, 0.20))
    assert bounds["hazelnut"] == ((0.03, 0.35), (0.03, 0.35))
    assert bounds["cable"] == ((0.05, 0.40), (0.05, 0.40))


@pytest.mark.parametrize("category", sorted(NSA_CLASSES))
def test_textures_use_mixed_gradients_and_objects_normal_ones(category, textures):
    expected = "mixed" if category in {"carpet", "grid", "leather", "tile", "wood"} else "normal"
    assert default_blend(class_settings(None, category)) == expected
    assert generate(NSA(), textures, 0, category).meta["blend"] == expected


def test_settings_of_other_categories():
    assert class_settings(None, "candle") is GENERIC_OBJECT
    assert class_settings("tile", "candle") is NSA_CLASSES["tile"]
    assert default_blend(class_settings("generic_texture", "candle")) == "mixed"
    assert (GENERIC_OBJECT.height, GENERIC_OBJECT.max_patches, GENERIC_OBJECT.background) == ((0.03, 0.30), 3, None)


# --------------------------------------------------------------------------------------------- FPI


def test_fpi_interpolates_at_the_same_place(textures):
    image, other = textures[0], textures[1]
    for number in range(6):
        result = generate(FPI(like="tile"), [image, other], number)
        factor = result.meta["factor"]
        assert 0.05 <= factor <= 0.95
        assert np.array_equal(result.label, result.mask * np.float32(factor))
        once = sum(box.mask(image.shape).astype(int) for box in result.meta["boxes"]) == 1
        mixed = np.rint((1 - factor) * image.astype(float) + factor * other)
        inside = result.mask & once
        assert inside.any()
        assert np.abs(result.image[inside] - mixed[inside]).max() <= 1


def test_factor_zero_changes_nothing(textures):
    for generator in (FPI(factor=(0.0, 0.0)), FPIPoisson(factor=(0.0, 0.0))):
        result = generate(generator, textures, 0)
        assert np.array_equal(result.image, textures[0])
        assert not result.has_anomaly


def test_fpi_poisson_has_no_seam(textures):
    bright = [textures[0] // 2, textures[0] // 2 + np.uint8(90)]
    assert generate(FPI(), bright, 0).has_anomaly
    assert not generate(FPIPoisson(), bright, 0).has_anomaly  # the same gradients: nothing to blend
