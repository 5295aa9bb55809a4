"""Convert the option `--device` to torch devices."""

from __future__ import annotations

import torch

from anoframe.errors import AnoframeError


def choose_device(name: str) -> torch.device:
    """The device of a single process.

    Args:
        name: `auto`, `cpu`, `cuda`, or a GPU by its number: `0` or `cuda:0`.

    Raises:
        AnoframeError: this machine has no such device, the name is unknown, or there are several names.
    """
    if len(name.split()) > 1:
        raise AnoframeError(
            f"--device {name}: one process uses one device, name one of them. Training on several devices needs one "
            f"process per device: use the command line with --device {name}, or start the script with torchrun"
        )
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    number = _gpu_number(name)
    if name != "cuda" and number is None:
        raise AnoframeError(f"--device takes auto, cpu, cuda or the number of a GPU, got {name!r}")
    if not available:
        raise AnoframeError(
            f"--device {name}: torch {torch.__version__} finds no GPU on this machine: use --device cpu"
        )
    if number is None:
        return torch.device("cuda")
    if number >= torch.cuda.device_count():
        raise AnoframeError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, numbered from 0")
    return torch.device(f"cuda:{number}")


def _gpu_number(name: str) -> int | None:
    """Return the number of a GPU given as `0` or `cuda:0`; None for other names."""
    number = name.removeprefix("cuda:")
    return int(number) if number.isdecimal() else None


def choose_devices(name: str, count: int) -> list[torch.device]:
    """One device for each of `count` processes on this machine.

    Args:
        name: one name per process, separated by spaces; or one name for all: `cpu`, `cuda` (GPUs from number 0 on), or
            `auto` (GPUs if there are any).
        count: number of processes.

    Raises:
        AnoframeError: too few devices or names, devices of different types, or a GPU for two processes.
    """
    names = name.split()
    if len(names) == 1 and count > 1 and _gpu_number(name) is None:
        num_gpus = torch.cuda.device_count()
        if choose_device(name).type == "cpu":
            names = ["cpu"] * count
        elif count > num_gpus:
            raise AnoframeError(f"this machine has {num_gpus} GPUs for {count} processes: --nproc-per-node {num_gpus}")
        else:
            names = [str(number) for number in range(count)]
    if len(names) != count:
        raise AnoframeError(
            f"--device {name} names {len(names)} devices for {count} processes on this machine: "
            f"--nproc-per-node {len(names)}"
        )
    devices = [choose_device(item) for item in names]
    if len({device.type for device in devices}) > 1:
        raise AnoframeError(f"--device {name}: all devices of a run must be of one type")
    if devices[0].type == "cuda" and len(set(devices)) < count:
        raise AnoframeError(f"--device {name}: each process needs a GPU of its own")
    return devices


def choose_own_device(name: str, local_rank: int, local_size: int) -> torch.device:
    """The device of process `local_rank` of `local_size` on this machine; raises as `choose_devices`."""
    return choose_devices(name, local_size)[local_rank]
