"""Predictions in the frame of the original photograph: map, regions and overlay of one image file.

All are in the *stored* frame, the pixels of the file as they are before EXIF orientation turns them; an overlay gets
the same orientation tag, so that it is shown upright like its photograph.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from anoframe.data.geometry import Frame, Map
from anoframe.data.ignored import IgnoredRegion
from anoframe.data.image_decoding import open_image, read_orientation, upright_size
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.regions import Region, find_regions
from anoframe.report.pictures import Scale, outline, tint

_JPEG_SIDE = 65500  # pixels: the limit of the format


@dataclass(frozen=True)
class PhotographPrediction:
    """The prediction for an image file, in its own frame.

    Values where the photograph has no score, because the crop cut it off or it is ignored, are NaN.

    Args:
        path: of the photograph.
        frame: where the network's image lies on it.
        anomaly_map: [H, W], of the network's image.
        ignored: the ignored region of its category.
    """

    path: Path
    frame: Frame
    anomaly_map: Map
    ignored: IgnoredRegion | None = None

    @classmethod
    def of_file(
        cls, path: Path, preprocessing: Preprocessing, anomaly_map: Map, ignored: IgnoredRegion | None = None
    ) -> PhotographPrediction:
        """Read size and orientation of the file; raises AnoframeError if that fails."""
        with open_image(path) as image:
            width, height = upright_size(image)
            orientation = read_orientation(image)
        return cls(path, Frame(preprocessing, width, height, orientation), anomaly_map, ignored)

    def facts(self) -> dict[str, Any]:
        """Return the size of the file as stored, and its orientation if it is not upright."""
        height, width = self.frame.size
        turned = {"orientation": self.frame.orientation} if self.frame.orientation != 1 else {}
        return {"width": width, "height": height, **turned}

    def bands(self) -> Iterator[tuple[int, Map]]:
        """Yield the map in bands of rows: (first row, float32 [band, width]). Memory: a few bands."""
        hidden = None
        if self.ignored is not None:
            hidden = self.frame.to_stored(self.ignored.draw(self.frame.width, self.frame.height))
        for start, values in self.frame.bands(self.anomaly_map):
            values[np.isneginf(values)] = np.nan
            if hidden is not None:
                values[hidden[start : start + len(values)]] = np.nan
            yield start, values

    def regions(self, threshold: float) -> list[Region]:
        """Return the regions at or above a pixel threshold, largest peak first."""
        return find_regions((values for _, values in self.bands()), threshold)

    def map_file(self) -> bytes:
        """Return the map as a NumPy file, float32 [height, width]. Memory: twice the map."""
        buffer = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": self.frame.size}
        np.lib.format.write_array_header_1_0(buffer, header)
        for _, values in self.bands():
            buffer.write(values.astype("<f4").tobytes())
        return buffer.getvalue()

    def map_picture(self) -> tuple[Image.Image, float, float]:
        """Return the map as a picture of 16 bits, and the values of its levels 0 and 65535; NaN becomes level 0."""
        low, high = float(self.anomaly_map.min()), float(self.anomaly_map.max())
        levels = np.empty(self.frame.size, np.uint16)
        for start, values in self.bands():
            scaled = (values.astype(np.float64) - low) / max(high - low, 1e-12) * 65535
            levels[start : start + len(values)] = np.nan_to_num(scaled, nan=0.0).round().astype(np.uint16)
        return Image.fromarray(levels), low, high

    def overlay(self, scale: Scale) -> Image.Image:
        """Return the photograph with its heatmap, and the outline of the region at or above the contour value.

        Memory: the photograph twice, and a byte per pixel.
        """
        with open_image(self.path) as image:
            pixels = np.array(image.convert("RGB"))
        marked = np.zeros(self.frame.size, bool)
        for start, values in self.bands():
            rows = slice(start, start + len(values))
            pixels[rows] = tint(pixels[rows], values, scale)
            marked[rows] = values >= scale.contour
        drawn = Image.fromarray(outline(pixels, marked))
        if max(drawn.size) > _JPEG_SIDE:
            drawn.thumbnail((_JPEG_SIDE, _JPEG_SIDE))
        return drawn

    def exif(self) -> Image.Exif:
        """Return the EXIF data of an overlay: the orientation of the photograph."""
        exif = Image.Exif()
        if self.frame.orientation != 1:
            exif[ExifTags.Base.Orientation] = self.frame.orientation
        return exif
