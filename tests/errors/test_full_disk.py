"""A disk that becomes full during a run: an error, and no incomplete file that looks complete."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = shutil.which("mount"), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)
    if None in command or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_error_of_a_full_disk_names_the_file(bench, small_disk):
    data = bench.data
    outcome = bench.call("--config", bench.config(), "--cls_names", "felt", "--data.root", data, "--output", small_disk)
    assert outcome.status == 2
    assert f"cannot write {small_disk}" in outcome.text
    assert "Free space and start again (the same command with --resume continues this run)" in outcome.text
    assert list(small_disk.rglob("metrics.json")) == list(small_disk.rglob("*.part")) == []
