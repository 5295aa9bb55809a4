"""Run a fitted detector on test images and collect the arrays that metrics take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.array_checks import as_maps, as_pair
from anoframe.metrics.threshold_sweep import Sweep, sweep_pixels, sweep_threshold
from anoframe.models.base import Detector
from anoframe.types import Prediction, Sample
from anoframe.utils.progress import progress


@dataclass(frozen=True)
class CategoryPredictions:
    """Predictions for the `n` test images of a category."""

    samples: list[Sample]
    labels: NDArray[np.bool_]  # [n]
    scores: NDArray[np.float32]  # [n]
    maps: NDArray[np.float32] | None  # [n, H, W]; None: the method scores images only
    masks: NDArray[np.bool_]  # [n, H, W]
    extra_maps: dict[str, NDArray[np.float32]]  # name -> [n, H, W]
    extra_scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # name -> [n]

    @cached_property
    def image_sweep(self) -> Sweep | None:
        """Threshold sweep over the scores, for image metrics and curves; None if a class is missing."""
        return sweep_threshold(*as_pair(self.labels, self.scores))

    @cached_property
    def pixel_sweep(self) -> Sweep | None:
        """Threshold sweep over the pixels, for pixel metrics and curves; None if a class, a mask or the maps miss."""
        return sweep_pixels(*as_maps(self.masks, self.maps)) if self.has_masks and self.maps is not None else None

    @property
    def has_masks(self) -> bool:
        """Whether every defect has a mask, which pixel metrics require."""
        return all(sample.mask is not None for sample in self.samples if sample.is_defect)

    @property
    def samples_without_pixels(self) -> list[Sample]:
        """Samples with a mask that has no defect pixel after resizing and cropping."""
        pairs = zip(self.samples, self.masks, strict=True)
        return [sample for sample, mask in pairs if sample.mask is not None and not mask.any()]


@torch.no_grad()
def collect(detector: Detector, batches: Iterable[FeatureBatch], images: int, size: int) -> CategoryPredictions:
    """Predict every batch. Memory: five bytes per pixel, and four more per pixel of each extra map.

    Only a detector with `uses_category` gets the category names, and none gets a label.

    Args:
        detector: fitted.
        batches: features of the images.
        images: number of images in all batches.
        size: side of the anomaly maps in pixels.

    Raises:
        AnoframeError: a score or map is not finite; names the image.
    """
    samples: list[Sample] = []
    arrays: dict[tuple[str, str], NDArray[np.float32]] = {}
    masks = np.empty((images, size, size), bool)
    for batch in progress(batches, "test", unit="batch"):
        categories = [sample.category for sample in batch.samples] if detector.uses_category else None
        prediction = detector.detect(batch.features, (size, size), categories)
        _check_finite(prediction, batch.samples)
        rows = slice(len(samples), len(samples) + len(batch))
        masks[rows] = batch.masks[:, 0]
        for key, values in _tensors(prediction):
            arrays.setdefault(key, np.empty((images, *values.shape[1:]), np.float32))[rows] = values.cpu()
        samples.extend(batch.samples)
    return _join(samples, masks, arrays)


def _tensors(prediction: Prediction) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """Yield every tensor of a prediction with its field and, for an extra one, its name."""
    yield ("scores", ""), prediction.score
    if prediction.anomaly_map is not None:
        yield ("maps", ""), prediction.anomaly_map
    for name, values in prediction.extra_maps.items():
        yield ("extra_maps", name), values
    for name, values in prediction.extra_scores.items():
        yield ("extra_scores", name), values


def _join(
    samples: list[Sample], masks: NDArray[np.bool_], arrays: Mapping[tuple[str, str], NDArray[np.float32]]
) -> CategoryPredictions:
    """Make the predictions of a category from arrays with the keys of `_tensors`."""
    extra: dict[str, dict[str, NDArray[np.float32]]] = {"extra_maps": {}, "extra_scores": {}}
    for (field_name, name), values in arrays.items():
        if field_name in extra:
            extra[field_name][name] = values
    labels = np.array([sample.is_defect for sample in samples], bool)
    scores = arrays.get(("scores", ""), np.empty(len(samples), np.float32))
    maps = arrays.get(("maps", "")) if samples else np.empty(masks.shape, np.float32)
    return CategoryPredictions(samples, labels, scores, maps, masks, **extra)


def collect_distributed(
    group: Group,
    detector: Detector,
    encode: Callable[[Sequence[Sample]], Iterable[FeatureBatch]],
    samples: Sequence[Sample],
    batch_size: int,
    size: int,
) -> CategoryPredictions | None:
    """Predict samples that are sharded over the processes of a group.

    Args:
        group: the processes.
        detector: fitted; the same in every process.
        encode: computes the features of samples in batches of `batch_size`.
        samples: all samples, none for an empty test set; each is predicted by one process.
        batch_size: images per batch.
        size: side of the anomaly maps in pixels.

    Returns:
        All predictions in the order of `samples` on rank 0; None on other ranks.

    Raises:
        AnoframeError: as `collect`, in the process that predicts the image.
    """
    if group.is_single:
        return collect(detector, encode(samples) if samples else (), len(samples), size)
    rows = group.shard(len(samples), batch_size)
    own = [samples[row] for row in rows[group.rank]]
    local = collect(detector, encode(own) if own else (), len(own), size)
    arrays: dict[tuple[str, str], NDArray[np.float32] | None] = {("scores", ""): local.scores, ("maps", ""): local.maps}
    arrays |= {("extra_maps", name): array for name, array in sorted(local.extra_maps.items())}
    arrays |= {("extra_scores", name): array for name, array in sorted(local.extra_scores.items())}
    masks = group.gather_rows(local.masks, rows)
    gathered = {key: group.gather_rows(array, rows) for key, array in arrays.items() if array is not None}
    if masks is None:
        return None
    return _join(list(samples), masks, {key: array for key, array in gathered.items() if array is not None})


def _check_finite(prediction: Prediction, samples: Sequence[Sample]) -> None:
    finite = prediction.score.isfinite()
    for _, values in _tensors(prediction):
        finite &= values.reshape(len(values), -1).isfinite().all(1)
    if not bool(torch.all(finite)):
        sample = samples[int((~finite).nonzero()[0])]
        raise AnoframeError(f"the prediction for {sample.image} is not finite: check that image and the fit")
