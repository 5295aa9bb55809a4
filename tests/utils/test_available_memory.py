"""Available memory, and tensors stored in a file if they do not fit into memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.utils import memory
from anoframe.utils.memory import available_memory, empty_or_memmap, fits_in_memory, gigabytes


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Return a function that sets the memory limit and usage of a container."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)

    def set_memory(limit: str, used: str) -> None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")

    return set_memory


def test_without_a_container_the_memory_of_the_system_counts(container):
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_container_without_limit_has_the_memory_of_the_system(container):
    container("max", "5")
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize(("limit", "used", "left"), [("1000", "300", 700), ("1000", "2000", 0)])
def test_a_container_has_its_limit_minus_its_usage(container, limit, used, left):
    container(limit, used)
    assert available_memory() == left


def test_half_of_the_available_memory_fits(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    assert [fits_in_memory(size) for size in (0, 50, 51)] == [True, True, False]


@pytest.mark.parametrize("free", [10**9, 0], ids=["in memory", "in a file"])
def test_the_tensor_keeps_written_values(monkeypatch, free):
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    tensor = empty_or_memmap((3, 4), "numbers")
    tensor[:] = torch.arange(12).view(3, 4)
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor.numpy(), np.arange(12).reshape(3, 4))


def test_the_file_has_no_name(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    empty_or_memmap((3, 4), "numbers")
    assert list(tmp_path.iterdir()) == []


def test_error_of_too_little_space_names_sizes_and_folder(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 10**9)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(
        AnoframeError, match=r"patches take 4\.00 GB, .* 1\.00 GB and .* has 0\.00 GB free\. Point TMPDIR"
    ):
        empty_or_memmap((10**9,), "patches")


def test_a_gigabyte_is_10_to_the_power_of_9_bytes():
    assert gigabytes(2_500_000_000) == "2.50 GB"
