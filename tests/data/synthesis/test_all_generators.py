"""What every registered generator of synthetic anomalies promises (G1 to G5 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from anoframe.data.synthesis.base import Context, item_rng
from anoframe.data.synthesis.boxes import Box
from anoframe.data.synthesis.geometry import crop_and_resize, resize_mask
from anoframe.data.synthesis.mixture import build_generator
from anoframe.data.synthesis.sources import NormalImages
from anoframe.errors import AnoframeError
from anoframe.registry import SYNTHESIS
from anoframe.types import Sample

NAMES = SYNTHESIS.names()
VARIANTS = [
    *({"name": name} for name in NAMES),
    {"name": "nsa", "like": "tile", "label": "logistic"},
    {"name": "nsa", "like": "bottle", "label": "intensity"},
    {"name": "nsa", "blend": "mixed"},
    {"name": "nsa", "blend": "swap", "source": "same"},
    {"name": "draem", "texture": "perlin"},
    {"name": "cdo", "version": 2023},
    {"name": "cutpaste", "mask": "diff"},
    {"name": "smooth_blend", "legacy_blur": 8.0},
]
IDS = [" ".join(str(value) for value in section.values()) for section in VARIANTS]


def generate(generator, images, epoch=0, index=0, seed=0, category="bottle"):
    context = Context(category, images, index)
    return generator.generate(images[index], item_rng(seed, epoch, index), context)


def same(one, other) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


@pytest.fixture(params=VARIANTS, ids=IDS)
def generator(request):
    return build_generator(request.param)


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(generator, objects):
    first = [generate(generator, objects, epoch) for epoch in range(8)]
    again = [generate(generator, objects, epoch) for epoch in range(8)]
    assert all(same(one, other) for one, other in zip(first, again, strict=True))
    assert len({result.image.tobytes() for result in first}) > 1
    other_seed = [generate(generator, objects, epoch, seed=1) for epoch in range(8)]
    assert not all(same(one, other) for one, other in zip(first, other_seed, strict=True))


def test_outside_of_the_mask_nothing_changes(generator, textures, objects):
    for images in (textures, objects):
        for epoch in range(8):
            result = generate(generator, images, epoch)
            assert np.array_equal(result.image[~result.mask], result.base[~result.mask])


def test_types_shapes_and_values(generator, objects):
    for epoch in range(8):
        result = generate(generator, objects, epoch)
        assert (result.image.dtype, result.image.shape) == (np.uint8, objects[0].shape)
        assert (result.base.dtype, result.base.shape) == (np.uint8, objects[0].shape)
        assert (result.mask.dtype, result.mask.shape) == (np.bool_, objects[0].shape[:2])
        assert result.has_anomaly == result.mask.any()
        assert result.meta["generator"] in NAMES
        if result.label is not None:
            assert (result.label.dtype, result.label.shape) == (np.float32, result.mask.shape)
            assert result.label.min() >= 0
            assert result.label.max() <= 1
            assert not result.label[~result.mask].any()


def test_the_input_is_not_changed(generator, textures):
    image = textures[0].copy()  # writable, unlike the fixture
    for epoch in range(8):
        result = generator.generate(image, item_rng(0, epoch, 0), Context("bottle", textures, 0))
        assert np.array_equal(image, textures[0])
        assert not np.shares_memory(result.base, image)
        base = result.base.copy()
        result.image[:] = 0  # the result shares no memory with the input or the base
        assert np.array_equal(image, textures[0])
        assert np.array_equal(result.base, base)


def test_probability_zero_returns_the_image_with_an_empty_mask(generator, objects):
    never = generator.with_probability(0.0)
    for epoch in range(8):
        result = generate(never, objects, epoch)
        assert not result.has_anomaly
        assert np.array_equal(result.image, result.base)
        assert result.label is None or not result.label.any()


def test_a_negative_always_differs(generator, objects):
    negative = generator.as_negative()
    for epoch in range(12):
        result = generate(negative, objects, epoch)
        assert result.has_anomaly
        assert not np.array_equal(result.image, result.base)


def test_a_negative_of_an_image_that_cannot_change_is_an_error():
    flat = np.full((64, 64, 3), 100, np.uint8)
    negative = build_generator({"name": "cutpaste_patch", "jitter": 0.0}).as_negative()
    with pytest.raises(AnoframeError, match="changed nothing in 20 attempts"):
        negative.generate(flat, item_rng(0, 0, 0))


@pytest.mark.parametrize("shape", [(96, 160, 3), (131, 67, 3), (32, 32, 3)])
def test_images_that_are_not_square(generator, shape):
    images = [np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8) for seed in range(2)]
    for epoch in range(8):
        result = generate(generator, images, epoch)
        assert result.image.shape == shape
        assert np.array_equal(result.image[~result.mask], result.base[~result.mask])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64, 3)), "uint8 array"),
        (np.zeros((64, 64), np.uint8), r"got uint8 \[64, 64\]"),
        (np.zeros((3, 64, 64), np.uint8), "uint8 array"),
        ([[0]], "got list"),
        (np.zeros((8, 64, 3), np.uint8), "64 x 8 pixels, but each side needs at least (16|32); resize"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_images_are_errors(name, image, message):
    with pytest.raises(AnoframeError, match=message):
        build_generator({"name": name, "p_anomaly": 1.0}).generate(image, item_rng(0, 0, 0))


@pytest.mark.parametrize("name", ["nsa", "fpi", "fpi_poisson", "draem"])
@pytest.mark.parametrize("normals", [0, 1])
def test_no_other_training_image_is_an_error(name, normals, textures):
    generator = build_generator({"name": name, "p_anomaly": 1.0})
    with pytest.raises(AnoframeError, match=rf"other training images, got {normals} image\(s\).*at least two"):
        generator.generate(textures[0], item_rng(0, 0, 0), Context("bottle", textures[:normals], 0))


def test_the_edited_image_is_never_its_own_source(textures):
    context = Context("", textures, 2)
    drawn = {context.draw_other(item_rng(0, 0, i), textures[2].shape)[1] for i in range(60)}
    assert drawn == {0, 1, 3}
    assert {Context("", textures).draw_other(item_rng(0, 0, i), (96, 96))[1] for i in range(60)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "nas"}, "did you mean 'nsa'"),
        ({}, "needs a name"),
        ({"name": "nsa", "lable": "binary"}, "did you mean 'label'"),
        ({"name": "nsa", "label": "soft"}, "label must be one of binary, intensity, logistic"),
        ({"name": "nsa", "like": "bottel"}, "like must be one of bottle"),
        ({"name": "nsa", "p_anomaly": 1.5}, "p_anomaly must be from 0 to 1, got 1.5"),
        ({"name": "nsa", "resize": 1}, "resize takes True or False"),
        ({"name": "draem", "beta": [0.8, 0.1]}, "beta must be two ordered numbers"),
        ({"name": "draem", "texture": "folder"}, "texture_root"),
        ({"name": "draem", "texture_root": "/no/such/folder"}, "is not a folder; give a folder of textures"),
        ({"name": "cutpaste_patch", "area": [0.1]}, "area must be two ordered numbers"),
        ({"name": "cutpaste_scar", "mask": "box"}, "mask must be one of region, diff"),
        ({"name": "cdo", "version": 2024}, "version must be one of 2023, 2025"),
        ({"name": "fpi", "factor": [0.1, 1.1]}, "factor must be two ordered numbers from 0 to 1"),
        ({"name": "mixture", "members": []}, "at least one generator"),
        ({"name": "mixture", "members": [{"name": "nsa", "weight": 0}]}, "weight must be a number above 0"),
        ({"name": "mixture", "members": [{"name": "nsa", "p_anomaly": 1.0}]}, "set p_anomaly of the mixture"),
        ({"name": "mixture", "members": [{"name": "nas"}]}, "did you mean 'nsa'"),
    ],
)
def test_wrong_settings_are_errors(section, message):
    with pytest.raises(AnoframeError, match=message):
        build_generator(section)


# --------------------------------------------------------------------------------------------- seeds and workers


def test_seeds_of_neighbouring_numbers_differ():
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 1, 1)]
    draws = {item_rng(*triple).integers(2**63) for triple in numbers}
    assert len(draws) == len(numbers)


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (0, -1, 0), (0, 0, 2**32)])
def test_seeds_out_of_range_are_errors(numbers):
    with pytest.raises(AnoframeError, match="of a synthetic image must be from 0"):
        item_rng(*numbers)


@pytest.mark.parametrize(
    "sample",
    [
        Sample("x.png", "felt", "test"),
        Sample("x.png", "felt", "train", "cut"),
        Sample("x.png", "mesh", "train"),
    ],
    ids=["test", "defect", "other category"],
)
def test_only_normal_training_images_are_sources(sample, tiny_root):
    from anoframe.data.dataset import open_dataset
    from anoframe.data.preprocessing import Preprocessing

    samples = [s for s in open_dataset("folder", tiny_root).samples("felt") if s.split == "train"]
    images = NormalImages(samples, Preprocessing(32, 32))
    assert (len(images), images[0].shape, images.category) == (6, (32, 32, 3), "felt")
    with pytest.raises(AnoframeError, match="made from normal training images of one category, got"):
        NormalImages([*samples, sample], Preprocessing(32, 32))
    with pytest.raises(AnoframeError, match="at least one"):
        NormalImages([], Preprocessing(32, 32))


# --------------------------------------------------------------------------------------------- geometry


def painted(height=64, width=96):
    """A synthetic result whose edit is a red rectangle exactly under its mask."""
    from anoframe.data.synthesis.base import Synthetic

    base = np.full((height, width, 3), 40, np.uint8)
    mask = Box(16, 24, 24, 40).mask(base.shape)
    image = base.copy()
    image[mask] = (240, 40, 40)
    return Synthetic(image, mask, base, mask.astype(np.float32))


def test_image_and_mask_stay_aligned_under_crop_and_resize():
    for box, size in [(Box(0, 0, 64, 96), (32, 48)), (Box(8, 8, 48, 64), (96, 128)), (Box(8, 16, 40, 56), (29, 37))]:
        result = crop_and_resize(painted(), box, *size)
        red = result.image[..., 0] > 140
        assert (result.mask.shape, result.image.shape, result.base.shape) == (size, (*size, 3), (*size, 3))
        # Interpolation moves the border by less than a pixel: inner pixels are red, distant ones are not
        assert red[binary_erosion(result.mask, iterations=1, border_value=1)].all()
        assert not red[~binary_dilation(result.mask, iterations=1)].any()
        assert not result.label[~result.mask].any()
    exact = crop_and_resize(painted(), Box(0, 0, 64, 96), 32, 48)
    assert np.array_equal(exact.image[..., 0] > 140, exact.mask)


def test_a_crop_outside_of_the_image_is_an_error():
    with pytest.raises(AnoframeError, match="not inside an image"):
        crop_and_resize(painted(), Box(40, 0, 30, 10), 8, 8)


def test_rules_of_resized_masks():
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[6, 6] = True
    assert resize_mask(mask, 2, 2, "any").tolist() == [[True, False], [False, True]]
    assert resize_mask(mask, 2, 2).tolist() == [[False, False], [False, True]]
    with pytest.raises(AnoframeError, match="rule must be one of nearest, any"):
        resize_mask(mask, 2, 2, "half")
