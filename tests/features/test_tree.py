"""Features as a flat dict of tensors, and back."""

from __future__ import annotations

import pytest
import torch

from anoframe.features.tree import first_infinite, flatten, join_images, map_features, split_images, unflatten

A, B = torch.arange(6.0).view(3, 2), torch.arange(3).view(3, 1, 1)
FEATURES = {"tensor": A, "list": [A, B], "long list": [A] * 11 + [B], "dict": {"patches": A, "image": B}}
CPU = torch.device("cpu")


def assert_equal(features, expected):
    assert type(features) is type(expected)
    flat, other = flatten(features), flatten(expected)
    assert flat.keys() == other.keys()
    assert all(flat[name].equal(other[name]) for name in flat)


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_structure_is_restored_whatever_the_order_of_names(features):
    flat = flatten(features)
    assert_equal(unflatten(flat), features)
    assert_equal(unflatten(dict(sorted(flat.items(), reverse=True))), features)


def test_names_of_cache_entries_are_stable():
    assert list(flatten(A)) == ["all"]
    assert list(flatten([A, B])) == ["0", "1"]
    assert list(flatten({"patches": A, "image": B})) == [".image", ".patches"]


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_split_images_are_joined_to_the_same_features(features):
    images = split_images(features)
    assert len(images) == 3
    assert_equal(join_images(images, CPU), features)
    assert_equal(join_images(images[1:2], CPU), map_features(lambda tensor: tensor[1:2], features))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("build", [lambda a: a, lambda a: [B, a], lambda a: {"x": a, "a": B}])
def test_first_image_that_is_not_finite_is_found(build, value):
    spoilt = A.clone()
    spoilt[1:, 1] = value
    assert first_infinite(build(A)) is None
    assert first_infinite(build(spoilt)) == 1


def test_finite_features_whose_sum_overflows_are_accepted():
    assert first_infinite([torch.full((2, 1, 2, 2), 3e38)]) is None
    assert first_infinite([torch.tensor([[1.0, 2.0], [torch.inf, -torch.inf]])]) == 1
