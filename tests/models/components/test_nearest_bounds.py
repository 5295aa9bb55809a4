"""Nearest-neighbour search with lower bounds, against brute force in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models.components.test_nearest import brute_force, examples, points
from numpy.testing import assert_allclose

from anoframe.models.components import nearest as nearest_module
from anoframe.models.components import nearest_bounds as module
from anoframe.models.components.nearest import Search, exact_distances
from anoframe.models.components.nearest_bounds import Bfloat16Bounds, build_bounds


@pytest.fixture(scope="module")
def bounds_for_small_banks():
    """Enables bounds along axes, and no others, for banks of a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LARGE_BANK", 10)
        patch.setattr(module, "multiplies_bfloat16", lambda: False)
        yield


def bfloat16_search(bank):
    """A search with bounds from a product in bfloat16 alone, on any processor."""
    search = Search(bank)
    search._bounds = [Bfloat16Bounds(bank - search._centre)]
    return search


def along_few_axes(seed, rows, width=100, axes=6, rest=0.05):
    """Points with most of their variance along six axes, far from the origin."""
    directions = points(99, axes, width)
    return 3 + points(seed, rows, axes) @ directions + rest * points(seed + 1, rows, width)


@examples
@given(seed=st.integers(0, 10**6), k=st.integers(1, 30), rest=st.floats(0, 0.3))
def test_search_with_bounds_equals_brute_force(bounds_for_small_banks, seed, k, rest):
    bank, q = along_few_axes(seed, 60, rest=0.05).float(), along_few_axes(seed + 7, 20, rest=rest).float()
    search = Search(bank)
    assert search._bounds
    distances, indices = search.nearest(q, k)
    assert_allclose(distances.double(), brute_force(q, bank, k), atol=1e-6, rtol=1e-5)
    assert torch.equal(distances, exact_distances(q, bank, indices))


def test_queries_that_bounds_leave_undecided_are_searched_in_all_dimensions(bounds_for_small_banks, monkeypatch):
    monkeypatch.setattr(nearest_module, "_MANY", 1)
    # twenty rows per position along the axes, which differ only in the residual: all their bounds are near zero
    positions = along_few_axes(3, 10, rest=0)
    bank = (positions.repeat(20, 1) + 0.5 * points(5, 200, 100)).float()
    q = (positions + 0.5 * points(4, 10, 100)).float()
    search, searched = Search(bank), []
    full = search._nearest
    assert search._bounds
    monkeypatch.setattr(search, "_nearest", lambda part, k: (searched.append(len(part)), full(part, k))[1])
    assert_allclose(search.nearest(q)[0].double(), brute_force(q, bank, 1), rtol=1e-5)
    assert sum(searched) > 0


def test_bounds_are_switched_off_if_they_leave_most_queries_undecided(bounds_for_small_banks, monkeypatch):
    monkeypatch.setattr(nearest_module, "_MANY", 1)
    positions = along_few_axes(3, 10, rest=0)
    bank = (positions.repeat(20, 1) + 0.5 * points(5, 200, 100)).float()
    search = Search(bank)
    search.nearest((positions + 0.5 * points(4, 10, 100)).float())
    assert not search._bounds


def test_more_candidates_decide_what_a_few_leave_undecided(bounds_for_small_banks, monkeypatch):
    # as above: about twenty rows have bounds near zero, and 33 candidates contain them
    positions = along_few_axes(3, 10, rest=0)
    bank = (positions.repeat(20, 1) + 0.5 * points(5, 200, 100)).float()
    q = (positions + 0.5 * points(4, 10, 100)).float()
    search = Search(bank)
    monkeypatch.setattr(search, "_nearest", None)  # calling it would raise TypeError
    assert_allclose(search.nearest(q)[0].double(), brute_force(q, bank, 1), rtol=1e-5)


def test_decisive_bounds_avoid_the_search_in_all_dimensions(bounds_for_small_banks, monkeypatch):
    bank, q = along_few_axes(5, 300, rest=0.01).float(), along_few_axes(6, 20, rest=0.01).float()
    search, searched = Search(bank), []
    full = search._nearest
    assert search._bounds
    monkeypatch.setattr(search, "_nearest", lambda part, k: (searched.append(len(part)), full(part, k))[1])
    search.nearest(q)
    assert sum(searched) < 10


