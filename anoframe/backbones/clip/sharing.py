"""One copy of a CLIP model's weights for all detectors of a process.

With protocol `separate` each category builds its own detector. Reading and hashing hundreds of megabytes each time
would take seconds, so the last encoder is kept, and each further one shares its tensors.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from anoframe.backbones.clip.encoder import ClipEncoder
from anoframe.registry import check_arguments
from anoframe.utils.paths import expand_path


def build_shared(section: Mapping[str, Any]) -> ClipEncoder:
    """Build a `ClipEncoder`, or take its weights from the last one built from an equal section.

    Each call returns a new module, whose tensors share memory with those of the kept encoder on the CPU. This is safe:
    nothing writes to frozen weights, and `.to(device)` gives the new module its own tensors, as any module.

    Args:
        section: keyword arguments of `ClipEncoder`.

    Raises:
        AnoframeError: as `ClipEncoder`, or an unknown or missing argument or a wrong type.
    """
    check_arguments(ClipEncoder, section, "model.backbone: an open_clip model")
    arguments = dict(section)
    return _share(_build(json.dumps(arguments, sort_keys=True), _file_stamp(arguments.get("weights", ""))))


@lru_cache(maxsize=1)
def _build(arguments: str, stamp: tuple[int, int] | None) -> ClipEncoder:
    return ClipEncoder(**json.loads(arguments))


def _file_stamp(weights: str) -> tuple[int, int] | None:
    """Return size and time of change of a weights file, whose change is a reason to read it again; else None."""
    path = expand_path(weights, "model.backbone.weights") if weights else Path()
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def _share(encoder: ClipEncoder) -> ClipEncoder:
    """Copy a module without copying the memory of its tensors."""
    memo: dict[int, Any] = {id(encoder.text_features): encoder.text_features}
    for parameter in encoder.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in encoder.buffers():
        memo[id(buffer)] = buffer.detach()
    return copy.deepcopy(encoder, memo)
