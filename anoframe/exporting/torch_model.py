"""Torch's own format, `torch.export`: a file that `torch.export.load` runs without anoframe."""

from __future__ import annotations

import io
import warnings

import torch

from anoframe.deploy.description import KEY


def serialise(program: torch.export.ExportedProgram, description: str) -> bytes:
    """Return the bytes of a `.pt2` file; its extra file `anoframe` is the description."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a tensor that is part of another one
        torch.export.save(program, buffer, extra_files={KEY: description})
    return buffer.getvalue()
