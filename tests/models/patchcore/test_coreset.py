"""Coreset selection, against the plain loop over all distances."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from anoframe.errors import AnoframeError
from anoframe.models.patchcore import coreset as module
from anoframe.models.patchcore.coreset import METHODS, coreset_size, greedy_coreset, random_projection

examples = settings(max_examples=25, deadline=None)
each_method = pytest.mark.parametrize("method", METHODS)

TRAINING_IMAGES = {"bottle": 209, "screw": 320, "hazelnut": 391, "toothbrush": 60}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(seed, rows, width=3, dtype=torch.float64):
    return torch.randn(rows, width, dtype=dtype, generator=generator(seed))


def all_distances(rows):
    return torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")


def naive_greedy(rows, size, method, seed):
    """The loop of the reference code on the full distance matrix, with distances that are not squared."""
    distances = all_distances(rows)
    if method == "exact":
        score = distances.norm(dim=1)
    else:
        score = distances[:, torch.randperm(len(rows), generator=generator(seed))[:10]].mean(1)
    picks = []
    for _ in range(size):
        picks.append(int(score.argmax()))
        score = torch.minimum(score, distances[:, picks[-1]])
    return picks


def radius(rows, picks):
    """Largest distance of a row to its nearest pick."""
    return float(all_distances(rows)[:, picks].min(1).values.max())


@pytest.mark.parametrize(
    ("category", "ratio", "size"),
    [
        ("bottle", 0.01, 1_638),
        ("bottle", 0.1, 16_385),
        ("bottle", 0.25, 40_964),
        ("screw", 1.0, 250_880),
        ("hazelnut", 1.0, 306_544),
        ("toothbrush", 1.0, 47_040),
    ],
)
def test_sizes_of_the_published_banks(category, ratio, size):
    assert coreset_size(TRAINING_IMAGES[category] * 784, ratio) == size


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 10, math.nan, math.inf])
def test_a_ratio_outside_zero_to_one_is_an_error(ratio):
    with pytest.raises(AnoframeError, match=r"model\.coreset\.ratio"):
        coreset_size(1000, ratio)


def test_a_ratio_that_leaves_an_empty_bank_is_an_error():
    with pytest.raises(AnoframeError, match=r"model\.coreset\.ratio 0\.001 of 999 patches"):
        coreset_size(999, 0.001)


@each_method
@examples
@given(seed=st.integers(0, 10**6), rows=st.integers(3, 40), share=st.floats(0.01, 0.99))  # of 2, both are farthest
def test_equals_the_loop_over_all_distances(method, seed, rows, share):
    x, size = points(seed, rows), max(1, int(share * rows))
    assert greedy_coreset(x, size, method, generator(seed)).tolist() == naive_greedy(x, size, method, seed)


@pytest.fixture(params=[(1, 1), (2, 4), (10, 3), (40, 8)], ids=lambda param: f"{param[0]} values, {param[1]} hot")
def few_active(monkeypatch, request):
    """Few rows are active, so the bounds of the others are updated again and again."""
    monkeypatch.setattr(module, "_ACTIVE", request.param[0])
    monkeypatch.setattr(module, "_HOT", request.param[1])
    monkeypatch.setattr(module, "_UPDATE_CHUNK", 7)
    monkeypatch.setattr(module, "_MEASURE_CHUNK", 3)
    monkeypatch.setattr(module, "_BLOCK", 50)


@each_method
@pytest.mark.parametrize(("rows", "size"), [(16, 15), (100, 30), (300, 200)])
def test_equals_the_loop_over_all_distances_when_few_rows_are_active(method, rows, size, few_active):
    x = points(30, rows)
    assert greedy_coreset(x, size, method, generator(30)).tolist() == naive_greedy(x, size, method, 30)


def clusters(seed, rows, width, dtype=torch.float32):
    centres = 2 * points(seed, 20, width)
    return (centres[torch.randint(20, (rows,), generator=generator(seed))] + points(seed + 1, rows, width)).to(dtype)


@each_method
@pytest.mark.parametrize("seed", range(3))
def test_float32_rows_give_the_picks_of_the_loop_in_float64(method, seed):
    # hundreds of picks among rows so similar that float32 products would change their order
    x = clusters(10 * seed, 1500, 64)
    assert greedy_coreset(x, 300, method, generator(seed)).tolist() == naive_greedy(x, 300, method, seed)


@each_method
def test_rows_that_float32_products_cannot_distinguish(method):
    offsets = points(40, 400, 24)
    x = 30 * torch.nn.functional.normalize(points(41, 1, 24)) + 1e-3 * offsets  # float64 distinguishes them
    assert greedy_coreset(x, 200, method, generator(9)).tolist() == naive_greedy(x, 200, method, 9)


@each_method
def test_the_number_of_threads_does_not_matter(method):
    x, threads = clusters(50, 2000, 32), torch.get_num_threads()
    one_thread = greedy_coreset(x, 200, method, generator())
    try:
        torch.set_num_threads(2)
        assert torch.equal(greedy_coreset(x, 200, method, generator()), one_thread)
    finally:
        torch.set_num_threads(threads)


@each_method
def test_one_row_of_each_kind_is_picked_first_if_more_rows_are_equal_than_can_be_hot(method, monkeypatch):
    monkeypatch.setattr(module, "_ACTIVE", 64)
    monkeypatch.setattr(module, "_HOT", 4)
    monkeypatch.setattr(module, "_HOT_MAX", 16)
    copies = points(51, 3, 8).float()[torch.arange(1500) % 3]
    picks = greedy_coreset(copies, 40, method, generator()).tolist()
    assert {pick % 3 for pick in picks[:3]} == {0, 1, 2}
    assert len(set(picks)) == 40


@each_method
def test_a_read_only_memory_map_gives_the_same_picks(method, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 1000)
    x = clusters(52, 700, 16)
    x.numpy().tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(700, 16))
    assert torch.equal(greedy_coreset(mapped, 90, method, generator()), greedy_coreset(x, 90, method, generator()))


@each_method
@pytest.mark.parametrize("kinds", [1, 2, 20])
def test_duplicates_are_picked_once_when_few_rows_are_active(method, kinds, few_active):
    copies = points(31, kinds, 2)[torch.arange(60) % kinds]
    picks = greedy_coreset(copies, 59, method, generator()).tolist()
    assert len(set(picks)) == 59
    assert {pick % kinds for pick in picks[:kinds]} == set(range(kinds))


@each_method
@pytest.mark.parametrize("kinds", [1, 2, 20])
def test_among_equal_distances_the_earlier_row_is_picked(method, kinds):
    copies = points(32, kinds, 2)[torch.arange(60) % kinds]
    picks = greedy_coreset(copies, 59, method, generator()).tolist()
    assert sorted(picks[:kinds]) == list(range(kinds)), "the first copy of each kind"
    assert picks[kinds:] == list(range(kinds, 59)), "then all distances are zero"


@each_method
def test_the_device_does_not_matter(method, device):
    x = points(1, 400, 16)
    picks = greedy_coreset(x.to(device), 60, method, generator())
    assert picks.tolist() == greedy_coreset(x, 60, method, generator()).tolist()


@each_method
@examples
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), share=st.floats(0, 1))
def test_picks_are_distinct_rows(method, seed, rows, share):
    # few distinct values, so many rows are duplicates
    x = torch.randint(0, 2, (rows, 2), generator=generator(seed)).float()
    size = max(1, int(share * rows))
    picks = greedy_coreset(x, size, method, generator(seed)).tolist()
    assert len(set(picks)) == len(picks) == size


@each_method
@examples
@given(seed=st.integers(0, 10**6), small=st.integers(1, 29), large=st.integers(1, 29))
def test_a_smaller_coreset_is_a_prefix_of_a_larger_one(method, seed, small, large):
    assume(small < large)
    x = points(seed, 30)
    picks = greedy_coreset(x, large, method, generator(seed)).tolist()
    assert greedy_coreset(x, small, method, generator(seed)).tolist() == picks[:small]


def test_exact_on_a_line_picks_the_far_end_then_the_other():
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert greedy_coreset(line, 2, "exact").tolist() == [3, 0]


def test_approximate_starts_at_the_row_with_the_largest_mean_distance_to_the_start_rows():
    x = points(2, 50)
    starts = torch.randperm(50, generator=generator(7))[:4]
    expected = int(all_distances(x)[:, starts].mean(1).argmax())
    assert greedy_coreset(x, 1, "approximate", generator(7), start_points=4).tolist() == [expected]


def test_more_start_points_than_rows_use_all_rows():
    x = points(3, 6)
    expected = int(all_distances(x).mean(1).argmax())
    assert greedy_coreset(x, 1, "approximate", generator(), start_points=50).tolist() == [expected]


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("seed", range(5))
def test_exact_covers_within_twice_the_optimum(seed, size):
    x = points(seed, 12, 2)
    choices = torch.tensor(list(itertools.combinations(range(12), size)))
    best = float(all_distances(x)[:, choices].min(2).values.max(0).values.min())
    assert radius(x, greedy_coreset(x, size, "exact")) <= 2 * best


@each_method
@pytest.mark.parametrize("seed", range(5))
def test_no_duplicate_is_picked_before_all_distinct_points(method, seed):
    distinct = points(seed, 8, 16, torch.float32)
    copies = torch.arange(8).repeat_interleave(5)[torch.randperm(40, generator=generator(seed))]
    picks = greedy_coreset(distinct[copies], 8, method, generator(seed))
    assert sorted(copies[picks].tolist()) == list(range(8))


@each_method
def test_the_same_seed_picks_the_same_rows(method):
    x = points(4, 200, 8, torch.float32)
    assert torch.equal(*(greedy_coreset(x, 30, method, generator(5)) for _ in range(2)))


def test_approximate_depends_on_the_seed():
    x = points(5, 200, 8)
    picks = {tuple(greedy_coreset(x, 5, "approximate", generator(seed), start_points=1).tolist()) for seed in range(8)}
    assert len(picks) > 1


def test_exact_does_not_depend_on_the_seed():
    x = points(6, 200, 8)
    assert torch.equal(*(greedy_coreset(x, 5, "exact", generator(seed)) for seed in range(2)))


@each_method
def test_rows_far_from_the_origin_are_distinguished(method):
    # without centring, squared distances of float32 points near 1000 would be rounding errors only
    x = points(7, 100, 8, torch.float32)
    picks = greedy_coreset(x + 1000, 10, method, generator(1))
    near = greedy_coreset((x + 1000).double() - 1000, 10, method, generator(1))
    assert picks.tolist() == near.tolist()


@each_method
def test_the_rows_are_not_changed(method):
    x = points(8, 30)
    before = x.clone()
    greedy_coreset(x, 5, method, generator())
    assert torch.equal(x, before)


@each_method
def test_a_coreset_of_all_rows_is_all_rows(method):
    assert greedy_coreset(points(9, 25), 25, method, generator()).sort().values.tolist() == list(range(25))


@pytest.mark.parametrize("size", [0, -1, 6])
def test_a_size_that_cannot_be_picked_is_an_error(size):
    with pytest.raises(AnoframeError, match=f"a coreset of {size} cannot be picked from 5 rows"):
        greedy_coreset(points(0, 5), size)


def test_an_unknown_method_is_an_error_that_names_the_key_and_the_methods():
    with pytest.raises(AnoframeError, match=r"model\.coreset\.method is one of approximate, exact, got 'exakt'"):
        greedy_coreset(points(0, 5), 2, "exakt")


def test_projection_is_a_dense_matrix_with_the_uniform_distribution_of_a_linear_layer():
    identity = torch.eye(1024)
    matrix = random_projection(identity, 128, generator())
    assert matrix.shape == (1024, 128)
    bound = 1 / 32
    assert matrix.abs().max() <= bound
    assert (matrix != 0).float().mean() > 0.999
    assert float(matrix.mean()) == pytest.approx(0, abs=bound / 100)
    assert float(matrix.std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_projection_is_linear():
    x, y = points(1, 5, 40), points(2, 5, 40)
    both = random_projection(2 * x - 3 * y, 7, generator())
    parts = 2 * random_projection(x, 7, generator()) - 3 * random_projection(y, 7, generator())
    assert_allclose(both, parts, atol=1e-12, rtol=0)


def test_projection_roughly_keeps_ratios_of_distances():
    x = points(3, 60, 1024, torch.float32)
    ratio = (all_distances(random_projection(x, 128, generator())) / all_distances(x))[~torch.eye(60, dtype=torch.bool)]
    assert float(ratio.std() / ratio.mean()) < 0.1


def test_projection_of_a_memory_map_equals_that_of_a_tensor(tmp_path):
    x = points(53, 300, 20, torch.float32)
    x.numpy().tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(300, 20))
    assert torch.equal(random_projection(mapped, 8, generator()), random_projection(x, 8, generator()))


@pytest.mark.parametrize("width", [5, 128])
def test_rows_no_wider_than_the_projection_are_not_changed(width):
    x = points(4, 6, width)
    assert torch.equal(random_projection(x, 128, generator()), x)


def test_projection_depends_only_on_its_generator():
    x = points(5, 6, 20)
    torch.manual_seed(1)
    first = random_projection(x, 4, generator(3))
    torch.manual_seed(2)
    assert torch.equal(random_projection(x, 4, generator(3)), first)
    assert not torch.equal(random_projection(x, 4, generator(4)), first)
