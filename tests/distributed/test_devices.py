"""From `--device` to a torch device, with and without GPUs."""

from __future__ import annotations

import pytest
import torch

from anoframe.distributed.devices import choose_device, choose_devices, choose_own_device
from anoframe.errors import AnoframeError


@pytest.fixture
def gpus(monkeypatch):
    """Says how many GPUs this machine seems to have."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


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
    ],
)
def test_a_device_is_chosen(gpus, count, name, expected):
    gpus(count)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "0"])
def test_a_machine_without_a_gpu_says_so(gpus, name):
    gpus(0)
    with pytest.raises(AnoframeError, match=f"--device {name}: .*sees no GPU here; use --device cpu"):
        choose_device(name)


def test_a_gpu_that_is_not_there_is_told(gpus):
    gpus(2)
    with pytest.raises(AnoframeError, match="--device 2: there are 2 GPUs, numbered from 0"):
        choose_device("2")


@pytest.mark.parametrize("count", [0, 2])
def test_several_devices_are_refused(gpus, count):
    gpus(count)
    with pytest.raises(AnoframeError, match="--device 0 1: one process works on one device"):
        choose_device("0 1")


@pytest.mark.parametrize("name", ["gpu", "cuda:0", "-1", "", "mps"])
def test_another_name_is_told_what_there_is(gpus, name):
    gpus(2)
    with pytest.raises(AnoframeError, match="--device takes auto, cpu, cuda or the number of a GPU"):
        choose_device(name)


# ------------------------------------------------------------------------------------------------ a process each


@pytest.mark.parametrize(
    ("there", "name", "count", "expected"),
    [
        (0, "auto", 2, ["cpu", "cpu"]),
        (0, "cpu cpu", 2, ["cpu", "cpu"]),
        (2, "cpu", 3, ["cpu", "cpu", "cpu"]),
        (2, "auto", 2, ["cuda:0", "cuda:1"]),
        (4, "cuda", 2, ["cuda:0", "cuda:1"]),
        (4, "3 1", 2, ["cuda:3", "cuda:1"]),
        (2, "1", 1, ["cuda:1"]),
        (2, "auto", 1, ["cuda"]),
    ],
)
def test_each_process_has_its_device(gpus, there, name, count, expected):
    gpus(there)
    assert choose_devices(name, count) == [torch.device(one) for one in expected]


def test_a_process_takes_the_device_of_its_place(gpus):
    gpus(4)
    assert choose_own_device("3 1", 1, 2) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "count", "told"),
    [
        ("auto", 3, "3 processes on this machine, and 2 GPUs: --nproc-per-node 2"),
        ("0 1", 3, "--device 0 1 names 2 for 3 processes on this machine: --nproc-per-node 2"),
        ("1", 2, "--device 1 names 1 for 2 processes"),
        ("0 2", 2, "--device 2: there are 2 GPUs"),
        ("0 0", 2, "--device 0 0: a GPU is for one process"),
        ("cpu 0", 2, "devices of one run are of one kind"),
        ("0 cpux", 2, "--device takes auto, cpu, cuda"),
    ],
)
def test_what_processes_cannot_have_is_told(gpus, name, count, told):
    gpus(2)
    with pytest.raises(AnoframeError, match=told):
        choose_devices(name, count)
