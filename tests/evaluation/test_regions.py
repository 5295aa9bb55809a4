"""Regions above a threshold, compared with SciPy's labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anoframe.evaluation.regions import find_regions


def regions_by_labels(values, threshold):
    """The same by `scipy.ndimage`, 8-connected."""
    labels, count = ndimage.label(values >= threshold, np.ones((3, 3)))
    found = []
    for index in range(1, count + 1):
        rows, columns = np.nonzero(labels == index)
        peak = np.argmax(values[rows, columns])
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        found.append((*box, len(rows), columns[peak], rows[peak], values[rows, columns][peak]))
    return sorted(found)


def as_tuples(regions):
    return sorted(tuple(region.to_json().values()) for region in regions)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 10**6),
    threshold=st.integers(1, 9),
    band=st.integers(1, 20),
)
def test_regions_are_those_of_scipy(shape, seed, threshold, band):
    values = np.random.default_rng(seed).integers(0, 10, shape).astype(np.float32)
    bands = [values[start : start + band] for start in range(0, shape[0], band)]
    assert as_tuples(find_regions(bands, threshold)) == regions_by_labels(values, threshold)


def test_the_region_with_the_largest_peak_is_first():
    values = np.float32([[3, 0, 5, 0, 4]])
    assert [region.peak for region in find_regions([values], 3)] == [5, 4, 3]


def test_values_without_a_score_are_in_no_region():
    values = np.float32([[np.nan, 2, -np.inf]])
    (region,) = find_regions([values], 1)
    assert (region.x, region.width, region.area) == (1, 1, 1)


def test_a_spiral_is_one_region():
    spiral = np.zeros((9, 9), np.float32)
    spiral[0], spiral[:, 8], spiral[8], spiral[2:, 0], spiral[2, :7], spiral[2:7, 6] = 1, 1, 1, 1, 1, 1
    (region,) = find_regions([spiral], 1)
    assert region.area == int(spiral.sum())


@pytest.mark.parametrize("bands", [[], [np.zeros((3, 4), np.float32)]])
def test_there_may_be_none(bands):
    assert find_regions(bands, 1) == []
