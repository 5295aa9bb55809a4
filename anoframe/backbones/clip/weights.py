"""Sources of CLIP weights. Never silently random, and never a file that can run code.

| `weights`       | meaning                                                                                        |
|-----------------|------------------------------------------------------------------------------------------------|
| `TAG` `hub:TAG` | weights of that open_clip tag: from the caches of the hub and of open_clip, else a download     |
| a path          | a `.safetensors` file, or a torch file that loads with `weights_only=True`                      |
| `random[:SEED]` | open_clip's initialisation with that seed (default 0): for tests of shapes, not for accuracy    |
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from open_clip import constants, get_model_config, list_models, list_pretrained_tags_by_model, pretrained
from torch import Tensor

from anoframe.backbones import weights as timm_weights
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.paths import expand_path
from anoframe.utils.tensor_files import read_tensors

KEY = "model.backbone.weights"
QUICK_GELU = "-quickgelu"  # open_clip's name of a model with QuickGELU is the name without it and this ending
DOWNLOADS = Path("~/.cache/clip")  # where open_clip keeps files that do not come from the hub


@dataclass(frozen=True)
class Source:
    """Where the weights of a model come from.

    Attributes:
        label: what provenance shows: `laion400m_e31`, `random:0` or the path as given.
        tag: open_clip's description of a pretrained tag (`hf_hub`, `url`, `mean`, `std`, ...); None for a file.
        path: a local file; None for a tag that must be downloaded, and for random weights.
        seed: seed of random weights, or None.
    """

    label: str
    tag: Mapping[str, Any] | None = None
    path: Path | None = None
    seed: int | None = None


def model_settings(architecture: str) -> dict[str, Any]:
    """Return a copy of open_clip's settings of a model (`embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`, ...).

    Raises:
        AnoframeError: open_clip has no such model.
    """
    settings: dict[str, Any] | None = get_model_config(architecture) if architecture in list_models() else None
    if settings is None:
        raise AnoframeError(
            f"model.backbone.name: open_clip has no model {architecture!r}: {suggest(architecture, list_models())}"
        )
    return settings


def find_source(architecture: str, weights: str) -> Source:
    """Find the weights without loading them.

    Raises:
        AnoframeError: no weights are named, an unknown tag, a tag trained with another activation, no such file, or
            a tag that is in no cache while the hub does not answer. The message lists the ways out.
    """
    kind, _, value = weights.partition(":")
    if kind == "random":
        seed = timm_weights.random_seed(weights)
        return Source(f"random:{seed}", seed=seed)
    tag = value if kind == "hub" else weights
    if kind != "hub" and not _is_tag(architecture, tag):
        path = expand_path(weights, KEY)
        if path.is_file():
            return Source(weights, path=path)
        if weights and ("/" in weights or path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt")):
            raise AnoframeError(
                _no_weights(architecture, f"there is no weights file {path}", "TAG", _first(architecture))
            )
    description = _describe_tag(architecture, tag)
    return Source(pretrained._clean_tag(tag), description, _find_local_file(architecture, tag, description))


def load_state(architecture: str, source: Source) -> dict[str, Tensor] | None:
    """Read the tensors of a source, downloading them if needed; None for random weights."""
    if source.seed is not None:
        return None
    path = source.path
    if path is None and source.tag is not None:
        path = _download(architecture, source.label, source.tag)
    assert path is not None
    if _is_torchscript(path):
        raise AnoframeError(_torchscript_message(path))
    return read_tensors(path)


def normalisation(architecture: str, source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of RGB values in [0, 1]: of the tag, else of any tag of the model, else those of CLIP."""
    description = source.tag or _first(architecture)
    mean = description.get("mean", constants.OPENAI_DATASET_MEAN)
    return tuple(mean), tuple(description.get("std", constants.OPENAI_DATASET_STD))


# ------------------------------------------------------------------------------------------------ tags


def _is_tag(architecture: str, tag: str) -> bool:
    return bool(tag) and any(
        pretrained.is_pretrained_cfg(name, tag) for name in (architecture, _other_activation(architecture))
    )


