"""One feature vector per labelled image, computed once by a frozen encoder and kept on disk by the image's content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from anoframe.data.labelled.base import LabelledImages
from anoframe.errors import AnoframeError
from anoframe.features.cache import environment
from anoframe.utils.parallel import map_images_on_cpu
from anoframe.utils.progress import progress
from anoframe.utils.tensor_cache import TensorCache, cache_key

_FORMAT = 1  # of the entries: raise it if the code computes other features from the same image
_NAME = "vector"


class VectorCache:
    """Feature vectors on disk. An entry depends on the content of an image, not on its place or its class.

    Args:
        cache: folder of the entries.
        recipe: what a vector depends on besides the image: preprocessing and encoder, as JSON types.
        device: of the encoder.
        batch_size: images that are encoded together, on which the last digits may depend on a GPU.
    """

    def __init__(self, cache: TensorCache, recipe: Any, device: torch.device, batch_size: int):
        together = 1 if device.type == "cpu" else batch_size
        self._cache, self._recipe = cache, cache_key("labelled", _FORMAT, recipe, environment(device), together)

    def read(self, content: str) -> Tensor | None:
        """Return the vector of an image by the hash of its content; None if there is none."""
        entry = self._cache.read(cache_key(content, self._recipe), [_NAME])
        return entry[_NAME] if entry else None

    def write(self, content: str, vector: Tensor) -> None:
        """Store the vector of an image."""
        self._cache.write(cache_key(content, self._recipe), {_NAME: vector})

    def read_all(self, contents: Sequence[str]) -> Tensor | None:
        """Return the vectors `[N, D]` of a list of images that was stored as a whole, in one file; None otherwise."""
        return self.read(cache_key("all", list(contents)))

    def write_all(self, contents: Sequence[str], vectors: Tensor) -> None:
        """Store the vectors of a list of images in one file: thousands of small ones take seconds to read."""
        self.write(cache_key("all", list(contents)), vectors)


@torch.no_grad()
def encode_labelled(
    encode: Callable[[Tensor], Tensor],
    images: LabelledImages,
    hashes: Sequence[str],
    batch_size: int,
    device: torch.device,
    cache: VectorCache | None = None,
    title: str = "encode",
) -> Tensor:
    """Encode all images, each once; on a CPU each alone, so that no result depends on the batch size.

    Args:
        encode: maps uint8 `[B, 3, H, W]` to `[B, D]`, on its device.
        images: to encode.
        hashes: of their contents.
        batch_size: images per forward pass.
        device: of the encoder.
        cache: vectors of earlier runs; None encodes every image.
        title: of the progress bar.

    Returns:
        `[N, D]` float32 on the CPU.

    Raises:
        AnoframeError: a vector that is not finite; names the image.
    """
    stored = cache.read_all(hashes) if cache else None
    if stored is not None:
        return stored
    vectors = [cache.read(content) if cache else None for content in hashes]
    missing = [row for row, vector in enumerate(vectors) if vector is None]
    starts = range(0, len(missing), batch_size)
    for start in progress(starts, title, unit="batch"):
        rows = missing[start : start + batch_size]
        for row, vector in zip(rows, _encode(encode, images, rows, device), strict=True):
            if not bool(vector.isfinite().all()):
                raise AnoframeError(f"{images.sample(row).image}: its features are not finite; check image and weights")
            vectors[row] = vector
            if cache:
                cache.write(hashes[row], vector)
    joined = torch.stack([vector for vector in vectors if vector is not None])
    if cache:
        cache.write_all(hashes, joined)
    return joined


def _encode(
    encode: Callable[[Tensor], Tensor], images: LabelledImages, rows: Sequence[int], device: torch.device
) -> Iterator[Tensor]:
    pixels = torch.stack([images.pixels(row) for row in rows]).to(device)
    yield from torch.cat(map_images_on_cpu(encode, pixels)).float().cpu()
