"""sPRO of images added one at a time: equal to `auspro` at all scores, close to it at fewer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from anoframe.metrics import auspro
from anoframe.metrics.spro_histogram import SproHistogram, quantile_thresholds


def random_case(seed, size=24, ties=False):
    """Four smooth maps, the last two with regions that overlap and that are saturated at several areas."""
    rng = np.random.default_rng(seed)
    maps = gaussian_filter(rng.standard_normal((4, size, size)), (0, 1, 1)).astype(np.float32)
    regions = [[], [], [], []]
    for image in (2, 3):
        for area in (3.0, 40.0, 1000.0):
            mask = np.zeros((size, size), bool)
            top, left = rng.integers(0, size - 8, 2)
            mask[top : top + 8, left : left + 7] = True
            maps[image][mask] += 0.2
            regions[image].append((mask, area))
    return regions, np.round(maps, 1) if ties else maps


def histogram_of(regions, maps, thresholds):
    histogram = SproHistogram(thresholds)
    for image_regions, anomaly_map in zip(regions, maps, strict=True):
        histogram.add(image_regions, anomaly_map)
    return histogram


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_with_every_score_as_a_threshold_it_is_auspro(seed, ties, limit):
    regions, maps = random_case(seed, ties=ties)
    histogram = histogram_of(regions, maps, np.unique(maps))
    assert histogram.auspro(limit) == pytest.approx(auspro(regions, maps, limit), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_fewer_thresholds_are_within_the_stated_error(seed):
    regions, maps = random_case(seed, size=64)
    thresholds = quantile_thresholds(maps, 200)
    histogram = histogram_of(regions, maps, thresholds)
    normal = ~np.stack([np.any([np.zeros((64, 64), bool), *(m for m, _ in image)], axis=0) for image in regions])
    rates = [np.mean(maps[normal] >= threshold) for threshold in thresholds]
    step = max(-np.diff(rates))
    for limit in (0.05, 0.3):
        assert abs(histogram.auspro(limit) - auspro(regions, maps, limit)) < step / (2 * limit)
    fine = histogram_of(regions, maps, quantile_thresholds(maps, 10_000))
    assert fine.auspro(0.05) == pytest.approx(auspro(regions, maps, 0.05), abs=1e-4)


def test_thresholds_of_other_maps_include_all_scores():
    regions, maps = random_case(0)
    histogram = histogram_of(regions, maps, np.array([-100.0, 100.0]))  # one bin: the diagonal
    assert histogram.auspro(0.3) == pytest.approx(0.15)


def test_merged_histograms_are_those_of_all_images():
    regions, maps = random_case(1)
    thresholds = quantile_thresholds(maps, 100)
    merged = histogram_of(regions[:2], maps[:2], thresholds).merged(histogram_of(regions[2:], maps[2:], thresholds))
    assert merged.auspro(0.05) == histogram_of(regions, maps, thresholds).auspro(0.05)


def test_thresholds_are_distinct_rising_scores_and_dense_at_the_top():
    scores = np.random.default_rng(0).random(10_000).astype(np.float32)
    thresholds = quantile_thresholds(scores, 101)
    assert (np.diff(thresholds) > 0).all()
    assert np.isin(thresholds, scores).all()
    assert (thresholds[0], thresholds[-1]) == (scores.min(), scores.max())
    assert np.mean(thresholds > 0.75) == pytest.approx(0.5, abs=0.02)
    assert quantile_thresholds(np.ones(5), 10).tolist() == [1.0]


def test_without_a_region_or_a_normal_pixel_it_is_not_available():
    histogram = SproHistogram(np.array([0.5]))
    assert histogram.auspro(0.05) is None
    histogram.add([], np.zeros((2, 2)))
    assert histogram.auspro(0.05) is None
    filled = SproHistogram(np.array([0.5]))
    filled.add([(np.ones((2, 2), bool), 1)], np.zeros((2, 2)))
    assert filled.auspro(0.05) is None


def test_invalid_input_is_refused():
    histogram = SproHistogram(np.array([0.5]))
    with pytest.raises(ValueError, match="NaN"):
        histogram.add([], np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="shape of its map"):
        histogram.add([(np.ones((2, 3), bool), 1)], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="limit"):
        histogram.auspro(0)
