"""Vectors of labelled images: encoded once per content, each alone on a CPU, and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.base import ImageArrays, SelectedImages
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.features.labelled import VectorCache, encode_labelled
from anoframe.utils.tensor_cache import TensorCache

CPU = torch.device("cpu")


@pytest.fixture
def images():
    arrays = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return ImageArrays(arrays, ["a"] * 5, Path("set.npz"), "train", Reader(Preprocessing(8, 8)))


@pytest.fixture
def encode():
    """Encoder that records the sizes of its batches."""

    def call(pixels):
        call.sizes.append(len(pixels))
        return pixels.float().flatten(1).mean(1, keepdim=True).expand(-1, 3) / 255

    call.sizes = []
    return call


def test_each_image_is_encoded_alone(images, encode):
    vectors = encode_labelled(encode, images, images.hashes(), 4, CPU)
    assert vectors.shape == (5, 3)
    assert encode.sizes == [1] * 5
    assert torch.equal(vectors[2, 0], images.pixels(2).float().mean() / 255)


def test_cached_vectors_are_not_encoded_again(images, encode, tmp_path):
    cache = VectorCache(TensorCache(tmp_path, 10**6), ["encoder"], CPU, 4)
    first = encode_labelled(encode, images, images.hashes(), 4, CPU, cache)
    encode.sizes.clear()
    assert torch.equal(encode_labelled(encode, images, images.hashes(), 2, CPU, cache), first)
    assert encode.sizes == []
    other = VectorCache(TensorCache(tmp_path, 10**6), ["another encoder"], CPU, 4)
    encode_labelled(encode, images, images.hashes(), 4, CPU, other)
    assert len(encode.sizes) == 5


def test_other_images_take_the_vectors_of_the_same_contents(images, encode, tmp_path):
    cache = VectorCache(TensorCache(tmp_path, 10**6), ["encoder"], CPU, 4)
    first = encode_labelled(encode, images, images.hashes(), 4, CPU, cache)
    encode.sizes.clear()
    part = SelectedImages(images, [3, 1])
    assert torch.equal(encode_labelled(encode, part, part.hashes(), 4, CPU, cache), first[[3, 1]])
    assert encode.sizes == []


def test_a_vector_that_is_not_finite_names_its_image(images):
    with pytest.raises(AnoframeError, match=r"set\.npz/000000"):
        encode_labelled(lambda x: torch.full((len(x), 2), torch.nan), images, images.hashes(), 4, CPU)
