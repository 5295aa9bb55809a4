"""AUROC, average precision and F1-max, and their curves."""

import naive_metrics as naive
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anoframe.metrics import auroc, average_precision, f1_max, pr_curve, roc_curve

METRICS = [auroc, average_precision, f1_max]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)

examples = settings(max_examples=60, deadline=None)


@st.composite
def tied_scores(draw):
    """Labels with both classes, and scores with many ties."""
    pairs = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=24))
    labels = np.array([label for label, _ in pairs])
    assume(0 < labels.sum() < len(labels))
    return labels, np.array([score for _, score in pairs])


def random_case(seed, decimals):
    rng = np.random.default_rng(seed)
    labels = rng.random(500) < 0.2
    return labels, np.round(rng.normal(labels * 1.0, 1.0), decimals)


@each_metric
@examples
@given(case=tied_scores())
def test_metric_equals_the_naive_definition(metric, case):
    labels, scores = case
    assert metric(labels, scores) == pytest.approx(getattr(naive, metric.__name__)(labels, scores), abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_auroc_equals_scikit_learn(decimals):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = random_case(1, decimals)
    assert auroc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_average_precision_equals_scikit_learn(decimals):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, scores = random_case(2, decimals)
    assert average_precision(labels, scores) == pytest.approx(
        sklearn.average_precision_score(labels, scores), abs=1e-12
    )


@each_metric
@examples
@given(case=tied_scores(), steps=st.lists(st.floats(1e-3, 1e6), min_size=6, max_size=6), start=st.floats(-1e6, 1e6))
def test_metric_is_invariant_to_increasing_transforms(metric, case, steps, start):
    labels, scores = case
    levels = start + np.cumsum(steps)
    assume((np.diff(levels) > 0).all())
    assert metric(labels, levels[scores]) == metric(labels, scores)


@each_metric
def test_large_distances_rank_like_small_scores(metric):
    labels, scores = random_case(3, 12)
    distances = 45 + 5 * scores  # in float32, a sigmoid would map all of them to 1.0
    assert metric(labels, distances.astype(np.float32)) == pytest.approx(metric(labels, scores), abs=1e-6)


@each_metric
@examples
@given(case=tied_scores(), seed=st.integers(0, 99))
def test_order_does_not_matter(metric, case, seed):
    labels, scores = case
    order = np.random.default_rng(seed).permutation(len(labels))
    assert metric(labels[order], scores[order]) == metric(labels, scores)


@each_metric
def test_shape_does_not_matter(metric):
    labels, scores = random_case(4, 1)
    assert metric(labels.reshape(5, 10, 10), scores.reshape(5, 10, 10)) == metric(labels, scores)


@examples
@given(case=tied_scores())
def test_auroc_of_negated_scores_is_mirrored(case):
    labels, scores = case
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores), abs=1e-12)


@each_metric
def test_perfect_ranking_is_one(metric):
    assert metric([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]) == 1.0


def test_auroc_of_a_constant_score_is_one_half():
    assert auroc([0, 0, 0, 1], [7.0, 7.0, 7.0, 7.0]) == 0.5


def test_average_precision_of_a_constant_score_is_the_share_of_positives():
    assert average_precision([0, 0, 0, 1], [7.0, 7.0, 7.0, 7.0]) == 0.25


@each_metric
@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_single_class_is_not_available(metric, labels):
    assert metric(labels, [0.5] * len(labels)) is None


@pytest.mark.parametrize("curve", [roc_curve, pr_curve])
def test_single_class_has_no_curve(curve):
    assert curve([0, 0], [0.1, 0.2]) is None


@each_metric
def test_nan_is_an_error_with_its_index(metric):
    with pytest.raises(ValueError, match=r"2 NaN among 4 values, the first at index \(1,\)"):
        metric([0, 1, 0, 1], [0.1, np.nan, 0.2, np.nan])


def test_infinite_scores_are_first_and_last():
    assert auroc([0, 0, 1, 1], [-np.inf, 0.2, 0.1, np.inf]) == 0.75


@each_metric
def test_different_shapes_are_an_error(metric):
    with pytest.raises(ValueError, match=r"one shape; got \(3,\) and \(2,\)"):
        metric([0, 1, 1], [0.1, 0.2])


@each_metric
@pytest.mark.parametrize("labels", [[0, 255], [0, -1], [0.0, 0.5], [0.0, np.nan]])
def test_labels_other_than_0_and_1_are_an_error(metric, labels):
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        metric(labels, [0.1, 0.2])


def test_complex_scores_are_an_error():
    with pytest.raises(ValueError, match="real numbers; got dtype complex128"):
        auroc([0, 1], [0.1, 0.2j])


def test_float64_scores_that_float32_would_tie_stay_distinct():
    assert auroc([0, 1], np.array([1.0, 1.0 + 1e-12])) == 1.0


@each_metric
def test_float32_and_float64_of_the_same_values_agree(metric):
    labels, scores = random_case(5, 12)
    scores = scores.astype(np.float32)
    assert metric(labels, scores) == metric(labels, scores.astype(np.float64))


def test_input_scores_are_not_modified():
    scores = np.array([3.0, 1.0, 2.0])
    auroc([0, 0, 1], scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


def test_roc_curve_is_a_straight_line_across_a_tie():
    curve = roc_curve([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
    corners = list(dict.fromkeys(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True)))
    assert corners == [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]


def test_pr_curve_has_one_point_per_positive_score():
    recall, precision, thresholds = pr_curve([1, 0, 1, 0], [0.9, 0.7, 0.5, 0.1])
    assert (recall.tolist(), precision.tolist(), thresholds.tolist()) == ([0.5, 1.0], [1.0, 2 / 3], [0.9, 0.5])
