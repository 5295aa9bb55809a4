"""Nearest-neighbour search, against brute force in float64."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components import nearest as module
from anoframe.models.components import smallest_columns
from anoframe.models.components.nearest import Search, exact_distances, nearest

examples = settings(max_examples=25, deadline=None)


def brute_force(queries, bank, k):
    """The `k` smallest distances in float64, sorted."""
    distances = torch.cdist(queries.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sort(dim=1).values[:, :k]


def points(seed, rows, width, dtype=torch.float64):
    return torch.randn(rows, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@examples
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 12),
    rows=st.integers(1, 30),
    width=st.integers(1, 8),
    k=st.integers(1, 12),
    chunk=st.integers(1, 13),
)
def test_equals_brute_force(seed, queries, rows, width, k, chunk):
    q, bank = points(seed, queries, width), points(seed + 1, rows, width)
    distances, _ = nearest(q, bank, k, chunk)
    assert_allclose(distances, brute_force(q, bank, k), atol=1e-12, rtol=1e-12)


def test_float32_equals_brute_force_in_float64_on_patches_of_real_width(device):
    q, bank = points(0, 100, 1024, torch.float32), points(1, 700, 1024, torch.float32)
    distances, _ = nearest(q.to(device), bank.to(device), 9)
    assert_allclose(distances.cpu().double(), brute_force(q, bank, 9), atol=0, rtol=1e-6)


def test_the_device_does_not_matter(device):
    q, bank = points(2, 50, 64, torch.float32), points(3, 300, 64, torch.float32)
    here, there = nearest(q, bank, 5), nearest(q.to(device), bank.to(device), 5)
    assert_allclose(there[0].cpu(), here[0], atol=0, rtol=1e-6)
    assert torch.equal(there[1].cpu(), here[1])


def test_indices_are_the_rows_at_the_returned_distances():
    q, bank = points(4, 20, 5), points(5, 50, 5)
    distances, indices = nearest(q, bank, 4)
    assert_allclose((q[:, None] - bank[indices]).norm(dim=2), distances, atol=1e-14, rtol=0)


def test_neighbours_of_a_query_are_distinct_rows():
    bank = points(6, 5, 3).repeat(4, 1)  # every row four times
    _, indices = nearest(points(7, 30, 3), bank, 12)
    assert all(len(set(row)) == 12 for row in indices.tolist())


def test_distances_are_in_ascending_order():
    distances, _ = nearest(points(8, 40, 6, torch.float32), points(9, 200, 6, torch.float32), 20)
    assert (distances.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_a_row_of_the_bank_has_distance_exactly_zero_to_itself(scale, device):
    bank = (points(10, 200, 96, torch.float32) * scale).to(device)
    distances, indices = nearest(bank, bank)
    assert torch.equal(distances[:, 0], torch.zeros(200, device=device))
    assert torch.equal(indices[:, 0], torch.arange(200, device=device))


@examples
@given(seed=st.integers(0, 10**6), kept=st.integers(1, 39), k=st.integers(1, 5))
def test_a_subset_of_the_bank_is_never_nearer_than_the_whole(seed, kept, k):
    q, bank = points(seed, 10, 4, torch.float32), points(seed + 1, 40, 4, torch.float32)
    whole, part = nearest(q, bank, k)[0], nearest(q, bank[:kept], k)[0]
    assert (part >= whole[:, : part.shape[1]]).all()


@pytest.mark.parametrize("chunk", [1, 3, 64, 1000])
def test_chunk_size_does_not_matter(chunk):
    q, bank = points(11, 64, 32, torch.float32), points(12, 300, 32, torch.float32)
    whole, parts = nearest(q, bank, 3), nearest(q, bank, 3, chunk=chunk)
    assert torch.equal(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


def test_the_number_of_gathered_values_does_not_matter(monkeypatch):
    q, bank = points(13, 40, 16, torch.float32), points(14, 100, 16, torch.float32)
    candidates = torch.arange(100).expand(40, -1)
    whole = exact_distances(q, bank, candidates)
    monkeypatch.setattr(module, "_GATHERED", 1)
    assert torch.equal(exact_distances(q, bank, candidates), whole)


def test_more_neighbours_than_rows_return_all_rows():
    distances, indices = nearest(points(15, 7, 3), points(16, 4, 3), 9)
    assert distances.shape == (7, 4)
    assert indices.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 7


def test_an_empty_query_returns_an_empty_result():
    distances, indices = nearest(torch.empty(0, 3), torch.zeros(5, 3), 2)
    assert distances.shape == indices.shape == (0, 2)


def test_equally_near_rows_are_returned_in_the_order_of_the_bank():
    bank = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    distances, indices = nearest(torch.zeros(1, 2), bank, 4)
    assert distances.tolist() == [[1, 1, 1, 1]]
    assert indices.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_the_fast_formula_loses_no_neighbour(seed):
    # the distances of eight rows to the query differ by less than the rounding error of |a|^2 + |b|^2 - 2ab
    lengths = 1 + 1e-6 * torch.rand(8, 1, generator=torch.Generator().manual_seed(seed))
    query = 20 * F.normalize(points(seed + 100, 1, 256)).float()
    near_query = (query + lengths * F.normalize(points(seed, 8, 256))).float()
    bank = torch.cat([near_query, -query + points(seed + 200, 92, 256).float()])
    all_distances = exact_distances(query, bank, torch.arange(100)[None])
    assert torch.equal(nearest(query, bank)[0], all_distances.min(1, keepdim=True).values)


@examples
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 400), k=st.integers(1, 4), block=st.integers(1, 10))
def test_neighbours_from_block_minima_equal_brute_force(seed, rows, k, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smallest_columns, "_BLOCK", block)
        patch.setattr(module, "SPARE", 0)
        q, bank = points(seed, 7, 5), points(seed + 1, rows, 5)
        assert_allclose(nearest(q, bank, k)[0], brute_force(q, bank, k), atol=1e-7)


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_near_returns_the_same_rows_in_ascending_order(chunk, device):
    q, bank = points(19, 30, 16).to(device), points(20, 200, 16).to(device)
    rows = Search(bank).near(q, 12, chunk)
    assert torch.equal(rows, nearest(q, bank, 12)[1].sort(dim=1).values)


def test_near_returns_at_most_the_rows_of_the_bank():
    assert Search(points(22, 5, 4)).near(points(21, 3, 4), 64).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_faiss_finds_the_same_rows_at_the_same_distances():
    pytest.importorskip("faiss")
    q, bank = points(23, 40, 32, torch.float32), points(24, 300, 32, torch.float32)
    results, expected = Search(bank, "faiss").nearest(q, 5), nearest(q, bank, 5)
    assert torch.equal(results[0], expected[0])
    assert torch.equal(results[1], expected[1])


def test_missing_faiss_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(AnoframeError, match=r"anoframe\[faiss\]"):
        Search(points(0, 3, 4), "faiss")


def test_an_unknown_engine_is_an_error():
    with pytest.raises(AnoframeError, match="torch, faiss"):
        Search(points(0, 3, 4), "annoy")


@pytest.mark.parametrize(("offset", "spread"), [(10.0, 0.01), (100.0, 0.1), (1000.0, 1.0)])
def test_points_far_from_the_origin_keep_their_nearest_neighbour(offset, spread):
    # without centring, |b|^2 - 2ab loses the differences here: float32 keeps 7 digits, and these values agree in all 7
    q = offset + spread * points(17, 100, 64, torch.float32)
    bank = offset + spread * points(18, 2000, 64, torch.float32)
    assert_allclose(nearest(q, bank)[0].double(), brute_force(q, bank, 1), atol=0, rtol=1e-5)


@examples
@given(seed=st.integers(0, 10**6))
def test_a_common_shift_does_not_change_distances(seed):
    q, bank, shift = points(seed, 8, 6), points(seed + 1, 30, 6), points(seed + 2, 1, 6)
    assert_allclose(nearest(q + shift, bank + shift, 3)[0], nearest(q, bank, 3)[0], atol=1e-12, rtol=0)
