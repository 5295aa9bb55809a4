"""Feature store: any batch of images, with the features that were extracted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.features.store import FeatureStore
from anoframe.types import Sample

CPU = torch.device("cpu")
LEVELS = [torch.arange(5 * 2 * 4 * 4.0).view(5, 2, 4, 4), torch.rand(5, 3, 2, 2), torch.rand(5, 7)]
SAMPLES = tuple(Sample(Path(f"{i}.png"), "felt", "train") for i in range(5))


def batches(select=lambda levels: levels):
    """Three batches whose features are selected from the levels."""
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        yield FeatureBatch(select([level[rows] for level in LEVELS]), torch.zeros(0), SAMPLES[rows])


@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_has_the_features_of_its_images(channels_last):
    batch = FeatureStore(batches(), 5, CPU).batch([3, 0, 4], channels_last=channels_last)
    expected = [level[[3, 0, 4]] for level in LEVELS]
    assert all(torch.equal(level, other) for level, other in zip(batch.features, expected, strict=True))
    assert batch.samples == (SAMPLES[3], SAMPLES[0], SAMPLES[4])
    assert batch.rows.tolist() == [3, 0, 4]
    assert batch.features[0].is_contiguous(memory_format=torch.channels_last) == channels_last


def test_features_can_be_a_tensor():
    store = FeatureStore(batches(lambda levels: levels[0]), 5, CPU)
    assert torch.equal(store.batch([1]).features, LEVELS[0][1:2])


def test_features_can_be_a_dict():
    store = FeatureStore(batches(lambda levels: {"tokens": levels[1], "image": levels[2]}), 5, CPU)
    features = store.batch([4, 1]).features
    assert features.keys() == {"tokens", "image"}
    assert torch.equal(features["tokens"], LEVELS[1][[4, 1]])
    assert torch.equal(features["image"], LEVELS[2][[4, 1]])


def test_every_image_comes_once_in_the_given_order():
    read = list(FeatureStore(batches(), 5, CPU).batches(range(5), 2))
    assert [len(batch) for batch in read] == [2, 2, 1]
    assert torch.equal(torch.cat([batch.features[1] for batch in read]), LEVELS[1])


@pytest.mark.parametrize("select", [lambda levels: {levels[0]}, lambda levels: [levels], lambda levels: "text"])
def test_other_features_raise_an_error(select):
    with pytest.raises(AnoframeError, match="a tensor, or a list or dict of tensors"):
        FeatureStore(batches(select), 5, CPU)


def test_features_that_do_not_fit_in_memory_are_stored_in_a_file(monkeypatch):
    import anoframe.utils.memory

    monkeypatch.setattr(anoframe.utils.memory, "fits_in_memory", lambda size: False)
    assert torch.equal(FeatureStore(batches(), 5, CPU).batch([2]).features[1], LEVELS[1][2:3])
