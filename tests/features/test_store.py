"""Features of all images: any batch of them, as the encoder gave them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.features.extraction import Encoded
from anoframe.features.store import FeatureStore
from anoframe.types import Sample

CPU = torch.device("cpu")
LEVELS = [torch.arange(5 * 2 * 4 * 4.0).view(5, 2, 4, 4), torch.rand(5, 3, 2, 2), torch.rand(5, 7)]
SAMPLES = tuple(Sample(Path(f"{i}.png"), "felt", "train") for i in range(5))


def batches(listed=True):
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        features = [level[rows] for level in LEVELS] if listed else LEVELS[0][rows]
        yield Encoded(features, torch.zeros(0), SAMPLES[rows])


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_has_the_features_of_its_images(channels_last):
    batch = FeatureStore(batches(), 5, CPU).batch([3, 0, 4], channels_last)
    assert all(torch.equal(found, level[[3, 0, 4]]) for found, level in zip(batch.features, LEVELS, strict=True))
    assert batch.samples == (SAMPLES[3], SAMPLES[0], SAMPLES[4])
    assert batch.rows.tolist() == [3, 0, 4]
    assert batch.features[0].is_contiguous(memory_format=torch.channels_last) == channels_last


def test_a_tensor_stays_a_tensor():
    assert torch.equal(FeatureStore(batches(listed=False), 5, CPU).batch([1]).features, LEVELS[0][1:2])


def test_every_image_comes_once_in_the_order_asked_for():
    found = list(FeatureStore(batches(), 5, CPU).batches(range(5), 2))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert torch.equal(torch.cat([batch.features[1] for batch in found]), LEVELS[1])


def test_features_of_another_kind_are_refused():
    with pytest.raises(AnoframeError, match="a tensor or a list of tensors"):
        FeatureStore([Encoded({"a": LEVELS[0]}, torch.zeros(0), SAMPLES)], 5, CPU)


def test_what_does_not_fit_in_memory_goes_to_a_file(monkeypatch):
    import anoframe.utils.memory

    monkeypatch.setattr(anoframe.utils.memory, "fits", lambda size: False)
    assert torch.equal(FeatureStore(batches(), 5, CPU).batch([2]).features[1], LEVELS[1][2:3])
