"""Exported encoders: `encoder.safetensors` with the tensors of a whole encoder and metadata on how it was trained.

`model.backbone.name = "exported:PATH"` uses such a file wherever a timm name is accepted. Loading is strict: the file
has every tensor of the encoder in its shape and no other; only the classifier, which an export never has, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from anoframe.backbones.encoder import STEMS, Encoder, check_state
from anoframe.errors import AnoframeError
from anoframe.utils.files import write_atomic
from anoframe.utils.paths import expand_path
from anoframe.utils.tensor_files import read_tensors, serialise

PREFIX = "exported:"
FORMAT = "1"
_REQUIRED = ("format", "architecture", "stem", "mean", "std", "input_size", "method", "epochs", "data")
_DATA_PARALLEL = "module."  # start of every name in the state of a DataParallel module


@dataclass(frozen=True)
class EncoderExport:
    """Content of an exported file.

    Attributes:
        architecture: timm model name.
        stem: see `anoframe.backbones.encoder`.
        mean, std: of the normalisation.
        input_size: side of the training images in pixels.
        facts: how it was trained: `method`, `epochs`, `data` (hash of the training images), and others.
        state: every tensor of the encoder.
    """

    architecture: str
    stem: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    facts: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, Any]:
        """Return what results say about the encoder, with the number of loaded tensors."""
        return {"architecture": self.architecture, "stem": self.stem, "tensors": len(self.state), **self.facts}


def write_export(path: Path, encoder: Encoder, input_size: int, facts: Mapping[str, str]) -> int:
    """Write an encoder; returns the number of tensors.

    Args:
        path: of the file.
        encoder: trained.
        input_size: side of its training images in pixels.
        facts: text, with `method`, `epochs` and `data` at least.
    """
    metadata = {
        "format": FORMAT,
        "architecture": encoder.architecture,
        "stem": encoder.stem,
        "mean": json.dumps(encoder.mean.flatten().tolist()),
        "std": json.dumps(encoder.std.flatten().tolist()),
        "input_size": str(input_size),
        **facts,
    }
    state = encoder.network.state_dict()
    check_state(state, encoder.architecture, encoder.stem, "the trained encoder")
    write_atomic(path, serialise(state, metadata))
    return len(state)


def read_export(name: str | Path) -> EncoderExport:
    """Read an exported encoder.

    Args:
        name: path of the file, or of the run folder that has it; `exported:` may precede it.

    Raises:
        AnoframeError: the file is missing or damaged, is no export, or lacks a tensor.
    """
    path = expand_path(str(name).removeprefix(PREFIX), "model.backbone.name")
    if path.is_dir():
        path = path / "encoder.safetensors"
    state = read_tensors(path)
    metadata = _read_metadata(path)
    if all(name.startswith(_DATA_PARALLEL) for name in state):
        state = {name.removeprefix(_DATA_PARALLEL): value for name, value in state.items()}
    check_state(state, metadata["architecture"], metadata["stem"], str(path))
    try:
        mean, std = (tuple(float(value) for value in json.loads(metadata[key])) for key in ("mean", "std"))
        size = int(metadata["input_size"])
    except (ValueError, TypeError) as error:
        raise AnoframeError(f"{path} is damaged: its mean, std or input_size is no number; export again") from error
    facts = {key: metadata[key] for key in metadata if key not in ("format", "architecture", "stem", "mean", "std")}
    return EncoderExport(metadata["architecture"], metadata["stem"], mean, std, size, facts, state)


def load_encoder(export: EncoderExport) -> Encoder:
    """Build the exported encoder, frozen and in eval mode."""
    encoder = Encoder(export.architecture, stem=export.stem, mean=export.mean, std=export.std)
    encoder.network.load_state_dict(dict(export.state))
    frozen: nn.Module = encoder.requires_grad_(False).eval()
    assert isinstance(frozen, Encoder)
    return frozen


def _read_metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(sorted((file.metadata() or {}).items()))  # the library's order differs between processes
    except (SafetensorError, OSError) as error:
        raise AnoframeError(
            f"{path} is no exported encoder ({error}): name the encoder.safetensors of a run"
        ) from error
    if missing := [key for key in _REQUIRED if key not in metadata]:
        raise AnoframeError(
            f"{path} is no exported encoder, its metadata lack {', '.join(missing)}: name the encoder.safetensors of a "
            "pretraining run; for plain weights use --model.backbone.name ARCHITECTURE --model.backbone.weights PATH"
        )
    if metadata["format"] != FORMAT:
        raise AnoframeError(f"{path} has export format {metadata['format']}, this version reads {FORMAT}: export again")
    if metadata["stem"] not in STEMS:
        raise AnoframeError(f"{path} has the unknown stem {metadata['stem']!r}, known are {', '.join(STEMS)}")
    return metadata
