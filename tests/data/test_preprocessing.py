"""Preprocessing: the same pixels as torchvision, and checked sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from anoframe.data.masks import empty_mask, resize_mask
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError

sides = st.integers(3, 90)


def noise(height, width):
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    height=sides,
    width=sides,
    resize=st.integers(1, 64),
    cut=st.integers(0, 20),
    keep_aspect=st.booleans(),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_pixels_equal_those_of_torchvision(height, width, resize, cut, keep_aspect, interpolation):
    crop = max(1, resize - cut)
    image = Image.fromarray(noise(height, width))
    size = resize if keep_aspect else (resize, resize)
    expected = Compose([Resize(size, InterpolationMode(interpolation)), CenterCrop(crop)])(image)
    pixels = Preprocessing(resize, crop, keep_aspect, interpolation=interpolation).to_array(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (crop, crop, 3)
    assert np.array_equal(pixels, np.asarray(expected))


def test_the_interpolation_of_images_does_not_change_masks():
    mask = noise(70, 50)[..., 0] > 128
    masks = [resize_mask(mask, Preprocessing(32, 32, interpolation=name)) for name in ("bilinear", "bicubic")]
    assert np.array_equal(*masks)


def test_an_unknown_interpolation_is_an_error():
    with pytest.raises(AnoframeError, match="interpolation is one of bilinear, bicubic, got 'nearest'"):
        Preprocessing(32, 32, interpolation="nearest")


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, resize=st.integers(1, 64))
def test_a_mask_is_resized_like_its_image(height, width, resize):
    values = noise(height, width)[..., 0]
    mask = values > 128
    preprocessing = Preprocessing(resize, resize)
    grey = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    assert np.array_equal(resize_mask(mask, preprocessing), preprocessing.to_array(grey)[..., 0] > 127)


@pytest.mark.parametrize("value", [True, False])
def test_uniform_masks_stay_uniform(value):
    resized = resize_mask(np.full((50, 70), value), Preprocessing(32, 28))
    assert resized.dtype == bool
    assert (resized == value).all()


def test_the_mask_of_an_image_without_one_has_the_size_of_the_crop():
    mask = empty_mask(Preprocessing(32, 28))
    assert (mask.shape, mask.dtype, mask.any()) == ((28, 28), bool, False)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "256", True, None])
@pytest.mark.parametrize("name", ["resize", "crop"])
def test_invalid_sizes_are_errors(name, wrong):
    with pytest.raises(AnoframeError, match=name):
        Preprocessing(**{"resize": 256, "crop": 1} | {name: wrong})


def test_a_crop_larger_than_the_resize_is_an_error():
    with pytest.raises(AnoframeError, match="crop 300 is larger than resize 256"):
        Preprocessing(256, 300)


@settings(max_examples=30, deadline=None)
@given(side=st.integers(100, 500))
def test_resizing_to_320_and_cropping_to_224_removes_the_outer_fifteen_percent(side):
    preprocessing = Preprocessing(320, 224)
    band = int(0.15 * side) - 1  # resizing mixes neighbouring pixels
    inner = slice(band, side - band)
    outside = np.ones((side, side), bool)
    outside[inner, inner] = False
    assert not resize_mask(outside, preprocessing).any()
    kept = resize_mask(~outside, preprocessing)
    assert kept.all()
    assert kept.size / 320**2 == pytest.approx(0.49)
