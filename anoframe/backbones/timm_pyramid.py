"""Any timm model as a frozen feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor, nn

from anoframe.backbones.weights import fingerprint, load_state, pretrained_config, random_seed, resolve
from anoframe.errors import AnoframeError, suggest

PRECISIONS = ("float32", "bfloat16")


class FeaturePyramid(nn.Module):
    """A frozen network that turns images into feature maps of several levels.

    It normalises with its own mean and std, stops at the deepest level used, stays in eval mode whoever calls
    `train()`, and has no parameter that asks for a gradient.

    Args:
        name: timm model name, with or without a tag (`wide_resnet50_2`, `wide_resnet50_2.racm_in1k`).
        levels: feature levels by timm's index or module name; `(2, 3)` are strides 8 and 16 of the usual
            convolutional networks (`layer2` and `layer3` of a ResNet, `blocks.2` and `blocks.4` of an
            EfficientNet). The order given is the order of the output.
        weights: see :mod:`anoframe.backbones.weights`.
        precision: `"float32"`, or `"bfloat16"` for convolutions and products: faster where the processor has it, and
            refused where it has not. Features come out as float32.
        compile: let `torch.compile` fuse the network: a minute or two at the first image, a tenth faster afterwards.

    Attributes:
        channels, strides: of each level, in the order given.
        weights: the source, with `default` resolved.
        sha256: fingerprint of the tensors in use.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        levels: Sequence[int | str],
        weights: str = "default",
        precision: str = "float32",
        compile: bool = False,
    ):
        super().__init__()
        if precision not in PRECISIONS:
            raise AnoframeError(f"model.backbone.precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.precision, self.compile_network = precision, compile
        architecture, _, tag = name.partition(".")
        if tag and weights == "default":
            weights = f"hub:{tag}"
        self.name = name
        self.weights = resolve(architecture, weights)
        info = _feature_info(architecture)
        wanted = [_index(level, info, name) for level in levels]
        if not wanted or len(set(wanted)) != len(wanted):
            raise AnoframeError(f"model.backbone.levels names each level once and at least one, got {tuple(levels)}")
        self._indices, indices = wanted, sorted(wanted)
        self._order = [indices.index(i) for i in wanted]
        self.levels = tuple(info[i]["module"] for i in wanted)
        self.channels = tuple(info[i]["num_chs"] for i in wanted)
        self.strides = tuple(info[i]["reduction"] for i in wanted)
        self.network = _network(architecture, indices, self.weights)
        self.sha256 = fingerprint(self.network.state_dict())
        config = pretrained_config(architecture, self.weights.partition(":")[2] if self.weights[:4] == "hub:" else tag)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()
        self.network.to(memory_format=torch.channels_last)  # a tenth faster on a CPU
        self._compiled = torch.compile(self.network.forward) if compile else None

    @cached_property
    def signed(self) -> tuple[bool, ...]:
        """Whether each level can have negative values, by how the network is built, not by what it gives for an image.

        A level straight out of a ReLU has none (ResNet); any other counts as signed (EfficientNet, ConvNeXt).
        """
        found = _signed(self.name.partition(".")[0], sorted(self._indices))
        return tuple(found[i] for i in self._order)

    def train(self, mode: bool = True) -> FeaturePyramid:
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of RGB images.

        Args:
            images: `[B, 3, H, W]`, uint8, or float in [0, 1].

        Returns:
            One `[B, C, h, w]` float32 map a level, in the order of `levels`.
        """
        pixels = images / 255 if images.dtype == torch.uint8 else images
        pixels = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = self._features(pixels)
        return [features[i].float() for i in self._order]

    def _features(self, pixels: Tensor) -> list[Tensor]:
        if self.precision == "bfloat16" and not has_bfloat16(pixels.device):
            raise AnoframeError(
                f"this {pixels.device.type} computes no bfloat16 of its own, and would only be slower: "
                "--model.backbone.precision float32"
            )
        try:
            with torch.autocast(pixels.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext():
                return list((self._compiled or self.network)(pixels))
        except torch._dynamo.exc.TorchDynamoException as error:  # only where it was asked to compile
            reason = str(error).strip().splitlines()[0]
            raise AnoframeError(f"torch.compile fails here ({reason}): --model.backbone.compile False") from error

    def with_levels(self, levels: Sequence[int | str]) -> FeaturePyramid:
        """The same network, with other levels."""
        return FeaturePyramid(self.name, levels, self.weights, self.precision, self.compile_network)

    def level_names(self, levels: Sequence[int | str]) -> tuple[str, ...]:
        """Module names of levels of the network, whether this pyramid gives them or not."""
        info = _feature_info(self.name.partition(".")[0])
        return tuple(str(info[_index(level, info, self.name)]["module"]) for level in levels)

    def describe(self) -> dict[str, Any]:
        """What a result must say of its backbone."""
        network = {"name": self.name, "levels": list(self.levels), "weights": self.weights, "sha256": self.sha256}
        return {**network, "precision": self.precision}

    def encoding(self) -> dict[str, Any]:
        """What the features depend on: not on where the weights came from, but on what they are."""
        network = {"name": self.name, "levels": list(self.levels), "sha256": self.sha256, "timm": timm.__version__}
        colours = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        return {**network, **colours, "precision": self.precision, "compile": self.compile_network}


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself, not by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _feature_info(architecture: str) -> list[dict[str, Any]]:
    if not timm.is_model(architecture):
        raise AnoframeError(f"timm has no model {architecture!r}: {suggest(architecture, timm.list_models())}")
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(architecture, features_only=True)
            return list(network.feature_info.info)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise AnoframeError(f"timm model {architecture!r} gives no feature levels ({error})") from error


def _index(level: int | str, info: list[dict[str, Any]], name: str) -> int:
    modules = [entry["module"] for entry in info]
    if isinstance(level, str) and level in modules:
        return modules.index(level)
    if isinstance(level, int) and 0 <= level < len(info):
        return level
    known = [f"{i} or {e['module']!r} ({e['num_chs']} channels, stride {e['reduction']})" for i, e in enumerate(info)]
    raise AnoframeError(f"backbone {name!r} has no level {level!r}; it has {', '.join(known)}")


def _signed(architecture: str, indices: list[int]) -> list[bool]:
    """Of each level, whether the last layer it went through is anything but a ReLU. Shapes pass, no numbers."""
    passed: list[tuple[Tensor, nn.Module]] = []  # what came out of each layer; kept, so that no two are the same object
    with torch.device("meta"), torch.no_grad():
        network: Any = timm.create_model(architecture, features_only=True, out_indices=indices, feature_cls="getter")
        for layer in network.modules():
            if not (list(layer.children()) or isinstance(layer, nn.Identity)):
                layer.register_forward_hook(lambda layer, _, out: passed.append((out, layer)))
        levels = network.eval()(torch.empty(1, *network.model.default_cfg["input_size"]))
    last = [[layer for out, layer in passed if out is level][-1:] for level in levels]
    return [not (layer and isinstance(layer[0], nn.ReLU | nn.ReLU6)) for layer in last]


def _network(architecture: str, indices: list[int], weights: str) -> Any:
    """The network cut behind its deepest level, with its weights in place."""
    state = load_state(architecture, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed(weights) if state is None else 0)
        network: Any = timm.create_model(architecture, features_only=True, out_indices=indices, feature_cls="getter")
    if state is None:
        return network
    needed = network.model.state_dict()
    missing = [key for key, value in needed.items() if key not in state or state[key].shape != value.shape]
    if missing:
        raise AnoframeError(
            f"weights {weights!r} do not fit {architecture}: {len(missing)} of {len(needed)} tensors are missing or of "
            f"another shape, the first is {missing[0]!r}"
        )
    network.model.load_state_dict({key: state[key] for key in needed})
    return network
