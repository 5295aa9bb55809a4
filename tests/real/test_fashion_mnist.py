"""The original files of Fashion-MNIST, from Debian's package `dataset-fashion-mnist` or the folder in a variable."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from anoframe.data.cached_reader import Reader
from anoframe.data.labelled.arrays import FASHION_MNIST
from anoframe.data.labelled.sources import open_source
from anoframe.data.preprocessing import Preprocessing

VARIABLE = "ANOFRAME_FASHION_MNIST"
ROOT = Path(os.environ.get(VARIABLE, "/usr/share/datasets/fashion-mnist"))  # where Debian's package puts it

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ROOT.is_dir(), reason=f"no {ROOT}: apt install dataset-fashion-mnist, or name the folder in {VARIABLE}"
    ),
]


@pytest.mark.parametrize(
    ("split", "count", "labels"),
    [("train", 60_000, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]), ("test", 10_000, [9, 2, 1, 1, 6, 1, 4, 6, 5, 7])],
)
def test_counts_labels_and_pixels_are_the_published_ones(split, count, labels):
    images = open_source(f"fashion_mnist:{ROOT}", split, Reader(Preprocessing(28, 28)))
    names = [sample.category for sample in images.samples]
    assert Counter(names) == dict.fromkeys(FASHION_MNIST, count // 10)
    assert names[:10] == [FASHION_MNIST[label] for label in labels]
    pixels = torch.stack([images.pixels(row) for row in range(2000)])
    assert pixels.shape == (2000, 3, 28, 28)
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    values = pixels[:, 0].numpy() / 255
    assert np.mean(values) == pytest.approx(0.286, abs=0.005)  # of the whole training set, as widely used
    assert np.std(values) == pytest.approx(0.353, abs=0.005)
