"""Pixel metrics without the pixels that do not count: those of the remaining pixels alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anoframe.metrics.aupro import mean_pro_per_image, pro_per_image
from anoframe.metrics.auroc import auroc
from anoframe.metrics.average_precision import average_precision
from anoframe.metrics.threshold_sweep import sweep_pixels


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rank_metrics_are_those_of_the_counted_pixels(seed):
    rng = np.random.default_rng(seed)
    counted = rng.random((3, 8, 9)) < 0.7
    masks = (rng.random(counted.shape) < 0.2) & counted
    maps = rng.integers(0, 12, counted.shape).astype(np.float32)
    masks[0, 0, :2], counted[0, 0, :2] = (True, False), True
    sweep = sweep_pixels(masks, maps, counted)
    assert sweep.auroc() == pytest.approx(auroc(masks[counted], maps[counted]))
    assert sweep.average_precision() == pytest.approx(average_precision(masks[counted], maps[counted]))


def test_metrics_of_a_region_cut_out_are_those_of_the_smaller_images():
    rng = np.random.default_rng(0)
    maps = rng.random((4, 12, 10)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[1, 2:5, 3:6] = masks[2, 6:8, 1:4] = masks[2, 0:2, 8:10] = True
    counted = np.zeros(maps.shape, bool)
    counted[:, :9] = True
    cut = masks[:, :9], maps[:, :9]
    sweeps = sweep_pixels(masks, maps, counted), sweep_pixels(*cut)
    assert sweeps[0].aupro(0.3) == pytest.approx(sweeps[1].aupro(0.3))
    filled = maps.copy()
    filled[:, 9:] = maps[:, :9].min()  # as evaluation fills the rest
    assert mean_pro_per_image(masks, filled, counted) == pytest.approx(pro_per_image(*cut))
