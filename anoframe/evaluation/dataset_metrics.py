"""Metrics that only some datasets have: image AUROC by kind of defect, and sPRO. docs/metrics.md defines them.

The published evaluation of MVTec LOCO AD measures each kind of defect with all good images, and averages the kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from anoframe.data.dataset import Dataset
from anoframe.data.image_decoding import open_image, upright_size
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.full_size import restore_size
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.evaluation.results import Metrics
from anoframe.metrics.auroc import auroc
from anoframe.metrics.spro import LOCO_LIMIT
from anoframe.metrics.spro_histogram import SproHistogram, quantile_thresholds
from anoframe.types import GOOD, Sample


def image_metrics_by_kind(predictions: CategoryPredictions, kinds: Mapping[str, str]) -> Metrics:
    """Compute `image_auroc_<kind>`: of the defects of one kind and all good images.

    Args:
        predictions: of the test images.
        kinds: name of each kind -> its defect type.
    """
    defects = np.array([sample.defect for sample in predictions.samples], dtype=object)
    metrics: Metrics = {}
    for name, defect in kinds.items():
        chosen = (defects == GOOD) | (defects == defect)
        metrics[f"image_auroc_{name}"] = auroc(predictions.labels[chosen], predictions.scores[chosen])
    return metrics


def spro_names(kinds: Mapping[str, str], limits: Sequence[float] = ()) -> list[str]:
    """Return the names of the sPRO metrics: the mean over kinds and each kind at 0.05, the mean at other limits."""
    standard = f"auspro_{LOCO_LIMIT}"
    further = [f"auspro_{limit}" for limit in limits if limit != LOCO_LIMIT]
    return [standard, *(f"{standard}_{kind}" for kind in kinds), *further]


def spro_metrics(
    predictions: CategoryPredictions, dataset: Dataset, preprocessing: Preprocessing, limits: Sequence[float] = ()
) -> Metrics:
    """Compute sPRO at the size of the original photographs.

    Memory: maps, masks and regions of one photograph at a time, and a sorted copy of the anomaly maps.
    All are None if the method has no maps, or a defect no mask.

    Args:
        predictions: of the test images.
        dataset: reads the regions.
        preprocessing: with which the maps were computed.
        limits: false-positive rates besides 0.05.

    Raises:
        AnoframeError: the regions or saturation areas of an image cannot be read.
    """
    kinds = dataset.defect_kinds
    if predictions.maps is None or not predictions.has_masks:
        return dict.fromkeys(spro_names(kinds, limits))
    thresholds = quantile_thresholds(predictions.maps)
    histograms = {defect: SproHistogram(thresholds) for defect in (GOOD, *kinds.values())}
    for sample, anomaly_map in zip(predictions.samples, predictions.maps, strict=True):
        if sample.defect in histograms:
            regions = dataset.regions(sample)
            size = regions[0][0].shape if regions else _image_size(sample)
            histograms[sample.defect].add(regions, restore_size(anomaly_map, size, preprocessing))
    by_kind = {kind: histograms[defect].merged(histograms[GOOD]) for kind, defect in kinds.items()}
    values = {limit: {kind: by_kind[kind].auspro(limit) for kind in kinds} for limit in (LOCO_LIMIT, *limits)}
    standard = [_mean(values[LOCO_LIMIT].values()), *values[LOCO_LIMIT].values()]
    further = [_mean(values[limit].values()) for limit in limits if limit != LOCO_LIMIT]
    return dict(zip(spro_names(kinds, limits), [*standard, *further], strict=True))


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None if a value is not available, because one kind alone is not comparable with all."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if known and known == listed else None


def _image_size(sample: Sample) -> tuple[int, int]:
    with open_image(sample.image) as image:
        width, height = upright_size(image)
    return height, width
