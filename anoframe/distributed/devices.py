"""From `--device` to a torch device."""

from __future__ import annotations

import torch

from anoframe.errors import AnoframeError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or a GPU's number, for a process that is alone.

    Raises:
        AnoframeError: the device is not on this machine, or the name is none, or are several.
    """
    if len(name.split()) > 1:
        raise AnoframeError(
            f"--device {name}: one process works on one device, name one of them. Training on several has a process "
            f"for each: the command line with --device {name}, or a script that torchrun starts"
        )
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


def choose_devices(name: str, count: int) -> list[torch.device]:
    """A device for each of `count` processes of this machine.

    Args:
        name: a word for each process; or `cpu` for all, `cuda` for the GPUs from the first on, `auto` for GPUs where
            there are any.

    Raises:
        AnoframeError: there are not as many devices, or as many words; or processes would share a GPU.
    """
    words = name.split()
    if len(words) == 1 and count > 1 and not name.isdecimal():
        there = torch.cuda.device_count()
        if choose_device(name).type == "cpu":
            words = ["cpu"] * count
        elif count > there:
            raise AnoframeError(f"{count} processes on this machine, and {there} GPUs: --nproc-per-node {there}")
        else:
            words = [str(number) for number in range(count)]
    if len(words) != count:
        raise AnoframeError(
            f"--device {name} names {len(words)} for {count} processes on this machine: --nproc-per-node {len(words)}"
        )
    devices = [choose_device(word) for word in words]
    if len({device.type for device in devices}) > 1:
        raise AnoframeError(f"--device {name}: devices of one run are of one kind")
    if devices[0].type == "cuda" and len(set(devices)) < count:
        raise AnoframeError(f"--device {name}: a GPU is for one process")
    return devices


def choose_own_device(name: str, place: int, count: int) -> torch.device:
    """The device of a process that is number `place` of `count` on this machine; errors as for `choose_devices`."""
    return choose_devices(name, count)[place]
