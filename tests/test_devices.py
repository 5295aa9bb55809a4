"""From `--device` to a torch device, with and without GPUs."""

from __future__ import annotations

import pytest
import torch

from anoframe.devices import choose_device
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
    with pytest.raises(AnoframeError, match="--device 0 1: this method runs on one device"):
        choose_device("0 1")


@pytest.mark.parametrize("name", ["gpu", "cuda:0", "-1", "", "mps"])
def test_another_name_is_told_what_there_is(gpus, name):
    gpus(2)
    with pytest.raises(AnoframeError, match="--device takes auto, cpu, cuda or the number of a GPU"):
        choose_device(name)
