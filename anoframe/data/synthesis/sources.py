"""Normal training images as a sequence of arrays."""

from __future__ import annotations

from collections.abc import Sequence

from anoframe.data.image_decoding import read_image
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthesis.base import Pixels
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
