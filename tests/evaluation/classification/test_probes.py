"""Linear probe and nearest neighbours: chance level, brute force, and an encoder that stays as it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from anoframe.backbones.encoder import Encoder
from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.base import ImageArrays
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.features import LabelledFeatures, accuracies, accuracy, extract_features
from anoframe.evaluation.classification.knn import NearestNeighbours
from anoframe.evaluation.classification.linear_probe import LinearProbe

CLASSES = tuple("abcdefghij")


def random_features(count, seed, dim=16, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    centres = torch.randn(10, dim, generator=torch.Generator().manual_seed(99))
    return LabelledFeatures(torch.randn(count, dim, generator=generator) + shift * centres[labels], labels, CLASSES)


def test_random_scores_are_at_chance():
    """S7."""
    scores = torch.randn(20000, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 10, (20000,), generator=torch.Generator().manual_seed(1))
    result = accuracies(scores, labels)
    assert result["top1"] == pytest.approx(0.1, abs=0.01)
    assert result["top5"] == pytest.approx(0.5, abs=0.015)


def test_accuracy_of_all_samples_not_of_batches():
    """S7: the last partial batch has the weight of its samples."""
    scores = torch.eye(3)[[0, 1, 2, 0, 1]]
    assert accuracy(scores, torch.tensor([0, 1, 2, 0, 2]), 1) == pytest.approx(4 / 5)
    assert accuracy(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), 1) == 0  # ties are wrong


def test_top5_is_at_least_top1():
    scores, labels = torch.randn(300, 10), torch.randint(0, 10, (300,))
    result = accuracies(scores, labels)
    assert result["top5"] >= result["top1"]
    assert set(accuracies(torch.randn(4, 5), torch.zeros(4, dtype=torch.int64))) == {"top1"}


@pytest.mark.parametrize("probe", [LinearProbe(epochs=30, lr=0.01), NearestNeighbours()], ids=["linear", "knn"])
def test_separable_classes_are_found_and_noise_is_not(probe):
    good = probe.evaluate(random_features(500, 0, shift=3.0), random_features(200, 1, shift=3.0), 0)
    noise = probe.evaluate(random_features(500, 0), random_features(1000, 1), 0)
    assert good["top1"] > 0.95
    assert noise["top1"] < 0.16
    assert 0.4 < noise["top5"] < 0.6


def test_linear_probe_depends_on_its_seed_alone():
    train = random_features(64, 0)
    torch.manual_seed(1)
    first = LinearProbe(epochs=2).fit(train.features, train.labels, 10, 5)
    torch.manual_seed(2)
    assert torch.equal(LinearProbe(epochs=2).fit(train.features, train.labels, 10, 5).weight, first.weight)
    assert not torch.equal(LinearProbe(epochs=2).fit(train.features, train.labels, 10, 6).weight, first.weight)


def test_votes_equal_a_loop():
    train, test = random_features(50, 0), random_features(7, 1)
    votes = NearestNeighbours(k=5, temperature=0.1).votes(train, test.features)
    for row, feature in enumerate(test.features):
        similarity = [float(torch.cosine_similarity(feature, other, dim=0)) for other in train.features]
        nearest = sorted(range(50), key=lambda i: -similarity[i])[:5]
        expected = [0.0] * 10
        for i in nearest:
            expected[int(train.labels[i])] += math.exp(similarity[i] / 0.1)
        assert votes[row].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def images():
    arrays = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    return ImageArrays(arrays, list("aabbabb"), Path("x"), "test", Reader(Preprocessing(32, 32)))


def test_the_encoder_is_frozen_to_the_bit(images):
    """S7: weights and statistics."""
    encoder = Encoder("test_resnet").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    whole = extract_features(encoder, images, ("a", "b"), 7)
    parts = extract_features(encoder, images, ("a", "b"), 3)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(whole.features, parts.features)
    assert whole.labels.tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert not whole.features.requires_grad


def test_a_class_without_training_images_is_an_error(images):
    with pytest.raises(AnoframeError, match="classes without training images: b"):
        extract_features(Encoder("test_resnet"), images, ("a",), 4)


@pytest.mark.parametrize("build", [lambda: LinearProbe(lr=0.0), lambda: NearestNeighbours(k=0)])
def test_wrong_settings_are_errors(build):
    with pytest.raises(AnoframeError, match="got"):
        build()
