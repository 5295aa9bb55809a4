"""Multi-level features of any timm model, frozen."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.backbones.encoder import set_stem
from anoframe.backbones.engines import EngineNetwork, check_engine, engine_version
from anoframe.backbones.exported import PREFIX, EncoderExport, read_export
from anoframe.backbones.network_facts import NetworkFacts, read_facts, write_facts
from anoframe.backbones.precision import autocast, check_precision
from anoframe.backbones.weights import find_local_file, load_state, pretrained_config, random_seed, resolve_source
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.compilation import compile_deterministic
from anoframe.utils.imports import load_timm
from anoframe.utils.tensor_files import fingerprint

_BUILDING = threading.Lock()  # several threads may need a network first


class FeaturePyramid(nn.Module):
    """Frozen network that turns images into feature maps of several levels.

    It normalises images with its own mean and std, ends at the deepest used level, stays in eval mode after a call of
    `train()`, and none of its parameters requires a gradient.

    Args:
        name: timm model name, with or without a tag (`wide_resnet50_2`, `wide_resnet50_2.racm_in1k`), or
            `exported:PATH`, an encoder that was pretrained here, with its own stem and normalisation.
        levels: feature levels by timm's index or module name; `(2, 3)` are strides 8 and 16 of the usual
            convolutional networks (`layer2` and `layer3` of a ResNet, `blocks.2` and `blocks.4` of an
            EfficientNet). The output has the same order.
        weights: source of the weights, see :mod:`anoframe.backbones.weights`; `default` for an exported encoder.
        precision: `"float32"`, or `"bfloat16"` for convolutions and matrix products. bfloat16 is faster on a
            processor that supports it, and is an error on any other. Features are float32 in both cases.
        compile: use `torch.compile`: the first image takes one or two minutes, later ones a tenth less time.
        engine: what computes the features on a CPU: `"torch"`, `"onnxruntime"` or `"openvino"`, see
            :mod:`anoframe.backbones.engines`; on another device torch does.

    Attributes:
        levels: module name of each level.
        channels: number of channels of each level.
        strides: stride of each level, in pixels of the image.
        weights: source of the weights, with `default` resolved.
        sha256: fingerprint of the weights in use.
        has_text: whether there is a text encoder.
    """

    has_text = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        levels: Sequence[int | str],
        weights: str = "default",
        precision: str = "float32",
        compile: bool = False,
        engine: str = "torch",
    ):
        super().__init__()
        check_precision(precision)
        check_engine(engine)
        if engine != "torch" and (precision != "float32" or compile):
            raise AnoframeError(
                f"model.backbone.engine {engine} computes in float32 and compiles by itself, got precision {precision} "
                f"and compile {compile}: leave them at float32 and False, or --model.backbone.engine torch"
            )
        self.engine = engine
        self.precision, self.compile_network = precision, compile
        self.name = name
        self._export = export = _open_export(name, weights)
        architecture, _, tag = (export.architecture, "", "") if export else name.partition(".")
        if tag and weights == "default":
            weights = f"hub:{tag}"
        self._architecture, self._stem = architecture, export.stem if export else "imagenet"
        self.weights = "exported" if export else resolve_source(architecture, weights)
        known = self._read_facts(levels)
        info = known.levels if known else _feature_info(architecture, self._stem)
        requested = [_level_index(level, info, name) for level in levels]
        if not requested or len(set(requested)) != len(requested):
            raise AnoframeError(f"model.backbone.levels names each level once and at least one, got {tuple(levels)}")
        self._indices, indices = requested, sorted(requested)
        self._order = [indices.index(i) for i in requested]
        self.levels = tuple(info[i]["module"] for i in requested)
        self.channels = tuple(info[i]["num_chs"] for i in requested)
        self.strides = tuple(info[i]["reduction"] for i in requested)
        self._known_sha256 = known.sha256 if known else None
        facts = known or self._find_facts(levels, info, tag)
        self.sha256 = facts.sha256
        self.register_buffer("mean", torch.tensor(facts.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(facts.std).view(1, 3, 1, 1), persistent=False)
        self.eval()
        self._compiled = compile_deterministic(self.network.forward) if compile else None
        self._in_engine: EngineNetwork | None = None
        if engine != "torch":
            identity = (architecture, self._stem, indices, self.sha256, version("timm"))
            self._in_engine = EngineNetwork(engine, lambda: self.network, identity)

    @property
    def network(self) -> nn.Module:
        """The network, built when it is first needed; a run on cached features never needs it."""
        with _BUILDING:
            if "network" not in self._modules:
                self._modules["network"] = self._build()
        network = self._modules["network"]
        assert network is not None
        return network

    def _read_facts(self, levels: Sequence[int | str]) -> NetworkFacts | None:
        """Return what is known of this network from an earlier run."""
        self._file = None if self._export else find_local_file(self.weights)
        self._keeps_facts = self._file is not None or self.weights.partition(":")[0] == "random"
        return read_facts(self.name, levels, self.weights, self._file) if self._keeps_facts else None

    def _find_facts(self, levels: Sequence[int | str], info: Sequence[Mapping[str, Any]], tag: str) -> NetworkFacts:
        """Build the network, and keep what the next run needs to know of it."""
        used = self.weights.partition(":")[2] if self.weights[:4] == "hub:" else tag
        source: Any = self._export or pretrained_config(self._architecture, used)
        facts = NetworkFacts(info, fingerprint(self.network.state_dict()), source.mean, source.std)
        if self._keeps_facts:
            write_facts(facts, self.name, levels, self.weights, self._file)
        return facts

    def _build(self) -> nn.Module:
        state = self._export.state if self._export else load_state(self._architecture, self.weights)
        network: nn.Module = _build_network(self._architecture, self._stem, sorted(self._indices), self.weights, state)
        if self._known_sha256 not in (None, fingerprint(network.state_dict())):
            raise AnoframeError(
                f"the weights of {self.name} ({self.weights}) are not those of an earlier run, although their file has "
                "the same size and time: empty the cache with --cache clear"
            )
        network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # a tenth faster on a CPU
        return network.to(self.mean.device) if "mean" in self._buffers else network

    @cached_property
    def signed(self) -> tuple[bool, ...]:
        """Whether each level can have negative values, by the structure of the network, not by its output for an image.

        The direct output of a ReLU is not signed (ResNet); any other level counts as signed (EfficientNet, ConvNeXt).
        """
        signed = _signed_levels(self._architecture, self._stem, tuple(sorted(self._indices)))
        return tuple(signed[i] for i in self._order)

    def train(self, mode: bool = True) -> FeaturePyramid:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the features of RGB images.

        Args:
            images: `[B, 3, H, W]`, uint8, or float in [0, 1].

        Returns:
            One `[B, C, h, w]` float32 map per level, in the order of `levels`.
        """
        features = self._features(self.normalise(images).contiguous(memory_format=torch.channels_last))
        return [features[i].float() for i in self._order]

    def normalise(self, images: Tensor) -> Tensor:
        """Scale images to [0, 1] and apply mean and std of the backbone; `images` as for `forward`."""
        pixels = images / 255 if images.dtype == torch.uint8 else images
        return (pixels - self.mean) / self.std

    def _features(self, pixels: Tensor) -> list[Tensor]:
        if self._in_engine and self._uses_engine:
            return self._in_engine(pixels)
        try:
            with autocast(pixels.device, self.precision):
                return list((self._compiled or self.network)(pixels))
        except torch._dynamo.exc.TorchDynamoException as error:  # raised only with compile=True
            reason = str(error).strip().splitlines()[0]
            raise AnoframeError(f"torch.compile fails here ({reason}): --model.backbone.compile False") from error

    @property
    def _uses_engine(self) -> bool:
        """Whether the engine computes: on a CPU. Another device, and an export of the whole detector, need torch."""
        on_cpu = self.mean.device.type == "cpu"
        return self._in_engine is not None and on_cpu and not torch.compiler.is_exporting()

    def with_levels(self, levels: Sequence[int | str]) -> FeaturePyramid:
        """Build the same network with other levels."""
        settings = (self.weights, self.precision, self.compile_network, self.engine)
        return FeaturePyramid(self.name, levels, *settings)

    def untrained_network(self) -> nn.Module:
        """Build the same network with new random weights, to be trained: normalised images in, a list of maps out.

        The weights are drawn from torch's global generator. The maps have the order and the channels of `levels`.
        """
        network: nn.Module = _create_network(self._architecture, self._stem, sorted(self._indices))
        return _Reordered(network, self._order)

    def level_names(self, levels: Sequence[int | str]) -> tuple[str, ...]:
        """Return the module names of any levels of the network, used by this pyramid or not."""
        info = _feature_info(self._architecture, self._stem)
        return tuple(str(info[_level_index(level, info, self.name)]["module"]) for level in levels)

    def describe(self) -> dict[str, Any]:
        """Return the description of the backbone that is stored with results and checkpoints."""
        network = {"name": self.name, "levels": list(self.levels), "weights": self.weights, "sha256": self.sha256}
        exported = self._export.describe() if self._export else {}
        return {**network, "precision": self.precision, **exported, **self._describe_engine()}

    def encoding(self) -> dict[str, Any]:
        """Return everything that determines the features; the values of the weights count, not their source."""
        name = f"{self._architecture}, {self._stem} stem" if self._export else self.name
        network = {"name": name, "levels": list(self.levels), "sha256": self.sha256, "timm": version("timm")}
        normalisation = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        computation = {"precision": self.precision, "compile": self.compile_network}
        return {**network, **normalisation, **computation, **self._describe_engine()}

    def _describe_engine(self) -> dict[str, str]:
        """Return name and version of the engine; nothing for torch, whose version stands elsewhere."""
        return {"engine": self.engine, "engine_version": engine_version(self.engine)} if self._uses_engine else {}


