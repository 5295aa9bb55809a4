"""Fixtures: a survey of tiny networks on tiny data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TINY_TRAINING = {
    "encoder": {"architecture": "test_resnet"},
    "views": {"size": 32},
    "trainer": {"epochs": 1, "batch_size": 4, "schedule": {"warmup_epochs": 0.0}},
}
TINY_DATA = {"name": "folder", "resize": 64, "crop": 64, "workers": 0}


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """An archive with three classes of flat colours with noise."""
    rng = np.random.default_rng(0)
    flat = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    arrays = {}
    for split, count in (("train", 12), ("test", 9)):
        labels = np.arange(count) % 3
        noise = rng.integers(-30, 30, (count, 32, 32, 3))
        arrays |= {f"{split}_x": (flat[labels][:, None, None] + noise).astype(np.uint8), f"{split}_y": labels}
    path = tmp_path_factory.mktemp("npz") / "colours.npz"
    np.savez(path, **arrays, classes=["red", "green", "blue"])
    return path


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> Path:
    """A `state_dict` of the tiny network: stands for ImageNet weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = timm.create_model("test_resnet").state_dict()
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="session")
def survey_config(tmp_path_factory, tiny_root, colours, weights_file) -> Callable[..., Any]:
    """Function that loads the config of the tiny survey: `survey_config(**{dotted name: value})`."""
    from anoframe.config import load_config

    images = {"name": "folder", "root": str(tiny_root), "resize": 40, "crop": 40, "workers": 0}
    own = {"source": "pretrain", "config": "simclr/simclr_resnet18_industrial.py", "path": ""}
    own["set"] = {**TINY_TRAINING, "data": images}
    sections = {
        "encoders": {
            "random": {"source": "random", "architecture": "test_resnet"},
            "own": own,
            "natural": {"source": "imagenet", "architecture": "test_resnet", "weights": str(weights_file)},
        },
        "classification": {
            "colours": {
                "config": "probe/probe.py",
                "set": {
                    "data": {"name": "npz", "root": str(colours), "size": 32},
                    "probes": {"linear": {"epochs": 2}, "knn": {"k": 3}},
                },
            }
        },
        "detection": {
            "set": {
                "data": {**TINY_DATA, "root": str(tiny_root)},
                "model": {"backbone": {"levels": (1, 2)}},
                "report": {"pictures": 1},
                "threshold": {"held_back": 0.0},
            },
            "methods": {
                "padim": {"config": "padim/padim_resnet18_224.py", "set": {"model": {"num_channels": 8}}},
                "patchcore": {"config": "patchcore/patchcore_lite0_224.py"},
            },
        },
    }
    path = tmp_path_factory.mktemp("survey") / "tiny_survey.py"
    text = "from anoframe.config import inherit\n\ncfg = inherit('__base__/survey.py')\n"
    text += "cfg.device = 'cpu'\ncfg.seeds = (0, 1)\nwith cfg.unlocked():\n"
    text += "".join(f"    cfg.{name}.update({tree!r})\n" for name, tree in sections.items())
    path.write_text(text, encoding="utf-8")
    return lambda **changes: load_config(path, changes)
