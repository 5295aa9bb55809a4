"""Predictions of whole images: tiles put together again, and without the pixels that do not count.

Without tiles, padding and ignored regions a prediction is what the detector returns, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anoframe.data.tiling import TileSample, Tiling
from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector, join_predictions
from anoframe.types import Prediction, Sample


class DetectedImages(NamedTuple):
    """Predictions of whole images.

    Attributes:
        samples: the images.
        prediction: scores `[B]` and maps `[B, H, W]`.
        masks: `[B, 1, H, W]` bool.
        counted: `[B, 1, H, W]` bool, pixels that count; None: all.
    """

    samples: tuple[Sample, ...]
    prediction: Prediction
    masks: Tensor
    counted: Tensor | None


def detect_images(
    detector: Detector, batches: Iterable[FeatureBatch], size: tuple[int, int]
) -> Iterator[DetectedImages]:
    """Predict the images of feature batches. Memory: one batch, and of tiles one image.

    Only a detector with `uses_category` gets the category names, and none gets a label.

    Args:
        detector: fitted.
        batches: features of images, or of all tiles of each image in turn.
        size: height and width of the images.
    """
    parts: list[DetectedImages] = []  # tiles of the current image
    for batch in batches:
        categories = [sample.category for sample in batch.samples] if detector.uses_category else None
        if not isinstance(batch.samples[0], TileSample):
            prediction = restrict(detector.detect(batch.features, size, categories), batch.counted)
            yield DetectedImages(batch.samples, prediction, batch.masks, batch.counted)
            continue
        assert batch.tiling is not None
        prediction = detector.detect(batch.features, batch.tiling.size, categories)
        tiles = len(batch.tiling.windows(size))
        for row in range(len(batch)):
            parts.append(_row(batch, prediction, row))
            if len(parts) == tiles:
                yield _join(parts, batch.tiling, size)
                parts = []


def predict_images(
    detector: Detector,
    images: Tensor,
    categories: Sequence[str] | None,
    tiling: Tiling | None,
    counted: Tensor | None,
    batch_size: int,
) -> Prediction:
    """Predict preprocessed images. Memory: that of a batch of tiles, and the maps.

    Args:
        detector: fitted.
        images: `[B, 3, H, W]` uint8, on the CPU.
        categories: of each image, for a detector with `uses_category`.
        tiling: as in training.
        counted: `[B, 1, H, W]` bool, pixels that count; None: all.
        batch_size: tiles per pass of the detector.
    """
    device = next(detector.buffers()).device
    size = (images.shape[-2], images.shape[-1])
    windows = tiling.windows(size) if tiling else []
    if tiling is None or len(windows) == 1:
        return restrict(
            detector.predict(images.to(device), categories), None if counted is None else counted.to(device)
        )
    results = []
    for index, image in enumerate(images):
        category = categories[index] if categories is not None else None
        parts = []
        for start in range(0, len(windows), batch_size):
            tiles = torch.stack([image[:, w.slices[0], w.slices[1]] for w in windows[start : start + batch_size]])
            names = None if category is None else [category] * len(tiles)
            prediction = detector.predict(tiles.to(device), names)
            parts += [_take(prediction, row) for row in range(len(tiles))]
        limits = None if counted is None else counted[index : index + 1]
        results.append(restrict(join_tiles(parts, tiling, size), limits))
    return join_predictions(results)


def join_tiles(parts: Sequence[Prediction], tiling: Tiling, size: tuple[int, int]) -> Prediction:
    """Put the predictions of all tiles of one image together.

    Scores are the maximum over the tiles; maps are blended with `Tiling.weights`.

    Args:
        parts: one per tile, scores `[1]` and maps `[1, h, w]`, in the order of `Tiling.windows`.
        tiling: of the image.
        size: height and width of the image.
    """
    first = parts[0]
    maps = None
    if first.anomaly_map is not None:
        maps = _blend([part.anomaly_map for part in parts], tiling, size)
    return Prediction(
        torch.stack([part.score for part in parts]).amax(0),
        maps,
        {name: _blend([part.extra_maps[name] for part in parts], tiling, size) for name in first.extra_maps},
        {name: torch.stack([part.extra_scores[name] for part in parts]).amax(0) for name in first.extra_scores},
    )


def restrict(prediction: Prediction, counted: Tensor | None) -> Prediction:
    """Leave out the pixels that do not count.

    The score is the maximum over the patches of which at least half counts, if the prediction has scores of patches,
    otherwise that of the map over the pixels that count. In the maps, the others get the least value of those that
    count. Extra scores are left out.

    Args:
        prediction: of `B` images.
        counted: `[B, 1, H, W]` bool; None: all pixels count, and the prediction is returned as it is.

    Raises:
        AnoframeError: the detector has no map.
    """
    if counted is None:
        return prediction
    if prediction.anomaly_map is None:
        raise AnoframeError(
            'this method has no map, so that pixels cannot be left out: use another data.keep_aspect than "pad", and '
            "no data.ignore"
        )
    inside = counted[:, 0].to(prediction.anomaly_map.device)
    maps = _fill(prediction.anomaly_map, inside)
    extra = {name: _fill(values, inside) for name, values in prediction.extra_maps.items()}
    return Prediction(_maximum(prediction.patch_scores, maps, inside), maps, extra)


def _maximum(patches: Tensor | None, maps: Tensor, inside: Tensor) -> Tensor:
    """Return the largest value of each image that counts; `maps` and `inside` are `[B, H, W]`."""
    of_map = maps.flatten(1).amax(1)
    if patches is None:
        return of_map
    counts = (
        nn.functional.adaptive_avg_pool2d(inside[:, None].float(), (patches.shape[1], patches.shape[2]))[:, 0] >= 0.5
    )
    of_patches = patches.masked_fill(~counts, -torch.inf).flatten(1).amax(1)
    return torch.where(of_patches > -torch.inf, of_patches, of_map)  # the counted part may be less than a patch


def _fill(maps: Tensor, inside: Tensor) -> Tensor:
    """Give the pixels that do not count the least value of the others of their image; maps `[B, H, W]`."""
    least = maps.masked_fill(~inside, torch.inf).flatten(1).amin(1)
    return torch.where(inside, maps, least[:, None, None])


def _blend(maps: Sequence[Tensor | None], tiling: Tiling, size: tuple[int, int]) -> Tensor:
    """Blend the maps `[1, h, w]` of the tiles of one image to `[1, H, W]`."""
    whole: Tensor | None = None
    for values, window, weight in zip(maps, tiling.windows(size), tiling.weights(size), strict=True):
        assert values is not None
        whole = values.new_zeros((1, *size)) if whole is None else whole
        rows, columns = window.slices
        whole[:, rows, columns] += values * torch.from_numpy(weight).to(values)
    assert whole is not None
    return whole


def _join(parts: Sequence[DetectedImages], tiling: Tiling, size: tuple[int, int]) -> DetectedImages:
    """Put the tiles of one image together."""
    sample = parts[0].samples[0]
    assert isinstance(sample, TileSample)
    masks = _paste([part.masks for part in parts], tiling, size)
    limits = [part.counted for part in parts if part.counted is not None]
    counted = _paste(limits, tiling, size) if limits else None
    prediction = join_tiles([part.prediction for part in parts], tiling, size)
    return DetectedImages((sample.whole,), restrict(prediction, counted), masks, counted)


def _paste(tiles: Sequence[Tensor], tiling: Tiling, size: tuple[int, int]) -> Tensor:
    """Put `[1, 1, h, w]` of all tiles together, which agree where they overlap."""
    whole = tiles[0].new_zeros((1, 1, *size))
    for tile, window in zip(tiles, tiling.windows(size), strict=True):
        rows, columns = window.slices
        whole[:, :, rows, columns] = tile
    return whole


def _row(batch: FeatureBatch, prediction: Prediction, row: int) -> DetectedImages:
    counted = None if batch.counted is None else batch.counted[row : row + 1]
    return DetectedImages((batch.samples[row],), _take(prediction, row), batch.masks[row : row + 1], counted)


def _take(prediction: Prediction, row: int) -> Prediction:
    """Return the prediction of one image of a batch, as a batch of one."""
    rows = slice(row, row + 1)
    return Prediction(
        prediction.score[rows],
        None if prediction.anomaly_map is None else prediction.anomaly_map[rows],
        {name: values[rows] for name, values in prediction.extra_maps.items()},
        {name: values[rows] for name, values in prediction.extra_scores.items()},
        patch_scores=None if prediction.patch_scores is None else prediction.patch_scores[rows],
    )
