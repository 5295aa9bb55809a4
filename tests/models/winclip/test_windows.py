"""Window tables and harmonic aggregation, compared with loops over windows."""

import pytest
import torch

from anoframe.models.winclip.windows import (
    harmonic_map,
    harmonic_mean_of_scales,
    num_windows,
    window_means,
    window_table,
)

GRIDS = [((3, 3), 2), ((15, 15), 2), ((15, 15), 3), ((4, 7), 3), ((5, 2), 1), ((3, 3), 3)]
each_grid = pytest.mark.parametrize(("grid", "side"), GRIDS)


def table_by_loop(grid, side):
    """Patches of each window, by the definition."""
    return [
        [(top + i) * grid[1] + left + j for i in range(side) for j in range(side)]
        for top in range(grid[0] - side + 1)
        for left in range(grid[1] - side + 1)
    ]


def harmonic_by_loop(scores, grid, side):
    """Harmonic mean over the windows that cover each patch, from the table."""
    table = table_by_loop(grid, side)
    result = torch.zeros(len(scores), grid[0] * grid[1], dtype=torch.float64)
    for image, row in enumerate(scores.double().tolist()):
        for patch in range(grid[0] * grid[1]):
            covering = [row[window] for window, patches in enumerate(table) if patch in patches]
            result[image, patch] = 0 if 0 in covering else len(covering) / sum(1 / value for value in covering)
    return result.view(-1, *grid).float()


def test_windows_of_a_small_grid():  # W1
    assert window_table((3, 3), 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]


@each_grid
def test_windows_are_those_of_the_definition(grid, side):  # W1
    table = window_table(grid, side)
    assert table.tolist() == table_by_loop(grid, side)
    assert table.dtype == torch.int64
    assert len(table) == num_windows(grid, side)


@pytest.mark.parametrize(("side", "windows", "patches", "total"), [(2, 196, 4, 784), (3, 169, 9, 1521)])
def test_windows_of_the_published_grid_and_their_coverage(side, windows, patches, total):  # W1, W2
    table = window_table((15, 15), side)
    coverage = torch.bincount(table.flatten(), minlength=225).view(15, 15)
    assert table.shape == (windows, patches)
    assert coverage.sum() == total
    assert coverage[0, 0] == coverage[0, 14] == coverage[14, 0] == coverage[14, 14] == 1
    assert (coverage[side - 1 : 1 - side, side - 1 : 1 - side] == side**2).all()


def test_a_harmonic_map_by_hand():  # W3
    result = harmonic_map(torch.tensor([[1.0, 0.75, 0.5, 0.25]]), (3, 3), 2)
    expected = [[1, 0.857143, 0.75], [0.666667, 0.48, 0.375], [0.5, 0.333333, 0.25]]
    torch.testing.assert_close(result, torch.tensor([expected]), atol=1e-6, rtol=0)


@each_grid
def test_a_harmonic_map_is_that_of_a_loop(rng, grid, side):  # W4
    scores = torch.rand(2, num_windows(grid, side), generator=rng)
    torch.testing.assert_close(harmonic_map(scores, grid, side), harmonic_by_loop(scores, grid, side))


@each_grid
def test_equal_scores_give_a_constant_map(grid, side):  # W4
    result = harmonic_map(torch.full((1, num_windows(grid, side)), 0.3), grid, side)
    torch.testing.assert_close(result, torch.full((1, *grid), 0.3))


def test_a_map_lies_between_the_scores_of_the_covering_windows(rng):  # W4
    grid, side = (15, 15), 3
    scores = torch.rand(1, num_windows(grid, side), generator=rng)
    result = harmonic_map(scores, grid, side).flatten()
    table = window_table(grid, side)
    for patch in range(225):
        covering = scores[0, (table == patch).any(1)]
        assert covering.min() - 1e-6 <= result[patch] <= covering.max() + 1e-6


def test_a_score_of_zero_makes_its_patches_zero_and_no_other(rng):
    scores = 0.1 + torch.rand(1, 9, generator=rng)
    scores[0, 4] = 0  # the window in the middle of a 4 x 4 grid
    result = harmonic_map(scores, (4, 4), 2)
    torch.testing.assert_close(result, harmonic_by_loop(scores, (4, 4), 2))
    assert (result == 0).sum() == 4


def test_scales_are_combined_by_the_harmonic_mean(rng):
    image, maps = torch.tensor([0.2, 0.8]), [torch.rand(2, 3, 3, generator=rng) for _ in range(2)]
    result = harmonic_mean_of_scales(image, maps)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                expected = 3 / (1 / image[b] + 1 / maps[0][b, i, j] + 1 / maps[1][b, i, j])
                torch.testing.assert_close(result[b, i, j], expected)


def test_an_image_score_of_zero_makes_the_map_zero():
    assert torch.equal(harmonic_mean_of_scales(torch.zeros(1), [torch.ones(1, 2, 2)]), torch.zeros(1, 2, 2))


@each_grid
def test_window_means_are_those_of_a_loop(rng, grid, side):
    patches = torch.randn(2, grid[0] * grid[1], 5, generator=rng)
    expected = torch.stack([patches[:, rows].mean(1) for rows in table_by_loop(grid, side)], dim=1)
    torch.testing.assert_close(window_means(patches, grid, side), expected)
