"""Run a fitted detector on test images and collect the arrays that metrics take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anoframe.data.preprocessing import height_width
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.evaluation.detection import detect_images
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
    counted: NDArray[np.bool_] | None = None  # [n, H, W], False for padding and ignored pixels; None: all count

    @cached_property
    def image_sweep(self) -> Sweep | None:
        """Threshold sweep over the scores, for image metrics and curves; None if a class is missing."""
        return sweep_threshold(*as_pair(self.labels, self.scores))

    @cached_property
    def pixel_sweep(self) -> Sweep | None:
        """Threshold sweep over the pixels, for pixel metrics and curves; None if a class, a mask or the maps miss."""
        if not self.has_masks or self.maps is None:
            return None
        return sweep_pixels(*as_maps(self.masks, self.maps), self.counted)

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
def collect(
    detector: Detector, batches: Iterable[FeatureBatch], images: int, size: int | tuple[int, int]
) -> CategoryPredictions:
    """Predict every batch. Memory: five bytes per pixel, and four more per pixel of each extra map.

    Only a detector with `uses_category` gets the category names, and none gets a label. Masks are without the pixels
    that do not count.

    Args:
        detector: fitted.
        batches: features of the images, or of their tiles.
        images: number of images in all batches.
        size: of the images and their maps in pixels: one number, or height and width.

    Raises:
        AnoframeError: a score or map is not finite; names the image.
    """
    samples: list[Sample] = []
    arrays: dict[tuple[str, str], NDArray[np.float32]] = {}
    masks = np.empty((images, *height_width(size)), bool)
    counted: NDArray[np.bool_] | None = None
    for detected in detect_images(detector, progress(batches, "test", unit="batch"), height_width(size)):
        _check_finite(detected.prediction, detected.samples)
        rows = slice(len(samples), len(samples) + len(detected.samples))
        masks[rows] = detected.masks[:, 0]
        if detected.counted is not None:
            counted = np.ones(masks.shape, bool) if counted is None else counted
            counted[rows] = detected.counted[:, 0]
            masks[rows] &= counted[rows]
        for key, values in _tensors(detected.prediction):
            arrays.setdefault(key, np.empty((images, *values.shape[1:]), np.float32))[rows] = values.cpu()
        samples.extend(detected.samples)
    return _join(samples, masks, arrays, counted)


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
    samples: list[Sample],
    masks: NDArray[np.bool_],
    arrays: Mapping[tuple[str, str], NDArray[np.float32]],
    counted: NDArray[np.bool_] | None,
) -> CategoryPredictions:
    """Make the predictions of a category from arrays with the keys of `_tensors`."""
    extra: dict[str, dict[str, NDArray[np.float32]]] = {"extra_maps": {}, "extra_scores": {}}
    for (field_name, name), values in arrays.items():
        if field_name in extra:
            extra[field_name][name] = values
    labels = np.array([sample.is_defect for sample in samples], bool)
    scores = arrays.get(("scores", ""), np.empty(len(samples), np.float32))
    maps = arrays.get(("maps", "")) if samples else np.empty(masks.shape, np.float32)
    return CategoryPredictions(samples, labels, scores, maps, masks, **extra, counted=counted)


def collect_distributed(
    group: Group,
    detector: Detector,
    encode: Callable[[Sequence[Sample]], Iterable[FeatureBatch]],
    samples: Sequence[Sample],
    batch_size: int,
    size: int | tuple[int, int],
) -> CategoryPredictions | None:
    """Predict samples that are sharded over the processes of a group.

    Args:
        group: the processes.
        detector: fitted; the same in every process.
        encode: computes the features of samples in batches of `batch_size`.
        samples: all samples, none for an empty test set; each is predicted by one process.
        batch_size: images per batch.
        size: of the images and their maps in pixels: one number, or height and width.

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
    has_counted = any(group.all_gather(local.counted is not None))
    counted = None
    if has_counted:
        own_counted = np.ones(local.masks.shape, bool) if local.counted is None else local.counted
        counted = group.gather_rows(own_counted, rows)
    gathered = {key: group.gather_rows(array, rows) for key, array in arrays.items() if array is not None}
    if masks is None:
        return None
    return _join(list(samples), masks, {key: array for key, array in gathered.items() if array is not None}, counted)


def _check_finite(prediction: Prediction, samples: Sequence[Sample]) -> None:
    finite = prediction.score.isfinite()
    for _, values in _tensors(prediction):
        finite &= values.reshape(len(values), -1).isfinite().all(1)
    if not bool(torch.all(finite)):
        sample = samples[int((~finite).nonzero()[0])]
        raise AnoframeError(f"the prediction for {sample.image} is not finite: check that image and the fit")
