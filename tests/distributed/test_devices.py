"""Conversion of `--device` to torch devices, with and without GPUs."""

from __future__ import annotations

import pytest
import torch

from anoframe.distributed.devices import choose_device, choose_devices, choose_own_device
from anoframe.errors import AnoframeError


@pytest.fixture
def gpus(monkeypatch):
    """Function that sets the number of GPUs that torch reports."""

    def set_count(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return set_count


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "0", "cuda:0"),
        (2, "1", "cuda:1"),
        (2, "cuda:0", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_device_is_chosen(gpus, count, name, expected):
    gpus(count)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "0", "cuda:0"])
def test_machine_without_a_gpu_raises_an_error(gpus, name):
    gpus(0)
    with pytest.raises(AnoframeError, match=f"--device {name}: .*finds no GPU on this machine: use --device cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["2", "cuda:2"])
def test_missing_gpu_raises_an_error(gpus, name):
    gpus(2)
    with pytest.raises(AnoframeError, match=f"--device {name}: this machine has 2 GPUs, numbered from 0"):
        choose_device(name)


@pytest.mark.parametrize("count", [0, 2])
def test_several_devices_raise_an_error(gpus, count):
    gpus(count)
    with pytest.raises(AnoframeError, match="--device 0 1: one process uses one device"):
        choose_device("0 1")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:cuda:0", "CUDA", "cpu:0", "-1", "", "mps"])
def test_unknown_name_raises_an_error_with_the_known_names(gpus, name):
    gpus(2)
    with pytest.raises(AnoframeError, match="--device takes auto, cpu, cuda or the number of a GPU"):
        choose_device(name)


# ------------------------------------------------------------------------------------------------ several processes


@pytest.mark.parametrize(
    ("num_gpus", "name", "count", "expected"),
    [
        (0, "auto", 2, ["cpu", "cpu"]),
        (0, "cpu cpu", 2, ["cpu", "cpu"]),
        (2, "cpu", 3, ["cpu", "cpu", "cpu"]),
        (2, "auto", 2, ["cuda:0", "cuda:1"]),
        (4, "cuda", 2, ["cuda:0", "cuda:1"]),
        (4, "3 1", 2, ["cuda:3", "cuda:1"]),
        (4, "cuda:3 1", 2, ["cuda:3", "cuda:1"]),
        (2, "1", 1, ["cuda:1"]),
        (2, "auto", 1, ["cuda"]),
    ],
)
def test_each_process_gets_its_device(gpus, num_gpus, name, count, expected):
    gpus(num_gpus)
    assert choose_devices(name, count) == [torch.device(device) for device in expected]


def test_process_gets_the_device_of_its_local_rank(gpus):
    gpus(4)
    assert choose_own_device("3 1", 1, 2) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("auto", 3, "this machine has 2 GPUs for 3 processes: --nproc-per-node 2"),
        ("0 1", 3, "--device 0 1 names 2 devices for 3 processes on this machine: --nproc-per-node 2"),
        ("1", 2, "--device 1 names 1 devices for 2 processes"),
        ("cuda:1", 2, "--device cuda:1 names 1 devices for 2 processes"),
        ("0 cuda:0", 2, "each process needs a GPU of its own"),
        ("0 2", 2, "--device 2: this machine has 2 GPUs"),
        ("0 0", 2, "--device 0 0: each process needs a GPU of its own"),
        ("cpu 0", 2, "all devices of a run must be of one type"),
        ("0 cpux", 2, "--device takes auto, cpu, cuda"),
    ],
)
def test_wrong_devices_raise_an_error(gpus, name, count, message):
    gpus(2)
    with pytest.raises(AnoframeError, match=message):
        choose_devices(name, count)
