"""Metrics of GPU tensors. Without a GPU, the same code runs on CPU tensors that are declared to be on a GPU."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from anoframe import metrics
from anoframe.metrics import array_checks, gpu_counts, threshold_sweep

RNG = np.random.default_rng(0)
MASKS = RNG.random((4, 12, 12)) < 0.1
MAPS = np.round(RNG.normal(MASKS * 1.0, 1.0), 1)  # with ties
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    for module in (gpu_counts, array_checks, threshold_sweep):
        monkeypatch.setattr(module, "is_on_gpu", lambda array: isinstance(array, torch.Tensor))
    monkeypatch.setattr(gpu_counts, "CHUNK", 50)
    return request.param


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_every_metric_equals_its_value_on_the_host(device, dtype):
    maps = (MAPS * 20 + 100).astype(dtype)
    values = metrics.pixel_metrics(
        torch.from_numpy(MASKS).to(device), torch.from_numpy(maps).to(device), thresholds=[100.5]
    )
    assert values == metrics.pixel_metrics(MASKS, maps, thresholds=[100.5])


def test_infinities_and_both_zeros_rank_as_on_the_host(device):
    labels, scores = [0, 1, 0, 1, 0, 1], np.array([-np.inf, np.inf, np.inf, -0.0, 0.0, 5e-324])
    assert metrics.auroc(labels, torch.from_numpy(scores).to(device)) == metrics.auroc(labels, scores)


def test_masks_may_be_on_the_host_and_maps_on_the_gpu(device):
    assert metrics.aupro(MASKS, torch.from_numpy(MAPS).to(device)) == metrics.aupro(MASKS, MAPS)


def test_nan_is_an_error_with_its_index(device):
    scores = torch.tensor([0.1, np.nan, 0.2, np.nan], device=device)
    with pytest.raises(ValueError, match=r"2 NaN among 4 values, the first at index \(1,\)"):
        metrics.auroc([0, 1, 0, 1], scores)


def test_different_shapes_are_an_error(device):
    with pytest.raises(ValueError, match="one shape"):
        metrics.aupro(MASKS, torch.zeros((4, 12), device=device))


def test_metrics_of_arrays_import_no_torch():
    code = "import sys; from anoframe.metrics import auroc; auroc([0, 1], [0.1, 0.2]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
