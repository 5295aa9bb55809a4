"""The same pixels as torchvision gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from anoframe.data.transforms import Preprocessing
from anoframe.errors import AnoframeError

sides = st.integers(3, 90)


def noise(height, width):
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, resize=st.integers(1, 64), cut=st.integers(0, 20), keep_aspect=st.booleans())
def test_equals_torchvision(height, width, resize, cut, keep_aspect):
    crop = max(1, resize - cut)
    image = Image.fromarray(noise(height, width))
    theirs = Compose([Resize(resize if keep_aspect else (resize, resize)), CenterCrop(crop)])(image)
    ours = Preprocessing(resize, crop, keep_aspect).image(image)
    assert ours.dtype == np.uint8
    assert ours.shape == (crop, crop, 3)
    assert np.array_equal(ours, np.asarray(theirs))


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, resize=st.integers(1, 64))
def test_mask_follows_its_image(height, width, resize):
    values = noise(height, width)[..., 0]
    mask = values > 128
    preprocessing = Preprocessing(resize, resize)
    grey = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    assert np.array_equal(preprocessing.mask(mask), preprocessing.image(grey)[..., 0] > 127)


@pytest.mark.parametrize("value", [True, False])
def test_uniform_masks_stay_uniform(value):
    resized = Preprocessing(32, 28).mask(np.full((50, 70), value))
    assert resized.dtype == bool
    assert (resized == value).all()


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "256", True, None])
@pytest.mark.parametrize("name", ["resize", "crop"])
def test_sizes_are_checked(name, wrong):
    with pytest.raises(AnoframeError, match=name):
        Preprocessing(**{"resize": 256, "crop": 1} | {name: wrong})


def test_crop_larger_than_resize():
    with pytest.raises(AnoframeError, match="crop 300 is larger than resize 256"):
        Preprocessing(256, 300)