@cache  # timm knows the levels of a model only after building it, which takes half of the time to build a backbone
def _feature_info(architecture: str, stem: str) -> tuple[Mapping[str, Any], ...]:
    """Return timm's description of each feature level: `module`, `num_chs` (channels), `reduction` (stride)."""
    if not load_timm().is_model(architecture):
        raise AnoframeError(f"timm has no model {architecture!r}: {suggest(architecture, load_timm().list_models())}")
    try:
        with torch.device("meta"):
            network: Any = load_timm().create_model(architecture, features_only=True, **_branches(architecture))
            info = network.feature_info.info
            if stem != "imagenet":
                info = _with_measured_strides(info, _create_network(architecture, stem, list(range(len(info)))))
            return tuple(MappingProxyType(level) for level in info)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise AnoframeError(f"timm model {architecture!r} gives no feature levels ({error})") from error


def _with_measured_strides(info: Sequence[Mapping[str, Any]], network: nn.Module) -> list[dict[str, Any]]:
    """Return the description of the levels with the strides of a network whose stem was changed, from a meta pass."""
    side = 256
    maps = network.eval()(torch.empty(1, 3, side, side))
    return [{**level, "reduction": side // output.shape[-1]} for level, output in zip(info, maps, strict=True)]


def _open_export(name: str, weights: str) -> EncoderExport | None:
    """Read the export behind a name; None for the name of a timm model."""
    if not name.startswith(PREFIX):
        return None
    if weights not in ("default", "exported"):
        raise AnoframeError(
            f"model.backbone.name {name} brings its own weights, got model.backbone.weights {weights!r}: "
            "--model.backbone.weights default"
        )
    return read_export(name)


def _level_index(level: int | str, info: Sequence[Mapping[str, Any]], name: str) -> int:
    """Return the index of a level given by index or module name."""
    modules = [entry["module"] for entry in info]
    if isinstance(level, str) and level in modules:
        return modules.index(level)
    if isinstance(level, int) and 0 <= level < len(info):
        return level
    known = [f"{i} or {e['module']!r} ({e['num_chs']} channels, stride {e['reduction']})" for i, e in enumerate(info)]
    raise AnoframeError(f"backbone {name!r} has no level {level!r}; it has {', '.join(known)}")


@cache  # a pass on meta tensors takes longer than building the network
def _signed_levels(architecture: str, stem: str, indices: tuple[int, ...]) -> tuple[bool, ...]:
    """Return for each level whether it is anything but the unmodified output of a ReLU, from a pass on meta tensors."""
    relu_outputs: list[tuple[Tensor, int]] = []  # each with its version, which in-place operations increase
    with torch.device("meta"), torch.no_grad():
        network = _create_network(architecture, stem, list(indices))
        for layer in network.modules():
            if isinstance(layer, nn.ReLU | nn.ReLU6):
                layer.register_forward_hook(lambda _, __, out: relu_outputs.append((out, out._version)))
        settings = getattr(network, "model", network).default_cfg
        levels = network.eval()(torch.empty(1, *settings["input_size"]))
    return tuple(
        not any(out is level and version == level._version for out, version in relu_outputs) for level in levels
    )


def _build_network(
    architecture: str, stem: str, indices: list[int], weights: str, state: Mapping[str, Tensor] | None
) -> Any:
    """Build the network up to its deepest level and load its weights; without a state they are random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed(weights) if state is None else 0)
        network = _create_network(architecture, stem, indices)
    if state is None:
        return network
    whole = getattr(network, "model", network)
    expected = whole.state_dict()
    missing = [key for key, value in expected.items() if key not in state or state[key].shape != value.shape]
    if missing:
        raise AnoframeError(
            f"weights {weights!r} do not fit {architecture}: {len(missing)} of {len(expected)} tensors are missing or "
            f"have another shape, the first is {missing[0]!r}"
        )
    whole.load_state_dict({key: state[key] for key in expected})
    return network


def _create_network(architecture: str, stem: str, indices: list[int]) -> Any:
    """Create the network up to its deepest level with timm's random initialisation."""
    branches = _branches(architecture)
    options = branches or {"feature_cls": "getter"}
    network = load_timm().create_model(architecture, features_only=True, out_indices=indices, **options)
    set_stem(getattr(network, "model", network), architecture, stem)
    return network


def _branches(architecture: str) -> dict[str, Any]:
    """Return the option by which an HRNet gives its branches, as in anomaly detection, instead of its widened heads."""
    return {"feature_location": ""} if architecture.startswith("hrnet") else {}


class _Reordered(nn.Module):
    """A network whose maps are returned in another order."""

    def __init__(self, network: nn.Module, order: Sequence[int]):
        super().__init__()
        self.network, self._order = network, list(order)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        levels = list(self.network(pixels))
        return [levels[i] for i in self._order]
