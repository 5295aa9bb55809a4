"""Collecting the predictions of batches into arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.evaluation.predictions import collect
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector
from anoframe.types import Prediction, Sample

IMAGES = torch.arange(5 * 3 * 4 * 4, dtype=torch.float32).reshape(5, 3, 4, 4)
SAMPLES = [Sample(Path(f"{i}.png"), "felt", "test", "cut" if i > 2 else "good", Path("m.png")) for i in range(5)]


class ChannelSum(Detector):
    """Its anomaly map is the sum of the channels."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.register_buffer("place", torch.empty(0))

    def compute_prediction(self, features, size):
        maps = features.sum(1)
        return Prediction(maps.flatten(1).max(1).values, maps, {"half": maps / 2})


def batches(*sizes, images=IMAGES):
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        masks = images[rows, :1] > 100
        yield FeatureBatch(images[rows], masks, tuple(SAMPLES[rows]))
        start += size


@pytest.fixture(scope="module")
def predictions():
    return collect(ChannelSum(), batches(2, 2, 1), 5, 4)


def test_scores_and_maps_are_in_the_order_of_the_samples(predictions):
    assert predictions.samples == SAMPLES
    assert np.array_equal(predictions.maps, IMAGES.sum(1).numpy())
    assert np.array_equal(predictions.scores, predictions.maps.max((1, 2)))


def test_labels_are_those_of_the_samples(predictions):
    assert predictions.labels.tolist() == [False, False, False, True, True]


def test_masks_are_those_of_the_batches(predictions):
    assert np.array_equal(predictions.masks, IMAGES[:, 0].numpy() > 100)


def test_extra_maps_are_kept(predictions):
    assert np.array_equal(predictions.extra_maps["half"], predictions.maps / 2)


def test_dtypes_are_those_that_metrics_take(predictions):
    dtypes = (predictions.labels.dtype, predictions.scores.dtype, predictions.maps.dtype, predictions.masks.dtype)
    assert dtypes == (np.bool_, np.float32, np.float32, np.bool_)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_prediction_that_is_not_finite_is_an_error_that_names_the_image(value):
    images = IMAGES.clone()
    images[3, 0, 0, 0] = value
    with pytest.raises(AnoframeError, match=r"the prediction for 3\.png is not finite"):
        collect(ChannelSum(), batches(2, 2, 1, images=images), 5, 4)
