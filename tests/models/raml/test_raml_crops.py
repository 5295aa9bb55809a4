"""Crops of the pyramid: tiles, and the reinterpreted memory of the public code."""

import pytest
import torch
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.raml.crops import cut_crops, image_side, reinterpret, tiles

TILE = 8


def image(seed, side, count=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def paste(parts, count):
    """Put `count x count` tiles `[n, C, h, w]` together, row by row."""
    rows = [torch.cat(list(parts[row * count : (row + 1) * count]), -1) for row in range(count)]
    return torch.cat(rows, -2)


@pytest.mark.parametrize("count", [2, 4])
def test_tiles_put_together_are_the_image(count):
    photo = image(0, 896)
    assert torch.equal(paste(tiles(photo, count)[0], count), photo[0])


def test_the_second_of_four_tiles_is_at_the_top_right():
    photo = torch.zeros(1, 3, 8, 8)
    photo[..., :4, 4:] = 1
    assert tiles(photo, 2)[0].mean((1, 2, 3)).tolist() == [0, 1, 0, 0]


def test_the_finest_scale_of_the_true_pyramid_keeps_every_pixel():
    photo = image(1, 4 * TILE)
    crops = cut_crops(photo, "true", TILE)
    assert crops.shape == (1, 21, 3, TILE, TILE)
    assert torch.equal(paste(crops[0, 5:], 4), photo[0] / 255)


def test_coarser_scales_of_the_true_pyramid_are_reduced_with_antialiasing():
    photo = image(2, 4 * TILE)
    crops = cut_crops(photo, "true", TILE)[0]
    quarter = photo[..., 16:, :16] / 255
    expected = F.interpolate(quarter, (TILE, TILE), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(crops[3], expected[0])  # bottom left
    whole = F.interpolate(photo / 255, (TILE, TILE), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(crops[0], whole[0])


def test_crops_stay_in_the_range_of_an_image():
    edges = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    edges[..., 3::7, :] = 255  # bicubic interpolation overshoots here
    crops = cut_crops(edges, "true", TILE)
    assert crops.min() >= 0
    assert crops.max() <= 1


def test_tiles_of_the_small_image_are_enlarged():
    photo = image(3, TILE)
    crops = cut_crops(photo, "tiles224", TILE)[0]
    assert torch.equal(crops[0], photo[0] / 255)
    top_right = F.interpolate(photo[..., :4, 4:] / 255, (TILE, TILE), mode="bilinear")
    assert torch.equal(crops[2], top_right[0])
    assert torch.equal(crops[20], F.interpolate(photo[..., 6:, 6:] / 255, (TILE, TILE), mode="bilinear")[0])


def test_the_first_reinterpreted_chunk_has_three_quarters_of_the_red_channel_and_nothing_else():
    photo = torch.arange(3 * 224 * 224, dtype=torch.float64).view(1, 3, 224, 224)
    chunk = reinterpret(photo, 2)[0, 0]
    assert set(chunk.flatten().tolist()) == set(photo[0, 0, :168].flatten().tolist())
    assert not torch.equal(reinterpret(photo, 2), tiles(photo, 2))


def test_each_row_of_a_reinterpreted_chunk_is_half_a_row_of_the_image():
    photo = image(4, 224)
    chunk = reinterpret(photo, 2)[0, 0]
    assert torch.equal(chunk[0, 0], photo[0, 0, 0, :112])
    assert torch.equal(chunk[0, 1], photo[0, 0, 0, 112:])


def test_the_second_reinterpreted_chunk_mixes_red_and_green():
    photo = torch.arange(3 * 224 * 224, dtype=torch.float64).view(1, 3, 224, 224)
    values = reinterpret(photo, 2)[0, 1].flatten()
    expected = torch.cat([photo[0, 0, 168:].flatten(), photo[0, 1, :112].flatten()])
    assert torch.equal(values.sort().values, expected)


def test_the_reference_mode_mixes_the_channels_of_the_normalised_image():
    photo = image(5, TILE, count=2)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
    normalised = (photo / 255 - mean) / std
    crops = cut_crops(photo, "reference", TILE, mean, std)
    four = F.interpolate(normalised.view(8, 3, 4, 4), (TILE, TILE), mode="bilinear").view(2, 4, 3, TILE, TILE)
    sixteen = F.interpolate(normalised.view(32, 3, 2, 2), (TILE, TILE), mode="bilinear").view(2, 16, 3, TILE, TILE)
    expected = torch.cat([normalised[:, None], four, sixteen], 1)
    torch.testing.assert_close((crops - mean) / std, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["true", "tiles224", "reference"])
def test_crops_of_an_image_do_not_depend_on_its_batch(mode):
    photos = image(6, image_side(mode, TILE), count=3)
    assert torch.equal(cut_crops(photos, mode, TILE)[1:2], cut_crops(photos[1:2], mode, TILE))


@pytest.mark.parametrize(("mode", "side"), [("true", 8), ("tiles224", 32), ("reference", 32)])
def test_images_of_another_size_raise_an_error(mode, side):
    with pytest.raises(AnoframeError, match=rf"mode '{mode}' .* needs images of .* got {side} x {side}"):
        cut_crops(image(7, side), mode, TILE)
