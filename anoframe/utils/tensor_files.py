"""Reading files of tensors from untrusted sources, without running code from them, and fingerprints of tensors."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anoframe.errors import AnoframeError

# Error text for a pickle in place of a safetensors file.
PICKLE = (
    "a pickle, not safetensors, and not loaded because a pickle can run code; if you trust its source, save its "
    "tensors with safetensors.torch.save_file"
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or a `.pth` file; the content decides which of the two it is.

    Raises:
        AnoframeError: names the file. It is missing or damaged, holds values that are not finite, is a pickle with
            other objects than tensors (which is not loaded), or is a pickle with the extension `.safetensors`.
    """
    if not path.is_file():
        raise AnoframeError(f"no weights file {path}")
    try:
        tensors = _load(path)
    except pickle.UnpicklingError as error:
        raise AnoframeError(
            f"{path}: holds more than tensors and was not loaded, because such a file can run code. "
            "Save the state_dict alone, best as safetensors"
        ) from error
    except AnoframeError:
        raise
    except Exception as error:
        raise AnoframeError(f"{path}: damaged, or not a weights file ({error}); copy or download it again") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise AnoframeError(f"{path}: its tensor {name} holds values that are not finite; use other weights")
    return tensors


def _load(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # a safetensors file begins with the length of its header (8 bytes), then the header in JSON
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".safetensors":
        reason = PICKLE if is_pickle(start) else "damaged, or not safetensors; copy or download it again"
        raise AnoframeError(f"{path}: {reason}")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def serialise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Serialise tensors with metadata as safetensors, with the same bytes each time.

    The library writes metadata in an order that differs from process to process, so its header is written again, with
    sorted keys.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    return len(header).to_bytes(8, "little") + header + data[end:]


def is_pickle(start: bytes) -> bool:
    """Return whether a file with these first bytes is a pickle, or the archive that `torch.save` writes."""
    return start[:1] == b"\x80" or start[:4] == b"PK\x03\x04"


def fingerprint(tensors: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of names, shapes, types and values of tensors, whatever their order and memory layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
