"""Crops of an image for the three scales of the pyramid: 1 whole image, 2 x 2 and 4 x 4 tiles, row by row.

Three modes, for an encoder with inputs of `T x T` pixels:

- `true`: the image has `4T x 4T` pixels. The whole image, and its 2 x 2 tiles of `2T`, are reduced to `T` (bicubic,
  with antialiasing); the 4 x 4 tiles of `T` keep all pixels. So the scales see 1, 4 and 16 times the pixels.
- `tiles224`: the image has `T x T` pixels, and its tiles of `T/2` and `T/4` are enlarged to `T` (bilinear): no more
  detail than the whole image. Named after the `T` of CLIP.
- `reference`: what the public code does. The memory of the normalised `[3, T, T]` tensor is reinterpreted as
  `[4, 3, T/2, T/2]` and `[16, 3, T/4, T/4]` without a permutation, then enlarged to `T` (bilinear). These are not
  tiles of the image: the first of the four holds three quarters of the rows of the red channel and nothing else. Only
  for replicating the published number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.linear_maps import cubic_matrix, resize_matrix, transform
from anoframe.models.raml.settings import SCALES

NUM_CROPS = sum(SCALES)  # 21 per image


def image_side(mode: str, tile: int) -> int:
    """Side in pixels of the images that a mode needs, for tiles of `tile` pixels."""
    return 4 * tile if mode == "true" else tile


def cut_crops(images: Tensor, mode: str, tile: int, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """Cut the crops of all scales, each resized to the input of the encoder.

    Args:
        images: `[B, 3, S, S]`, uint8, or float in [0, 1]; `S` is `image_side(mode, tile)`.
        mode: `"true"`, `"tiles224"` or `"reference"`.
        tile: side of a crop in pixels, a multiple of 4.
        mean, std: `[1, 3, 1, 1]`, the normalisation of the encoder, for `"reference"`, which mixes the channels after
            it; None: the encoder does not normalise.

    Returns:
        `[B, 21, 3, T, T]`, float in [0, 1], for each image the whole, 4 and 16 crops. Values of `"reference"` leave
        [0, 1] slightly: they are such that the encoder's normalisation gives the values of the public code.

    Raises:
        AnoframeError: the images have another size.
    """
    _check_size(images, mode, tile)
    pixels = images / 255 if images.dtype == torch.uint8 else images
    if mode == "true":
        scales = [_reduce(tiles(pixels, parts), tile) for parts in (1, 2, 4)]
    elif mode == "tiles224":
        scales = [_enlarge(tiles(pixels, parts), tile) for parts in (1, 2, 4)]
    else:
        zero, one = pixels.new_zeros(1, 3, 1, 1), pixels.new_ones(1, 3, 1, 1)
        mean, std = (zero if mean is None else mean), (one if std is None else std)
        normalised = (pixels - mean) / std
        folded = [_enlarge(reinterpret(normalised, parts), tile) for parts in (2, 4)]
        scales = [pixels[:, None], *(crops * std + mean for crops in folded)]
    return torch.cat(scales, 1)


def tiles(images: Tensor, parts: int) -> Tensor:
    """Cut images `[B, C, H, W]` into `parts x parts` tiles, row by row: `[B, parts^2, C, H/parts, W/parts]`."""
    batch, channels, height, width = images.shape
    grid = images.view(batch, channels, parts, height // parts, parts, width // parts)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, parts**2, channels, height // parts, width // parts)


def reinterpret(images: Tensor, parts: int) -> Tensor:
    """Read the memory of `[B, C, H, W]` as `[B, parts^2, C, H/parts, W/parts]`; these are not tiles, see the module."""
    batch, channels, height, width = images.shape
    return images.contiguous().view(batch, parts**2, channels, height // parts, width // parts)


def _reduce(crops: Tensor, side: int) -> Tensor:
    """Reduce crops `[B, n, C, h, w]` to `side`, bicubic with antialiasing; crops of that size stay as they are."""
    if crops.shape[-1] == side:
        return crops
    if torch.compiler.is_exporting():
        matrix = cubic_matrix(crops.shape[-1], side)
        return transform(crops, matrix, matrix).clamp(0, 1)
    resized = F.interpolate(crops.flatten(0, 1), (side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 1).unflatten(0, crops.shape[:2])  # bicubic overshoots at edges


def _enlarge(crops: Tensor, side: int) -> Tensor:
    """Enlarge crops `[B, n, C, h, w]` to `side`, bilinear, without aligned corners, as the public code does."""
    if crops.shape[-1] == side:
        return crops
    if torch.compiler.is_exporting():
        matrix = resize_matrix(crops.shape[-1], side)
        return transform(crops, matrix, matrix)
    return F.interpolate(crops.flatten(0, 1), (side, side), mode="bilinear").unflatten(0, crops.shape[:2])


def _check_size(images: Tensor, mode: str, tile: int) -> None:
    side = image_side(mode, tile)
    if tuple(images.shape[-2:]) != (side, side):
        got = " x ".join(map(str, images.shape[-2:]))
        raise AnoframeError(
            f"raml with model.pyramid.mode {mode!r} and model.tile_size {tile} needs images of {side} x {side} pixels "
            f"(data.crop), got {got}"
        )
