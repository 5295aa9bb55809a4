"""Intervals from resampling: against a loop that resamples one draw at a time, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anoframe.metrics.bootstrap import draw_images, draws_of_images, draws_of_values, interval, metrics_of_draws
from anoframe.metrics.ranking import auroc, average_precision, f1_max

ORACLES = {"image_auroc": auroc, "image_ap": average_precision, "image_f1max": f1_max}


def some_scores(seed, good=9, defects=14, ties=True):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [good, defects])
    scores = rng.normal(labels * 1.0)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("name", ORACLES)
@given(seed=st.integers(0, 10_000), good=st.integers(1, 8), defects=st.integers(1, 8))
def test_a_draw_is_worth_what_its_images_are_worth(name, seed, good, defects):
    labels, scores = some_scores(seed, good, defects)
    counts = draw_images(labels, np.random.default_rng(seed), 5)
    found = metrics_of_draws(labels, scores, counts)[name]
    for value, taken in zip(found, counts, strict=True):
        assert value == pytest.approx(ORACLES[name](np.repeat(labels, taken), np.repeat(scores, taken)), abs=1e-12)


def test_a_draw_has_as_many_good_images_and_defects_as_there_are():
    labels, _ = some_scores(0)
    counts = draw_images(labels, np.random.default_rng(0), 50)
    assert set(counts[:, labels == 0].sum(1)) == {9}
    assert set(counts[:, labels == 1].sum(1)) == {14}


def test_every_image_is_drawn_equally_often():
    labels, _ = some_scores(0)
    counts = draw_images(labels, np.random.default_rng(0), 20_000)
    assert counts.mean(0) == pytest.approx(np.ones(len(labels)), abs=0.05)


def test_several_seeds_are_averaged_over_the_same_draw():
    labels, one = some_scores(0)
    _, other = some_scores(1)
    counts = draw_images(labels, np.random.default_rng(0), 20)
    each = [metrics_of_draws(labels, scores, counts)["image_auroc"] for scores in (one, other)]
    both = draws_of_images(labels, [one, other], counts)["image_auroc"]
    assert both == pytest.approx((each[0] + each[1]) / 2)


def test_one_class_alone_has_no_metric():
    counts = draw_images([1, 1, 1], np.random.default_rng(0), 4)
    assert metrics_of_draws([1, 1, 1], [1.0, 2.0, 3.0], counts) == {}


def test_the_interval_of_images_is_that_of_scipy():
    labels, scores = some_scores(3, good=30, defects=40)
    known = interval(
        draws_of_images(labels, scores, draw_images(labels, np.random.default_rng(0), 8000))["image_auroc"]
    )

    def area(good, defects, axis):
        above = defects[..., None, :] > good[..., :, None]
        return (above + 0.5 * (defects[..., None, :] == good[..., :, None])).mean((-1, -2))

    theirs = stats.bootstrap(
        (scores[labels == 0], scores[labels == 1]),
        area,
        n_resamples=8000,
        batch=500,
        method="percentile",
        vectorized=True,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert known == pytest.approx(tuple(theirs), abs=0.01)


def test_the_interval_of_values_is_that_of_scipy():
    values = np.random.default_rng(0).uniform(0.8, 1.0, 12)
    known = interval(draws_of_values(values, np.random.default_rng(0), 20_000))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    assert known == pytest.approx(tuple(theirs), abs=0.002)


def test_the_interval_of_values_is_that_of_a_loop():
    values, rng = [0.7, 0.8, 0.95], np.random.default_rng(5)
    means = [np.mean(rng.choice(values, 3)) for _ in range(4000)]
    known = interval(draws_of_values(values, np.random.default_rng(0), 4000))
    assert known == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, truth = np.random.default_rng(7), stats.norm.cdf(1 / np.sqrt(2))
    inside = 0
    for _ in range(200):
        labels = np.repeat([0, 1], [60, 60])
        scores = rng.normal(labels * 1.0)
        low, high = interval(draws_of_images(labels, scores, draw_images(labels, rng, 400))["image_auroc"])
        inside += low <= truth <= high
    assert 0.89 <= inside / 200 <= 0.99
