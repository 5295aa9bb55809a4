"""Number formats of frozen backbones."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from anoframe.errors import AnoframeError

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str) -> None:
    """Raise an AnoframeError unless `precision` is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise AnoframeError(f"model.backbone.precision is one of {', '.join(PRECISIONS)}, got {precision!r}")


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 natively, without converting to float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a backbone computes on a device.

    Raises:
        AnoframeError: `precision` is bfloat16, and the device has no instructions for it.
    """
    if precision != "bfloat16":
        return nullcontext()
    if not has_bfloat16(device):
        raise AnoframeError(
            f"this {device.type} has no bfloat16 instructions, and bfloat16 would only be slower: "
            "--model.backbone.precision float32"
        )
    return torch.autocast(device.type, torch.bfloat16)
