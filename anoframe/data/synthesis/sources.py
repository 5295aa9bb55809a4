"""Normal training images as a sequence of arrays, and a torch dataset of synthetic anomalies made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from anoframe.data.image_decoding import read_image
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthesis.base import Context, Generator, Pixels, item_rng
from anoframe.errors import AnoframeError
from anoframe.types import Sample


class NormalImages(Sequence[Pixels]):
    """Normal training images of one category, decoded on access.

    Args:
        samples: at least one; only normal images of the train split.
        preprocessing: resize and crop, before an image is edited.

    Raises:
        AnoframeError: there is no sample, or one is a defect, a test image or of another category.
    """

    def __init__(self, samples: Sequence[Sample], preprocessing: Preprocessing) -> None:
        if not samples:
            raise AnoframeError("synthetic anomalies need at least one normal training image, got none")
        for sample in samples:
            if sample.split != "train" or sample.is_defect or sample.category != samples[0].category:
                raise AnoframeError(
                    f"{sample.image}: synthetic anomalies are made from normal training images of one category, got "
                    f"{sample.category}/{sample.split}/{sample.defect}; remove it from the samples"
                )
        self.samples, self.preprocessing = list(samples), preprocessing

    @property
    def category(self) -> str:
        return self.samples[0].category

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Pixels:  # type: ignore[override]
        return self.preprocessing.to_array(read_image(self.samples[index].image))


class SyntheticItem(NamedTuple):
    """A synthetic image as tensors; a batch of them has a first axis more."""

    image: Tensor  # [3, H, W] uint8
    base: Tensor  # [3, H, W] uint8, the image before the edit
    mask: Tensor  # [1, H, W] bool
    label: Tensor  # [1, H, W] float32: the soft label, or the mask
    has_anomaly: bool
    position: int  # of the image in `images`


class SyntheticDataset(Dataset[SyntheticItem]):
    """Synthetic anomalies of all epochs: item `epoch * len(images) + index` is the image `index` in that epoch.

    An item depends on the seed, its number and the images, and on nothing else: the number of workers and the order of
    reading change no byte. A sampler chooses the epoch by its numbers; without one, the items are those of epoch 0.

    Args:
        images: normal training images, see `NormalImages`.
        generator: makes the anomalies.
        seed: of the run.
        category: of the images, for generators with settings of categories.
    """

    def __init__(self, images: Sequence[Pixels], generator: Generator, seed: int, category: str = "") -> None:
        self.images, self.generator, self.seed, self.category = images, generator, seed, category

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[SyntheticItem]:
        """Yield the items of epoch 0; the numbers of items have no end."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> SyntheticItem:
        epoch, index = divmod(number, len(self.images))
        context = Context(self.category, self.images, index)
        result = self.generator.generate(self.images[index], item_rng(self.seed, epoch, index), context)
        image, base = (torch.from_numpy(np.moveaxis(pixels, 2, 0).copy()) for pixels in (result.image, result.base))
        label = result.mask.astype(np.float32) if result.label is None else result.label
        mask, soft = torch.from_numpy(result.mask)[None], torch.from_numpy(label)[None]
        return SyntheticItem(image, base, mask, soft, result.has_anomaly, index)
