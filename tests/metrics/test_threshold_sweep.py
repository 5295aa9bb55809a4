"""The threshold sweep: counts, chunks, dtypes, memory."""

import tracemalloc
from unittest import mock

import naive_metrics as naive
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anoframe.metrics import threshold_sweep
from anoframe.metrics.threshold_sweep import count_scores, sweep_threshold

examples = settings(max_examples=150, deadline=None)

SPECIAL = [-np.inf, -0.0, 0.0, np.inf]
CLOSE = [1.0, np.nextafter(1.0, 2), 1 + 1e-12]  # equal in float32
TIED_VALUES = {  # dtype -> a few values, so that many scores are equal
    "float16": [*SPECIAL, 1.0, 6e-8],
    "float32": [*SPECIAL, 1.0, np.nextafter(np.float32(1), np.float32(2)), 1e-45, -1e-45],
    "float64": [*SPECIAL, *CLOSE, 5e-324],
    "int64": [2**62, 2**62 + 1, -(2**62), 0],  # the first two are equal in float64
    "uint8": [0, 1, 254, 255],
    "int8": [-128, -1, 0, 127],
    "bool": [False, True],
}


@st.composite
def any_scores(draw):
    """Labels with both classes, scores of any real dtype, and a chunk size that may split them anywhere."""
    dtype = draw(st.sampled_from(sorted(TIED_VALUES)))
    elements = st.sampled_from(TIED_VALUES[dtype])
    if dtype.startswith("float"):
        elements |= st.floats(-100, 100, width=int(dtype[5:]))
    size = draw(st.integers(2, 40))
    labels = draw(arrays(bool, size))
    assume(labels.any() and not labels.all())
    return labels, draw(arrays(dtype, size, elements=elements)), draw(st.integers(1, size + 1))


def in_chunks(size, per_threshold=0):
    return mock.patch.multiple(threshold_sweep, CHUNK=size, CHUNK_PER_THRESHOLD=per_threshold)


@examples
@given(case=any_scores())
def test_counts_equal_brute_force(case):
    labels, scores, size = case
    thresholds = np.unique(scores[labels])
    with in_chunks(size):
        below, up_to = count_scores(scores, thresholds)
    assert below.tolist() == [sum(s < t for s in scores.tolist()) for t in thresholds.tolist()]
    assert up_to.tolist() == [sum(s <= t for s in scores.tolist()) for t in thresholds.tolist()]


@examples
@given(case=any_scores())
def test_sweep_equals_brute_force(case):
    labels, scores, size = case
    with in_chunks(size):
        sweep = sweep_threshold(labels, scores)
    positives, normals = scores[labels].tolist(), scores[~labels].tolist()
    thresholds = sorted(set(positives), reverse=True)
    assert (sweep.thresholds.tolist(), sweep.thresholds.dtype) == (thresholds, scores.dtype)
    assert sweep.hits.tolist() == [sum(p >= t for p in positives) for t in thresholds]
    assert sweep.false_above.tolist() == [sum(n > t for n in normals) for t in thresholds]
    assert sweep.false_at.tolist() == [sum(n >= t for n in normals) for t in thresholds]
    assert (sweep.positives, sweep.normals) == (len(positives), len(normals))


@examples
@given(case=any_scores())
def test_metrics_of_any_dtype_and_chunk_size_equal_the_naive_definition(case):
    labels, scores, size = case
    with in_chunks(size):
        sweep = sweep_threshold(labels, scores)
    assert sweep.auroc() == pytest.approx(naive.auroc(labels, scores), abs=1e-12)
    assert sweep.average_precision() == pytest.approx(naive.average_precision(labels, scores), abs=1e-12)
    assert sweep.f1_max() == pytest.approx(naive.f1_max(labels, scores), abs=1e-12)


@pytest.mark.parametrize("share", [0.001, 0.5])
@pytest.mark.parametrize("decimals", [0, 2, 16])
def test_chunk_size_does_not_change_the_result(share, decimals):
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < share
    scores = np.round(rng.normal(labels * 1.0, 1.0), decimals)
    whole = sweep_threshold(labels, scores)
    with in_chunks(999):
        chunked = sweep_threshold(labels, scores)
    assert all(np.array_equal(getattr(whole, name), getattr(chunked, name)) for name in vars(whole))


@pytest.mark.parametrize("view", ["transposed", "strided", "reversed", "read-only"])
def test_memory_layout_does_not_matter(view):
    scores = np.random.default_rng(1).integers(0, 50, (30, 40, 2)).astype(np.float32)
    thresholds = np.unique(scores[0])
    flat = scores[..., 0].copy()
    views = {"transposed": flat.T, "strided": scores[..., 0], "reversed": flat[::-1], "read-only": flat.view()}
    views[view].flags.writeable = False
    assert np.array_equal(count_scores(views[view], thresholds), count_scores(flat.ravel(), thresholds))


def test_memory_depends_on_the_positives_and_not_on_the_scores():
    rng = np.random.default_rng(2)
    scores = rng.random(2**21, dtype=np.float32)
    labels = np.zeros(scores.shape, dtype=bool)
    labels[:1000] = True
    with in_chunks(2**12, per_threshold=32):
        tracemalloc.start()
        sweep_threshold(labels, scores)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < scores.nbytes / 10
