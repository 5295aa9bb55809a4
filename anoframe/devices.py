"""From `--device` to a torch device."""

from __future__ import annotations

import torch

from anoframe.errors import AnoframeError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or a GPU's number; several numbers are refused, because no method here learns on several.

    Raises:
        AnoframeError: the device is not on this machine, or the name is none.
    """
    words = name.split()
    if len(words) > 1:
        raise AnoframeError(f"--device {name}: this method runs on one device, name one of them")
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda" and not name.isdecimal():
        raise AnoframeError(f"--device takes auto, cpu, cuda or the number of a GPU, got {name!r}")
    if not available:
        raise AnoframeError(f"--device {name}: this torch ({torch.__version__}) sees no GPU here; use --device cpu")
    if name.isdecimal() and int(name) >= torch.cuda.device_count():
        raise AnoframeError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    return torch.device("cuda" if name == "cuda" else f"cuda:{name}")
