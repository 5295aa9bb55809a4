"""From a fitted detector and test images to the arrays that metrics read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.metrics.checks import as_maps, as_pair
from anoframe.metrics.localisation import sweep_pixels
from anoframe.metrics.sweep import Sweep, sweep_threshold
from anoframe.models.base import Detector
from anoframe.types import Prediction, Sample
from anoframe.utils.progress import progress


@dataclass(frozen=True)
class CategoryPredictions:
    """Everything predicted for the test images of a category, `n` of them."""

    samples: list[Sample]
    labels: NDArray[np.bool_]  # [n]
    scores: NDArray[np.float32]  # [n]
    maps: NDArray[np.float32]  # [n, H, W]
    masks: NDArray[np.bool_]  # [n, H, W]
    extra_maps: dict[str, NDArray[np.float32]]  # name -> [n, H, W]

    @cached_property
    def image_sweep(self) -> Sweep | None:
        """Every threshold on the scores: metrics and curves of images are read from it. None: one class only."""
        return sweep_threshold(*as_pair(self.labels, self.scores))

    @cached_property
    def pixel_sweep(self) -> Sweep | None:
        """The same of the pixels, which are sorted once; None also where a defect has no mask."""
        return sweep_pixels(*as_maps(self.masks, self.maps)) if self.has_masks else None

    @property
    def has_masks(self) -> bool:
        """Whether pixel metrics can be computed: every defect has its mask."""
        return all(sample.mask is not None for sample in self.samples if sample.is_defect)

    @property
    def masks_lost_to_crop(self) -> int:
        """Defects of which resizing and cropping left nothing to find."""
        return sum(bool(s.mask) and not mask.any() for s, mask in zip(self.samples, self.masks, strict=True))


@torch.no_grad()
def collect(detector: Detector, batches: Iterable[FeatureBatch], images: int, size: int) -> CategoryPredictions:
    """Detect in every batch. Memory: five bytes a pixel, and four more for each extra map.

    Args:
        images: how many images the batches hold.
        size: side of their square, in pixels.

    Raises:
        AnoframeError: a score or map is not finite; names the image.
    """
    samples: list[Sample] = []
    scores = np.empty(images, np.float32)
    maps = np.empty((images, size, size), np.float32)
    masks = np.empty((images, size, size), bool)
    extra: dict[str, NDArray[np.float32]] = {}
    for batch in progress(batches, "test", unit="batch"):
        prediction = detector.detect(batch.features, (size, size))
        _check_finite(prediction, batch.samples)
        rows = slice(len(samples), len(samples) + len(batch))
        scores[rows], maps[rows] = prediction.score.cpu(), prediction.anomaly_map.cpu()
        masks[rows] = batch.masks[:, 0]
        for name, values in prediction.extra_maps.items():
            extra.setdefault(name, np.empty_like(maps))[rows] = values.cpu()
        samples.extend(batch.samples)
    labels = np.array([sample.is_defect for sample in samples])
    return CategoryPredictions(samples, labels, scores, maps, masks, extra)


def collect_shared(
    group: Group,
    detector: Detector,
    encode: Callable[[Sequence[Sample]], Iterable[FeatureBatch]],
    samples: Sequence[Sample],
    batch_size: int,
    size: int,
) -> CategoryPredictions | None:
    """Detect in each image once, by one process of a group: everything on rank 0, in the order given; None elsewhere.

    Args:
        encode: features of samples, in batches of `batch_size`.
        size: side of the maps in pixels.

    Raises:
        AnoframeError: as `collect`, in the process that had the image.
    """
    if group.is_single:
        return collect(detector, encode(samples), len(samples), size)
    rows = group.shard(len(samples), batch_size)
    own = [samples[row] for row in rows[group.rank]]
    found = collect(detector, encode(own) if own else (), len(own), size)
    scores, maps, masks = (group.gather_rows(part, rows) for part in (found.scores, found.maps, found.masks))
    extra = {name: group.gather_rows(part, rows) for name, part in sorted(found.extra_maps.items())}
    if scores is None or maps is None or masks is None:
        return None
    labels = np.array([sample.is_defect for sample in samples])
    whole = {name: part for name, part in extra.items() if part is not None}
    return CategoryPredictions(list(samples), labels, scores, maps, masks, whole)


def _check_finite(prediction: Prediction, samples: Sequence[Sample]) -> None:
    finite = prediction.score.isfinite() & prediction.anomaly_map.flatten(1).isfinite().all(1)
    if not bool(torch.all(finite)):
        bad = samples[int((~finite).nonzero()[0])]
        raise AnoframeError(f"the prediction for {bad.image} is not finite: check that image and the fit")