def _describe_tag(architecture: str, tag: str) -> dict[str, Any]:
    """Return open_clip's description of a tag, after checking that the model has the activation it was trained with."""
    known = list_pretrained_tags_by_model(architecture)
    description: dict[str, Any] = pretrained.get_pretrained_cfg(architecture, tag)
    other = _other_activation(architecture)
    model_quick = bool(model_settings(architecture).get("quick_gelu", False))
    tag_quick = bool((description or pretrained.get_pretrained_cfg(other, tag)).get("quick_gelu", False))
    if (description or pretrained.is_pretrained_cfg(other, tag)) and tag_quick != model_quick:
        right = f"--model.backbone.name open_clip:{other}" if other in list_models() else "use other weights"
        raise AnoframeError(
            f"weights {tag!r} were trained with {_activation(tag_quick)}, but open_clip model {architecture!r} has "
            f"{_activation(model_quick)}, which would make its features wrong without an error: {right}"
        )
    if description:
        return description
    if not tag:
        raise AnoframeError(
            f"{KEY} is required for open_clip model {architecture!r}, which has no default weights: a tag, the path "
            f"of a file, or random for tests. Tags: {', '.join(known) or 'none'}"
        )
    raise AnoframeError(
        f"{KEY} {tag!r} is neither a file nor a tag of open_clip model {architecture!r}: "
        + (suggest(tag, known, limit=40) if known else "open_clip has no weights for it, so give the path of a file")
    )


def _other_activation(architecture: str) -> str:
    """Return the name of the same model with the other activation; there may be no such model."""
    return architecture.removesuffix(QUICK_GELU) if architecture.endswith(QUICK_GELU) else architecture + QUICK_GELU


def _activation(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"


# ------------------------------------------------------------------------------------------------ files and caches


def _hub_file(description: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the hub repository of a tag and its possible file names, the preferred one first."""
    repository, _, name = description.get("hf_hub", "").rpartition("/")
    if not name:
        return repository, [constants.HF_SAFE_WEIGHTS_NAME, constants.HF_WEIGHTS_NAME]
    return repository, [str(Path(name).with_suffix(".safetensors")), name]


def _find_local_file(architecture: str, tag: str, description: Mapping[str, Any]) -> Path | None:
    """Return the file of a tag in a local cache; None if it must be downloaded and the hub answers."""
    repository, names = _hub_file(description)
    for name in names if repository else ():
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    url = description.get("url", "")
    path = DOWNLOADS.expanduser() / url.rpartition("/")[2]
    has_download = bool(url) and path.is_file()
    if has_download and not _is_torchscript(path):
        _check_download(path, url)
        return path
    if timm_weights.is_hub_reachable():
        return None
    if has_download:
        raise AnoframeError(_torchscript_message(path))
    raise AnoframeError(_no_weights(architecture, "the hub does not answer, and no cache holds them", tag, description))


def _check_download(path: Path, url: str) -> None:
    """Compare a file with the hash in its name, `...-8fb26589.pt`."""
    expected = re.search(r"-([0-9a-f]{8})\.\w+$", url)
    if expected and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(expected[1]):
        raise AnoframeError(f"{path} is damaged: its SHA-256 does not start with {expected[1]}; delete it, or {url}")


def _download(architecture: str, tag: str, description: Mapping[str, Any]) -> Path:
    try:
        return Path(pretrained.download_pretrained(dict(description)))
    except Exception as error:  # open_clip and the hub raise many types, from a missing file to a broken download
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnoframeError(_no_weights(architecture, f"the download failed: {reason}", tag, description)) from error


def _is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, which contains code: OpenAI's own files are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript_message(path: Path) -> str:
    target = path.with_suffix(".safetensors").name
    return (
        f"{path} is a TorchScript archive, which contains code, and was not loaded. If you trust its source, convert "
        'it once:\n  python -c "import torch; from safetensors.torch import save_file; '
        f"save_file(torch.jit.load('{path.name}', 'cpu').state_dict(), '{target}')\""
    )


def _first(architecture: str) -> dict[str, Any]:
    """Return the description of a model's first tag, as an example; empty if it has none."""
    tags = list_pretrained_tags_by_model(architecture)
    return pretrained.get_pretrained_cfg(architecture, tags[0]) if tags else {}


def _no_weights(architecture: str, reason: str, tag: str, description: Mapping[str, Any]) -> str:
    """Build the error message for weights that are not here: where to get them and where to put them."""
    repository, names = _hub_file(description)
    url = description.get("url", "")
    known = ", ".join(list_pretrained_tags_by_model(architecture))
    tags = f" (tags: {known})" if tag == "TAG" else ""
    name = "" if tag == "TAG" else f" {tag!r}"
    lines = [f"no weights{name} for backbone 'open_clip:{architecture}': {reason}. Ways out:"]
    if known:
        lines.append(f"  hub    connect once; the file stays in {HF_HUB_CACHE}:  --{KEY} {tag}{tags}")
    where = f"{names[0]} of https://huggingface.co/{repository}" if repository else url or "a state_dict of the model"
    lines.append(f"  file   {where}, in any folder:  --{KEY} PATH")
    if "mlfoundations" in url:  # other files under a plain URL are TorchScript archives
        lines.append(f"  cache  {url}, in {DOWNLOADS}:  --{KEY} {tag}")
    return "\n".join([*lines, f"Random weights must be requested explicitly: --{KEY} random"])
