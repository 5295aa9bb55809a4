"""Bootstrap intervals, compared with a loop over draws and with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anoframe.metrics import auroc, average_precision, f1_max
from anoframe.metrics.bootstrap import interval, mean_metrics_per_draw, mean_per_draw, metrics_per_draw, resample_images

METRICS = {"image_auroc": auroc, "image_ap": average_precision, "image_f1max": f1_max}


def random_scores(seed, good=9, defects=14, ties=True):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [good, defects])
    scores = rng.normal(labels * 1.0)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 10_000), good=st.integers(1, 8), defects=st.integers(1, 8))
def test_metric_of_a_draw_is_that_of_its_images(name, seed, good, defects):
    labels, scores = random_scores(seed, good, defects)
    counts = resample_images(labels, np.random.default_rng(seed), 5)
    values = metrics_per_draw(labels, scores, counts)[name]
    for value, taken in zip(values, counts, strict=True):
        assert value == pytest.approx(METRICS[name](np.repeat(labels, taken), np.repeat(scores, taken)), abs=1e-12)


def test_draw_has_the_number_of_images_of_each_class():
    labels, _ = random_scores(0)
    counts = resample_images(labels, np.random.default_rng(0), 50)
    assert set(counts[:, labels == 0].sum(1)) == {9}
    assert set(counts[:, labels == 1].sum(1)) == {14}


def test_all_images_are_drawn_with_the_same_frequency():
    labels, _ = random_scores(0)
    counts = resample_images(labels, np.random.default_rng(0), 20_000)
    assert counts.mean(0) == pytest.approx(np.ones(len(labels)), abs=0.05)


def test_seeds_are_averaged_over_the_same_draw():
    labels, first = random_scores(0)
    _, second = random_scores(1)
    counts = resample_images(labels, np.random.default_rng(0), 20)
    values = [metrics_per_draw(labels, scores, counts)["image_auroc"] for scores in (first, second)]
    mean = mean_metrics_per_draw(labels, [first, second], counts)["image_auroc"]
    assert mean == pytest.approx((values[0] + values[1]) / 2)


def test_single_class_has_no_metric():
    counts = resample_images([1, 1, 1], np.random.default_rng(0), 4)
    assert metrics_per_draw([1, 1, 1], [1.0, 2.0, 3.0], counts) == {}


def test_interval_over_images_equals_scipy():
    labels, scores = random_scores(3, good=30, defects=40)
    ours = interval(
        mean_metrics_per_draw(labels, scores, resample_images(labels, np.random.default_rng(0), 8000))["image_auroc"]
    )

    def area(good, defects, axis):
        above = defects[..., None, :] > good[..., :, None]
        return (above + 0.5 * (defects[..., None, :] == good[..., :, None])).mean((-1, -2))

    expected = stats.bootstrap(
        (scores[labels == 0], scores[labels == 1]),
        area,
        n_resamples=8000,
        batch=500,
        method="percentile",
        vectorized=True,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert ours == pytest.approx(tuple(expected), abs=0.01)


def test_interval_over_values_equals_scipy():
    values = np.random.default_rng(0).uniform(0.8, 1.0, 12)
    ours = interval(mean_per_draw(values, np.random.default_rng(0), 20_000))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx(tuple(expected), abs=0.002)


def test_interval_over_values_equals_a_loop():
    values, rng = [0.7, 0.8, 0.95], np.random.default_rng(5)
    means = [np.mean(rng.choice(values, 3)) for _ in range(4000)]
    ours = interval(mean_per_draw(values, np.random.default_rng(0), 4000))
    assert ours == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_interval_has_its_nominal_coverage():
    rng, truth = np.random.default_rng(7), stats.norm.cdf(1 / np.sqrt(2))
    inside = 0
    for _ in range(200):
        labels = np.repeat([0, 1], [60, 60])
        scores = rng.normal(labels * 1.0)
        low, high = interval(mean_metrics_per_draw(labels, scores, resample_images(labels, rng, 400))["image_auroc"])
        inside += low <= truth <= high
    assert 0.89 <= inside / 200 <= 0.99
