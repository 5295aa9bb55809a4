"""Whole encoders: any timm model without its classifier, with a stem for large or for small images.

The stem `imagenet` is the model's own. The stem `small` is for images of about 32 pixels, which the usual stem would
shrink to a few locations: the first convolution gets stride 1 (a kernel above 3 x 3 becomes 3 x 3), and a max-pooling
layer after it is removed (He et al., CVPR 2016, section 4.2; Chen et al., ICML 2020, appendix B.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.backbones.weights import load_state
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.imports import load_timm

STEMS = ("imagenet", "small")


class Encoder(nn.Module):
    """A trainable network from images to one feature vector each, with its normalisation.

    Args:
        architecture: timm model name without a tag.
        weights: initial weights, see `anoframe.backbones.weights`; `random` draws from torch's global generator.
        stem: `"imagenet"` or `"small"`.
        mean, std: of the normalisation, per RGB channel of images in [0, 1].

    Attributes:
        num_features: length of a feature vector.

    Raises:
        AnoframeError: unknown architecture or stem, or weights that are missing or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        weights: str = "random",
        stem: str = "imagenet",
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ):
        super().__init__()
        self.architecture, self.stem = architecture, stem
        self.network = create_network(architecture, stem)
        _load_initial(self.network, architecture, weights)
        self.num_features: int = self.network.num_features
        self.register_buffer("mean", _per_channel("mean", mean), persistent=False)
        self.register_buffer("std", _per_channel("std", std), persistent=False)
        if not bool((self.std > 0).all()):
            raise AnoframeError(f"encoder.std must be above 0, got {tuple(std)}")

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features `[B, num_features]` of RGB images `[B, 3, H, W]`, uint8 or float in [0, 1]."""
        pixels = images / 255 if images.dtype == torch.uint8 else images
        features: Tensor = self.network((pixels - self.mean) / self.std)
        return features


def create_network(architecture: str, stem: str = "imagenet", **options: Any) -> Any:
    """Create a timm model without classifier and with a stem, with random weights.

    Args:
        architecture: timm model name without a tag.
        stem: `"imagenet"` or `"small"`.
        options: further arguments of `timm.create_model`.

    Raises:
        AnoframeError: unknown architecture or stem, or a model whose stem cannot be changed.
    """
    check_architecture(architecture)
    network: Any = load_timm().create_model(architecture, **({"num_classes": 0} | options))
    set_stem(getattr(network, "model", network), architecture, stem)
    return network


def check_architecture(architecture: str) -> None:
    """Raise an AnoframeError, with the most similar name, if timm has no such model."""
    if not load_timm().is_model(architecture):
        raise AnoframeError(f"timm has no model {architecture!r}: {suggest(architecture, load_timm().list_models())}")


def set_stem(network: nn.Module, architecture: str, stem: str) -> None:
    """Give a timm model a stem, in place.

    Raises:
        AnoframeError: unknown stem, or no convolution with stride 2 at the start of the model.
    """
    if stem not in STEMS:
        raise AnoframeError(f"unknown encoder.stem {stem!r}: {suggest(stem, STEMS)}")
    if stem == "imagenet":
        return
    config: Any = load_timm().get_pretrained_cfg(architecture)
    name = config.first_conv or ""
    layer = network.get_submodule(name) if isinstance(name, str) and name else None
    if not isinstance(layer, nn.Conv2d) or layer.stride != (2, 2):
        raise AnoframeError(
            f"encoder.stem small changes a first convolution of stride 2, and {architecture} has none: choose a "
            "convolutional network such as resnet18, or --encoder.stem imagenet"
        )
    if max(layer.kernel_size) <= 3:
        layer.stride = (1, 1)
    else:
        network.set_submodule(
            name, nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=layer.bias is not None)
        )
        nn.init.kaiming_normal_(network.get_submodule(name).weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    if isinstance(getattr(network, "maxpool", None), nn.Module):
        network.maxpool = nn.Identity()


@cache
def expected_shapes(architecture: str, stem: str = "imagenet") -> Mapping[str, torch.Size]:
    """Return names and shapes of the tensors of an encoder, without its classifier."""
    with torch.device("meta"):
        network = create_network(architecture, stem)
    return MappingProxyType({name: value.shape for name, value in network.state_dict().items()})


def check_state(state: Mapping[str, Tensor], architecture: str, stem: str, source: str) -> None:
    """Check that a state has every tensor of an encoder in its shape, and no other tensor.

    Raises:
        AnoframeError: names how many tensors are wrong and the first of them.
    """
    expected = expected_shapes(architecture, stem)
    problems = {
        "missing": [name for name in expected if name not in state],
        "of another shape": [name for name in expected if name in state and state[name].shape != expected[name]],
        "unknown": [name for name in state if name not in expected],
    }
    wrong = [f"{len(names)} {kind} (first {names[0]})" for kind, names in problems.items() if names]
    if wrong:
        raise AnoframeError(
            f"{source} is no {architecture} with the {stem} stem, which has {len(expected)} tensors: "
            f"{', '.join(wrong)}; export the encoder again, or correct its names"
        )


def _load_initial(network: nn.Module, architecture: str, weights: str) -> None:
    """Load initial weights; `random` leaves those that were drawn.

    Raises:
        AnoframeError: a tensor is missing or has another shape, as with other weights than random for a small stem.
    """
    state = load_state(architecture, weights)
    if state is None:
        if ":" in weights:
            raise AnoframeError(f"encoder.weights {weights}: write random, --seed draws the weights")
        return
    own = network.state_dict()
    wrong = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    if wrong:
        raise AnoframeError(
            f"weights {weights!r} do not fit {architecture}: {len(wrong)} of {len(own)} tensors are missing or have "
            f"another shape, the first is {wrong[0]!r}; --encoder.weights random, or --encoder.stem imagenet"
        )
    network.load_state_dict({name: state[name] for name in own})


def _per_channel(name: str, values: Sequence[float]) -> Tensor:
    if len(values) != 3:
        raise AnoframeError(f"encoder.{name} takes one number per RGB channel, got {tuple(values)}")
    return torch.tensor([float(value) for value in values]).view(1, 3, 1, 1)
