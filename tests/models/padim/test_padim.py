"""PaDiM: Gaussians, distances and maps, against brute force in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.padim.model import PaDiM
from anoframe.models.summary import MethodSummary
from anoframe.tracking.tracker import Trackers
from anoframe.training import stages


class Levels(nn.Module):
    """A backbone whose features are given to the detector directly."""

    channels = (4, 3)


def features_of(seed, images, offset=0.0):
    """Two levels, `[B, 4, 6, 6]` and `[B, 3, 3, 3]`."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(4, 4, generator=generator)
    fine = torch.einsum("bchw,cd->bdhw", torch.randn(images, 4, 6, 6, generator=generator), mixing)
    return [fine + offset, torch.randn(images, 3, 3, 3, generator=generator) + offset]


def fit_features(detector, features, batch=4):
    detector.begin_observation(len(features[0]))
    for start in range(0, len(features[0]), batch):
        detector.observe([level[start : start + batch] for level in features], ())
    detector.finish_observation()
    return detector


def brute_force(features, channels, train, regularization=0.01):
    """Mahalanobis distances `[B, h, w]` in float64, position by position."""

    def vectors(levels):
        fine, coarse = (level.double() for level in levels)
        coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.cat([fine, coarse], 1)[:, channels].numpy()

    normal, tested = vectors(train), vectors(features)
    distances = np.empty((len(tested), 6, 6))
    for row, column in np.ndindex(6, 6):
        x = normal[:, :, row, column]
        covariance = np.cov(x, rowvar=False).reshape(x.shape[1], -1) + regularization * np.eye(x.shape[1])
        delta = tested[:, :, row, column] - x.mean(0)
        distances[:, row, column] = np.sqrt(np.einsum("bi,ij,bj->b", delta, np.linalg.inv(covariance), delta))
    return distances


@pytest.mark.parametrize("images", [2, 5, 40, 130])  # fewer than channels, and more than are collected
@pytest.mark.parametrize("num_channels", [None, 1, 5])
def test_distances_equal_brute_force(images, num_channels):
    train, tested = features_of(0, images), features_of(1, 3)
    detector = fit_features(PaDiM(Levels(), num_channels, seed=3), train)
    expected = brute_force(tested, detector.channels, train)
    assert_allclose(detector.distances(tested), expected, rtol=2e-5)


def test_identical_images_give_distances_of_ten_per_unit():
    # the covariance is 0.01 I, so M = |x - mean| / 0.1
    train, tested = [level[:1].repeat(5, 1, 1, 1) for level in features_of(0, 1)], features_of(1, 2)
    detector = fit_features(PaDiM(Levels()), train)
    distance = (detector.embed(tested) - detector.embed(train)[:1]).norm(dim=3)
    assert_allclose(detector.distances(tested), distance / 0.1, rtol=1e-5)


@pytest.mark.parametrize("regularization", [1e-4, 0.01, 1.0])
def test_the_regularization_is_added_to_the_diagonal(regularization):
    train, tested = features_of(0, 5), features_of(1, 2)
    detector = fit_features(PaDiM(Levels(), regularization=regularization), train)
    expected = brute_force(tested, detector.channels, train, regularization)
    assert_allclose(detector.distances(tested), expected, rtol=1e-4)


def test_a_constant_added_to_all_features_changes_no_distance():
    detector = fit_features(PaDiM(Levels()), features_of(0, 20))
    shifted = fit_features(PaDiM(Levels()), features_of(0, 20, offset=10.0))
    expected = detector.distances(features_of(1, 3))
    assert_allclose(shifted.distances(features_of(1, 3, offset=10.0)), expected, rtol=1e-4)


def test_the_mean_has_distance_zero():
    train = features_of(0, 20)
    detector = fit_features(PaDiM(Levels()), train)
    distances = detector.distances([level.mean(0, keepdim=True) for level in train])
    assert distances.max() < 1e-4


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_the_map_is_interpolated_and_smoothed_and_its_largest_value_is_the_score(sigma):
    detector = fit_features(PaDiM(Levels(), sigma=sigma), features_of(0, 20))
    tested = features_of(1, 3)
    large = F.interpolate(detector.distances(tested)[:, None], (30, 24), mode="bilinear", align_corners=False)[:, 0]
    expected = [
        gaussian_filter(image, sigma, mode="reflect", truncate=4.0) if sigma else image for image in large.numpy()
    ]
    prediction = detector.detect(tested, (30, 24))
    assert_allclose(prediction.anomaly_map, expected, rtol=1e-4)
    assert torch.equal(prediction.score, prediction.anomaly_map.flatten(1).max(1).values)


def test_the_batches_of_training_and_test_change_no_bit():
    train, tested = features_of(0, 130), features_of(1, 5)
    first, second = (fit_features(PaDiM(Levels()), train, batch) for batch in (1, 64))
    assert torch.equal(first.whitening, second.whitening)
    alone = torch.cat([first.detect([level[i : i + 1] for level in tested], (6, 6)).score for i in range(5)])
    assert torch.equal(second.detect(tested, (6, 6)).score, alone)