def test_search_with_bounds_returns_the_first_of_equal_rows(bounds_for_small_banks):
    bank = along_few_axes(8, 40).float().repeat(3, 1)
    assert Search(bank).nearest(bank[:40], 2)[1].tolist() == [[i, i + 40] for i in range(40)]


@pytest.mark.parametrize("rows", [9, 400])
def test_no_bounds_are_built_if_they_would_save_nothing(bounds_for_small_banks, rows):
    assert not Search(points(9, rows, 100).float())._bounds  # few rows, or equal variance along all axes


@examples
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 30),
    width=st.integers(1, 300),
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-3, 3),
)
def test_search_with_bfloat16_equals_brute_force(seed, k, width, scale, offset):
    bank = ((points(seed, 60, width) + offset) * scale).float()
    q = ((points(seed + 1, 20, width) + offset) * scale).float()
    search = bfloat16_search(bank)
    distances, indices = search.nearest(q, k)
    assert_allclose(distances.double(), brute_force(q, bank, k), atol=1e-6 * scale, rtol=1e-5)
    assert torch.equal(distances, exact_distances(q, bank, indices))


@examples
@given(seed=st.integers(0, 10**6), count=st.integers(1, 39), width=st.integers(1, 200))
def test_bfloat16_bounds_are_never_above_a_distance(seed, count, width):
    rows, q = points(seed, 40, width).float(), points(seed + 1, 10, width).float()
    bounds = Bfloat16Bounds(rows)
    scores = bounds.scores(q)[:, : len(rows)].sort(dim=1)
    candidates, others = scores.indices[:, :count], bounds.distances(q, scores.values[:, count])
    distances = torch.cdist(q.double(), rows.double()).scatter(1, candidates, torch.inf)
    assert (others.double() <= distances.min(1).values).all()


def test_bfloat16_decides_most_queries_in_clusters(monkeypatch):
    centres = 2 * points(1, 20, 256)
    bank, q = (centres.repeat(10, 1) + points(2, 200, 256)).float(), (centres + points(3, 20, 256)).float()
    search, searched = bfloat16_search(bank), []
    full = search._nearest
    monkeypatch.setattr(search, "_nearest", lambda part, k: (searched.append(len(part)), full(part, k))[1])
    search.nearest(q)
    assert sum(searched) < 10


def test_rows_that_bfloat16_cannot_tell_apart_are_searched_in_float32():
    bank = (1 + 1e-2 * points(4, 200, 64)).float()
    bank = torch.cat([bank, -bank])  # far from the mean, so that bfloat16 rounds all neighbours to one value
    q = (1 + 1e-2 * points(5, 20, 64)).float()
    search = bfloat16_search(bank)
    distances, indices = search.nearest(q)
    assert_allclose(distances.double(), brute_force(q, bank, 1), rtol=1e-4)
    assert not search._bounds  # switched off, because they decided nothing
    assert torch.equal(search.nearest(q)[1], indices)


def test_equal_rows_are_returned_in_the_order_of_the_bank_with_bfloat16():
    bank = points(6, 40, 32).float().repeat(3, 1)
    assert bfloat16_search(bank).nearest(bank[:40], 2)[1].tolist() == [[i, i + 40] for i in range(40)]


def test_the_results_of_bfloat16_bounds_are_the_same_bytes():
    bank, q = points(7, 500, 64).float(), points(8, 100, 64).float()
    search = bfloat16_search(bank)
    with_bounds = search.nearest(q, 3)
    search._bounds = []
    without = search.nearest(q, 3)
    assert torch.equal(with_bounds[0], without[0])
    assert torch.equal(with_bounds[1], without[1])


def test_bfloat16_bounds_are_built_for_float32_on_processors_that_multiply_it(monkeypatch):
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    assert [type(each) for each in build_bounds(points(9, 40, 8).float())] == [Bfloat16Bounds]
    assert not build_bounds(points(9, 40, 8))
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    assert not build_bounds(points(9, 40, 8).float())
