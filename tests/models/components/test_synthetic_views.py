"""Views with synthetic defects: the same bytes for any number of workers, and normal images alone as sources."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory_images import MemoryImages

from anoframe.data.synthesis.base import Synthetic
from anoframe.data.synthesis.mixture import build_generator
from anoframe.models.components.synthetic_views import SyntheticDefects
from anoframe.registry import SYNTHESIS
from anoframe.training.views import ViewSource

PLAN = [(1, [0, 3, 5]), (1, [2]), (0, [5, 1])]  # epoch and rows of each batch


def drawn(name, workers):
    images = MemoryImages(6, 64, categories=("felt",), workers=workers)
    draw = SyntheticDefects(build_generator({"name": name, "p_anomaly": 1.0}))
    source = ViewSource(images, draw, 3, 0, torch.device("cpu"))
    source.start(PLAN)
    return [source.batch(rows, epoch).features for epoch, rows in PLAN]


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNTHESIS.names())
def test_workers_change_no_byte(name):
    for alone, shared in zip(drawn(name, 0), drawn(name, 4), strict=True):
        assert alone.keys() == shared.keys() == {"image", "mask"}
        assert all(torch.equal(alone[key], shared[key]) for key in alone)


def test_an_image_gets_another_defect_in_another_epoch():
    first, _, last = drawn("cutpaste_patch", 0)
    assert not torch.equal(first["image"][2], last["image"][0])  # row 5


class ContextRecorder:
    """A generator that changes nothing and records what it may use."""

    def generate(self, image, rng, context):
        self.context = context
        return Synthetic(image, np.zeros(image.shape[:2], bool), image)


@pytest.mark.parametrize(("row", "index"), [(4, 1), (2, None)])
def test_sources_are_the_normal_images_of_the_category(row, index):
    images, recorder = MemoryImages(8, 64, defects=(2,)), ContextRecorder()
    SyntheticDefects(recorder)(images, row, np.random.default_rng(0))
    context = recorder.context
    normal = [0, 4, 6]  # of class0; 2 is a defect
    assert (context.category, context.index) == ("class0", index)
    assert len(context.normals) == len(normal)
    for other, pixels in zip(normal, context.normals, strict=True):
        assert np.array_equal(pixels, images.pixels(other).permute(1, 2, 0).numpy())
