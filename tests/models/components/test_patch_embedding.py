"""Patch embeddings, against a naive version of the reference code and of anomalib."""

import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.patch_embedding import (
    PatchEmbedding,
    closed_form_embedding,
    concat_embedding,
    pooled_embedding,
)


def naive_neighbourhood(level, i, j, size=3):
    """Neighbourhood `[C, size, size]` of a location, with zeros outside the map."""
    channels, height, width = level.shape
    block = torch.zeros(channels, size, size, dtype=level.dtype)
    for a in range(size):
        for b in range(size):
            y, x = i + a - size // 2, j + b - size // 2
            if 0 <= y < height and 0 <= x < width:
                block[:, a, b] = level[:, y, x]
    return block


def naive_pool(values, size):
    """Adaptive average pooling, bin by bin: from floor(i n / size) to ceil((i + 1) n / size)."""
    n = len(values)
    return torch.stack([values[i * n // size : -(-(i + 1) * n // size)].mean() for i in range(size)])


def naive_pooled(levels, pretrain_dim, target_dim, size=3):
    """The steps of the reference code for one image: blocks, resized blocks, pooling, concatenation, pooling."""
    height, width = levels[0].shape[-2:]
    resized_levels = []
    for level in levels:
        rows, columns = level.shape[-2:]
        blocks = torch.stack([naive_neighbourhood(level, i, j, size) for i in range(rows) for j in range(columns)])
        grid = blocks.flatten(1).T.reshape(1, -1, rows, columns)
        resized_levels.append(F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)[0])
    patches = torch.empty(height * width, target_dim, dtype=levels[0].dtype)
    for i in range(height):
        for j in range(width):
            pooled = [naive_pool(level[:, i, j], pretrain_dim) for level in resized_levels]
            patches[i * width + j] = naive_pool(torch.cat(pooled), target_dim)
    return patches


def levels_of(rng, *shapes, dtype=torch.float64):
    return [torch.randn(*shape, generator=rng, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("shapes", "pretrain_dim", "target_dim"),
    [
        ([(1, 5, 4, 6), (1, 7, 2, 3)], 8, 10),
        ([(1, 5, 4, 6), (1, 7, 2, 3)], 60, 17),  # wider than the 45 values of a block
        ([(1, 3, 3, 3)], 6, 6),
        ([(1, 2, 4, 4), (1, 3, 8, 8), (1, 4, 2, 2)], 9, 5),  # a finer level than the first
    ],
)
def test_pooled_equals_the_reference_code_step_by_step(shapes, pretrain_dim, target_dim, rng):
    levels = levels_of(rng, *shapes)
    patches, _ = PatchEmbedding("pooled", pretrain_dim, target_dim)(levels)
    expected = naive_pooled([level[0] for level in levels], pretrain_dim, target_dim)
    assert_allclose(patches[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [1, 5, 7])
def test_pooled_with_another_patch_size_equals_the_reference_code(size, rng):
    levels = levels_of(rng, (1, 3, 6, 5), (1, 4, 3, 2))
    patches, _ = PatchEmbedding("pooled", 8, 10, size)(levels)
    assert_allclose(patches[0], naive_pooled([level[0] for level in levels], 8, 10, size), atol=1e-12, rtol=0)


def test_concat_with_patches_of_5_averages_25_locations(rng):
    (level,) = levels_of(rng, (1, 3, 6, 5))
    patches, _ = PatchEmbedding("concat", patch_size=5)([level])
    blocks = [naive_neighbourhood(level[0], i, j, 5).mean((1, 2)) for i in range(6) for j in range(5)]
    assert_allclose(patches[0], torch.stack(blocks), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [0, -3, 2, 4])
def test_patch_size_is_an_odd_number(size):
    with pytest.raises(AnoframeError, match=rf"model\.embedding\.patch_size is an odd number, 1 or more, got {size}"):
        PatchEmbedding(patch_size=size)


def test_the_closed_form_is_not_used_for_another_patch_size():
    assert not PatchEmbedding(patch_size=5).closed_form_applies([512, 1024])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_closed_form_equals_the_generic_path(dtype, tolerance, rng, device):
    fine, coarse = levels_of(rng, (2, 512, 6, 8), (2, 1024, 3, 4), dtype=dtype)
    fine, coarse = fine.to(device), coarse.to(device)
    difference = closed_form_embedding(fine, coarse) - pooled_embedding([fine, coarse], 1024, 1024)
    assert float(difference.abs().max()) < tolerance


def test_the_closed_form_is_used_for_wide_resnet_50_2(rng):
    levels = levels_of(rng, (1, 512, 4, 4), (1, 1024, 2, 2), dtype=torch.float32)
    patches, _ = PatchEmbedding()(levels)
    assert torch.equal(patches, closed_form_embedding(*levels).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("pretrain_dim", "target_dim", "channels"),
    [
        (1024, 384, [512, 1024]),
        (512, 1024, [512, 1024]),
        (1024, 1024, [1024, 512]),
        (1024, 1024, [512]),
        (1024, 1024, [512, 1024, 2048]),
    ],
)
def test_the_closed_form_is_not_used_for_other_settings(pretrain_dim, target_dim, channels):
    assert not PatchEmbedding("pooled", pretrain_dim, target_dim).closed_form_applies(channels)


@pytest.mark.parametrize(("grid", "patches"), [(28, 784), (32, 1024)])
def test_shape_at_the_grids_of_224_and_256_pixels(grid, patches):
    embedded, embedded_grid = PatchEmbedding()(
        [torch.zeros(2, 512, grid, grid), torch.zeros(2, 1024, grid // 2, grid // 2)]
    )
    assert embedded_grid == (grid, grid)
    assert embedded.flatten(0, 1).shape == (2 * patches, 1024)


@pytest.mark.parametrize("embedding", [PatchEmbedding(), PatchEmbedding(target_dim=384), PatchEmbedding("concat")])
def test_a_constant_input_gives_a_constant_in_the_interior(embedding):
    levels = [torch.full((1, 512, 8, 8), 2.5), torch.full((1, 1024, 4, 4), 2.5)]
    patches, _ = embedding(levels)
    interior = patches.unflatten(1, (8, 8))[:, 3:5, 3:5]  # two coarse locations away from the zero padding
    assert_allclose(interior, torch.full_like(interior, 2.5), atol=1e-5, rtol=0)


def test_the_centre_of_the_fine_level_counts_twice():
    fine = torch.zeros(1, 512, 5, 5)
    fine[0, 7, 2, 2] = 10
    patches, _ = PatchEmbedding()([fine, torch.zeros(1, 1024, 3, 3)])
    expected = torch.zeros(1, 25, 1024)
    expected.unflatten(1, (5, 5))[0, 1:4, 1:4, 7] = 1
    expected.unflatten(1, (5, 5))[0, 2, 2, 7] = 2
    assert_allclose(patches, expected, atol=1e-6, rtol=0)


def test_concat_is_the_mean_of_the_neighbourhood_per_channel(rng):
    (level,) = levels_of(rng, (1, 4, 3, 5))
    patches, _ = PatchEmbedding("concat")([level])
    expected = [naive_neighbourhood(level[0], i, j).mean((1, 2)) for i in range(3) for j in range(5)]
    assert_allclose(patches[0], torch.stack(expected), atol=1e-14, rtol=0)


def test_concat_resizes_to_the_first_level_and_keeps_every_channel(rng):
    fine, coarse = levels_of(rng, (2, 3, 8, 8), (2, 5, 4, 4))
    maps = concat_embedding([fine, coarse])
    assert maps.shape == (2, 8, 8, 8)
    means = F.avg_pool2d(coarse, 3, 1, 1)
    assert torch.equal(maps[:, 3:], F.interpolate(means, (8, 8), mode="bilinear", align_corners=False))


@pytest.mark.parametrize("method", ["pooled", "concat"])
def test_patches_are_in_row_major_order(method):
    level = torch.zeros(1, 2, 4, 6)
    level[0, :, 1, 4] = 1  # inside the neighbourhoods of this location and of the eight around it
    patches, grid = PatchEmbedding(method, 2, 2)([level])
    nonzero = {(i, j) for i in range(4) for j in range(6) if patches[0, i * grid[1] + j].sum() > 0}
    assert nonzero == {(i, j) for i in (0, 1, 2) for j in (3, 4, 5)}


@pytest.mark.parametrize("embedding", [PatchEmbedding(), PatchEmbedding("pooled", 32, 24), PatchEmbedding("concat")])
def test_an_image_is_embedded_the_same_alone_and_in_a_batch(embedding, rng):
    levels = levels_of(rng, (5, 512, 6, 6), (5, 1024, 3, 3), dtype=torch.float32)
    together, _ = embedding(levels)
    alone = [embedding([level[i : i + 1] for level in levels])[0] for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_an_unknown_method_is_an_error_that_names_the_key_and_the_methods():
    with pytest.raises(AnoframeError, match=r"model\.embedding\.method is one of pooled, concat, got 'pool'"):
        PatchEmbedding("pool")


@pytest.mark.parametrize("name", ["pretrain_dim", "target_dim"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_width_below_one_is_an_error_that_names_the_key(name, value):
    with pytest.raises(AnoframeError, match=rf"model\.embedding\.{name} {value}"):
        PatchEmbedding(**{name: value})
