"""Pictures of predictions: image, ground truth, heatmap, and contours on the image side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.evaluation.decision import Threshold
from anoframe.evaluation.predictions import CategoryPredictions

# From dark violet over red to light yellow: lightness rises, so it works in greyscale and with colour blindness.
_COLOURS = np.array(
    [
        [0, 0, 4],
        [40, 11, 84],
        [101, 21, 110],
        [159, 42, 99],
        [212, 72, 66],
        [245, 125, 21],
        [250, 193, 39],
        [252, 255, 164],
    ]
)
_TRUTH_COLOUR = (0, 200, 83)
_PREDICTION_COLOUR = (255, 23, 68)
_OUTLINE_SHARE = 512  # the outline on an overlay is two pixels, or the longer side divided by this if that is more
PANELS = "panels"  # entry of a picture that is not square: number of its panels


@dataclass(frozen=True)
class Scale:
    """Scale of a heatmap.

    Attributes:
        low, high: map values of the first and the last colour.
        contour: map value whose contour is drawn.
    """

    low: float
    high: float
    contour: float


def category_scale(predictions: CategoryPredictions, threshold: Threshold | None = None) -> Scale:
    """Choose one scale for all heatmaps of a category, so that they can be compared.

    The colours span the 1 % quantile to the largest value. The contour is the pixel threshold of the detector. Without
    one it is the 99 % quantile of the good test images (of all images if none is good): for illustration only.
    Without images or maps the scale is arbitrary.
    """
    if not predictions.samples or predictions.maps is None:
        return Scale(0.0, 1.0, 1.0)
    good = predictions.maps[~predictions.labels]
    values = good if len(good) else predictions.maps
    contour = float(np.quantile(values, 0.99)) if threshold is None or threshold.pixel is None else threshold.pixel
    return Scale(float(np.quantile(predictions.maps, 0.01)), float(predictions.maps.max()), contour)


def heatmap(values: NDArray[np.float32], scale: Scale) -> NDArray[np.uint8]:
    """Convert map values `[H, W]` to RGB `[H, W, 3]`."""
    unit = np.clip((values - scale.low) / max(scale.high - scale.low, 1e-12), 0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(unit, stops, _COLOURS[:, i]) for i in range(3)], axis=2).astype(np.uint8)


def contour(
    image: NDArray[np.uint8], region: NDArray[np.bool_], colour: tuple[int, int, int], width: int = 2
) -> NDArray[np.uint8]:
    """Return a copy of the image with the outline of a region, `width` pixels wide."""
    from scipy.ndimage import binary_erosion  # here: scipy takes longer to import than a prediction without pictures

    drawn = image.copy()
    drawn[region & ~binary_erosion(region, iterations=width)] = colour
    return drawn


def outlined(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32] | None, scale: Scale
) -> NDArray[np.uint8]:
    """Return the image with the contours of ground truth (green) and, with a map, prediction (red)."""
    if anomaly_map is not None:
        image = contour(image, anomaly_map >= scale.contour, _PREDICTION_COLOUR)
    return contour(image, mask, _TRUTH_COLOUR)


def strip(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32] | None, scale: Scale
) -> Image.Image:
    """Join image, mask, heatmap, and the image with the contours of ground truth (green) and prediction (red).

    Without a map it is only the image with the contour of the ground truth.
    """
    if anomaly_map is None:
        return Image.fromarray(outlined(image, mask, None, scale))
    truth = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    gap = np.full((image.shape[0], 4, 3), 255, np.uint8)
    panels = [image, gap, truth, gap, heatmap(anomaly_map, scale), gap, outlined(image, mask, anomaly_map, scale)]
    picture = Image.fromarray(np.concatenate(panels, axis=1))
    if image.shape[0] != image.shape[1]:  # readers know strips of square panels by their sides
        picture.info[PANELS] = "4"
    return picture


def overlay(image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: Scale) -> Image.Image:
    """Blend the image with its heatmap, and outline the region at or above the contour value."""
    return Image.fromarray(outline(tint(image, anomaly_map, scale), anomaly_map >= scale.contour))


def tint(image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: Scale) -> NDArray[np.uint8]:
    """Blend the image with its heatmap; where the map is NaN, the image stays."""
    mixed: NDArray[np.uint8] = (0.6 * image + 0.4 * heatmap(np.nan_to_num(anomaly_map), scale)).astype(np.uint8)
    unknown = np.isnan(anomaly_map)
    mixed[unknown] = image[unknown]
    return mixed


def outline(image: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the outline of a predicted region; on a large image it is wider, so that it is seen when shrunk."""
    width = max(2, round(max(region.shape) / _OUTLINE_SHARE))
    return contour(image, region, _PREDICTION_COLOUR, width) if region.any() else image


def choose_images(labels: NDArray[np.bool_], scores: NDArray[np.float32], count: int) -> list[tuple[str, int]]:
    """Select the images to show, no image twice.

    Args:
        labels: `[N]`, True for defects.
        scores: `[N]` image scores.
        count: largest number of images.

    Returns:
        (kind, index) pairs, a third of `count` for each kind: `worst` are the defects with the lowest and the good
        images with the highest scores, `best` the opposite, and `borderline` are nearest to the middle between the
        median good and the median defect score.
    """
    order = np.argsort(scores, kind="stable")
    defects, good = order[labels[order]], order[~labels[order]]
    shares = [(count + 2 - place) // 3 for place in range(3)]  # a remainder goes to the worst first
    middle = np.mean([np.median(scores[group]) for group in (defects, good) if len(group)]) if len(scores) else 0
    ranked: dict[str, Sequence[int]] = {
        "worst": _alternate(defects, good[::-1]),
        "borderline": np.argsort(np.abs(scores - middle), kind="stable").tolist(),
        "best": _alternate(defects[::-1], good),
    }
    chosen: dict[int, str] = {}
    for (kind, candidates), share in zip(ranked.items(), shares, strict=True):
        unused = [index for index in candidates if index not in chosen][:share]
        chosen.update(dict.fromkeys(unused, kind))
    return [(kind, index) for index, kind in chosen.items()]


def _alternate(first: NDArray[np.int64], second: NDArray[np.int64]) -> list[int]:
    """Return the elements of both in turn, then the rest of the longer."""
    paired = [int(index) for pair in zip(first, second, strict=False) for index in pair]
    shorter = min(len(first), len(second))
    return paired + [int(index) for index in (*first[shorter:], *second[shorter:])]
