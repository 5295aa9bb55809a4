"""A disk that fills while a run writes to it: told, and nothing half written is left as whole."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = shutil.which("mount"), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)
    if None in command or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system of its own can be mounted by this user")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_is_told_with_the_file(bench, small_disk):
    data = bench.data
    done = bench.call("--config", bench.config(), "--cls_names", "felt", "--data.root", data, "--output", small_disk)
    assert done.status == 2
    assert f"cannot write {small_disk}" in done.text
    assert "Free space and start again; a run goes on with --resume" in done.text
    assert list(small_disk.rglob("metrics.json")) == list(small_disk.rglob("*.part")) == []