def test_a_device_gives_the_predictions_of_the_cpu(device):
    train, tested = features_of(0, 130), features_of(1, 5)
    expected = fit_features(PaDiM(Levels()), train).detect(tested, (12, 12))
    detector = fit_features(PaDiM(Levels()).to(device), [level.to(device) for level in train])
    assert detector.whitening.device.type == device.type
    prediction = detector.detect([level.to(device) for level in tested], (12, 12))
    assert_allclose(prediction.anomaly_map.cpu(), expected.anomaly_map, rtol=1e-4)


# --------------------------------------------------------------------------------------------------------- channels


def test_the_channels_are_a_distinct_subset_fixed_by_the_seed():
    first = PaDiM(Levels(), 5, seed=1).channels
    torch.manual_seed(9)
    assert torch.equal(first, PaDiM(Levels(), 5, seed=1).channels)
    assert len(set(first.tolist())) == 5
    assert len({tuple(PaDiM(Levels(), 5, seed=seed).channels.tolist()) for seed in range(10)}) > 3


def test_each_channel_is_as_likely_as_any_other():
    counts = torch.stack([PaDiM(Levels(), 3, seed=seed).channels.bincount(minlength=7) for seed in range(700)]).sum(0)
    assert (counts - 300).abs().max() < 5 * math.sqrt(300)


def test_the_checkpoint_brings_its_channels_with_it():
    detector = fit_features(PaDiM(Levels(), 5, seed=1), features_of(0, 20))
    fresh = PaDiM(Levels(), 5, seed=2)
    fresh.load_learned_state(detector.learned_state())
    tested = features_of(1, 2)
    assert torch.equal(fresh.detect(tested, (6, 6)).anomaly_map, detector.detect(tested, (6, 6)).anomaly_map)


def test_a_subset_without_channels_of_a_level_is_possible():
    detector = PaDiM(Levels(), 2)
    detector.channels = torch.tensor([5, 6])
    train, tested = features_of(0, 20), features_of(1, 2)
    assert_allclose(fit_features(detector, train).distances(tested), brute_force(tested, [5, 6], train), rtol=2e-5)


@pytest.mark.parametrize("count", [0, -1, 8])
def test_an_impossible_number_of_channels_is_an_error(count):
    message = rf"model\.num_channels is between 1 and the 7 channels of the backbone's levels \(4 \+ 3\), got {count}"
    with pytest.raises(AnoframeError, match=message):
        PaDiM(Levels(), count)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_regularization_that_is_not_positive_is_an_error(value):
    with pytest.raises(AnoframeError, match=r"model\.regularization is above 0"):
        PaDiM(Levels(), regularization=value)


# ---------------------------------------------------------------------------------------------- errors and reports


def test_one_training_image_is_an_error():
    with pytest.raises(AnoframeError, match="at least 2 training images, got 1"):
        fit_features(PaDiM(Levels()), features_of(0, 1))


def test_detecting_before_fitting_is_an_error():
    with pytest.raises(AnoframeError, match="no Gaussians yet: fit it, or load a checkpoint"):
        PaDiM(Levels()).detect(features_of(0, 1), (6, 6))


def test_an_image_of_another_size_is_an_error():
    detector = fit_features(PaDiM(Levels()), features_of(0, 5))
    with pytest.raises(AnoframeError, match="Gaussians for 6 x 6 positions, and the image has 4 x 6"):
        detector.detect([torch.zeros(1, 4, 4, 6), torch.zeros(1, 3, 2, 3)], (6, 6))


def test_fitting_again_replaces_the_gaussians():
    detector, train = PaDiM(Levels()), features_of(0, 20)
    first = fit_features(detector, train).whitening
    fit_features(detector, features_of(1, 30))
    assert not torch.equal(detector.whitening, first)
    assert torch.equal(fit_features(detector, train).whitening, first)


def test_the_forecast_states_the_size_of_what_is_learned():
    detector, train = PaDiM(Levels(), 5), features_of(0, 20)
    forecast = detector.forecast([level[:2] for level in train], 20)
    fit_features(detector, train)
    assert "36 Gaussians of 5 channels" in forecast.text
    assert forecast.memory > 4 * (detector.mean.numel() + detector.whitening.numel())


def test_gaussians_that_do_not_fit_into_memory_are_refused_with_a_remedy(monkeypatch):
    class Wide(nn.Module):
        channels = (256, 512, 1024)

    forecast = PaDiM(Wide(), 550).forecast([torch.empty(1, 256, 56, 56)], 209)
    monkeypatch.setattr(stages, "available_memory", lambda: 2 * 10**9)
    with pytest.raises(AnoframeError, match=r"3,136 Gaussians of 550 channels, 2\.28 GB.*Lower model\.num_channels or"):
        stages._check_forecast(forecast, Trackers())


def test_the_summary_reports_positions_and_channels():
    detector = PaDiM(Levels(), 5)
    assert detector.summary() == MethodSummary()
    scalars = fit_features(detector, features_of(0, 5)).summary().scalars
    assert scalars == {"gaussians/positions": 36, "gaussians/channels": 5}
