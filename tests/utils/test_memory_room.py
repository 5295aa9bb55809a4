"""How much memory there is, and arrays that need not fit in it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.utils import memory
from anoframe.utils.memory import available_memory, empty_or_memmap, fits, gigabytes


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Sets what a container says of its memory."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)

    def say(limit: str, used: str) -> None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")

    return say


def test_without_a_container_it_is_what_the_system_has(container):
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_container_without_a_limit_leaves_it_at_that(container):
    container("max", "5")
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize(("limit", "used", "left"), [("1000", "300", 700), ("1000", "2000", 0)])
def test_a_container_allows_its_limit_less_what_it_uses(container, limit, used, left):
    container(limit, used)
    assert available_memory() == left


def test_half_of_it_fits(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    assert [fits(size) for size in (0, 50, 51)] == [True, True, False]


@pytest.mark.parametrize("free", [10**9, 0], ids=["in memory", "in a file"])
def test_a_roomy_tensor_holds_what_is_written(monkeypatch, free):
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    found = empty_or_memmap((3, 4), "numbers")
    found[:] = torch.arange(12).view(3, 4)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), np.arange(12).reshape(3, 4))


def test_a_file_goes_with_its_tensor(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    empty_or_memmap((3, 4), "numbers")
    assert list(tmp_path.iterdir()) == []


def test_room_nowhere_is_an_error_that_says_how_much_and_where(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 10**9)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(AnoframeError, match=r"patches take 4\.00 GB: .* 1\.00 GB, and .* has 0\.00 GB\. Point TMPDIR"):
        empty_or_memmap((10**9,), "patches")


def test_gigabytes_are_of_ten_to_the_nine():
    assert gigabytes(2_500_000_000) == "2.50 GB"
