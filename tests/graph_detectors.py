"""Small fitted detectors of every method, for tests of export."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from fake_clip import FakeCLIP
from torch import Tensor
from torch.nn import functional as F

from anoframe.backbones import FeaturePyramid
from anoframe.models.base import Detector, ObservingDetector
from anoframe.models.learner import Observation
from anoframe.registry import MODELS
from anoframe.types import Sample

SIZE = (32, 32)
SMALL: dict[str, dict[str, Any]] = {
    "rd4ad": {"depths": (1, 1), "code_depth": 1},
    "uniad": {"width": 16, "heads": 2, "hidden": 16, "encoder_layers": 1, "decoder_layers": 1, "window": 3},
    "patchcore": {"coreset": {"ratio": 0.2}},
    "patchcore_noising": {"coreset": {"ratio": 0.2}, "noise": {"candidates": 20}},
}
SMALL["sema_uniad"] = SMALL["uniad"]


def images_of_size(seed: int, count: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Images `[count, 3, *size]` uint8 of random squares."""
    coarse = torch.rand(count, 3, size[0] // 8, size[1] // 8, generator=torch.Generator().manual_seed(seed))
    return (255 * F.interpolate(coarse, size)).to(torch.uint8)


def build_fitted(name: str, size: tuple[int, int] = SIZE, backbone: Any = None, **options: Any) -> Detector:
    """A detector in eval mode; its observations are made, and what phases would train is random."""
    method = MODELS.load(name)
    if backbone is None:
        backbone = (
            FakeCLIP() if getattr(method, "needs_text", False) else FeaturePyramid("test_resnet", (1, 2), "random")
        )
    parameters = inspect.signature(method).parameters
    sizes = {"image_size": size, "stride": 8} if "image_size" in parameters else {}
    if "tile_size" in parameters:
        sizes = {"tile_size": size[0] // 4}
    torch.manual_seed(5)
    detector: Detector = method(backbone, **{**SMALL.get(name, {}), **sizes, **options})
    if name == "cdo":  # random weights of both networks are the same, and the map would be rounding noise
        for parameter in detector.apprentice.parameters():
            parameter.data.mul_(1.1).add_(0.01 * torch.randn(parameter.shape))
    samples = tuple(Sample(Path(f"{i}.png"), "bottle", "train") for i in range(6))
    with torch.no_grad():
        features = detector.encode(images_of_size(0, 6, size))
        is_observing = isinstance(detector, ObservingDetector) or options.get("use_references")
        for stage in detector.training_stages() if is_observing else ():
            if isinstance(stage, Observation):
                stage.begin(6)
                stage.observe(features, samples)
                stage.finish()
    return detector.eval()
