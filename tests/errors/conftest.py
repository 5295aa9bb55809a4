"""The bench fixture of the error catalogue."""

from __future__ import annotations

import pytest
from bench import Bench


@pytest.fixture
def bench(tmp_path, monkeypatch, cli, tiny_config, tiny_root, finished, one_thread):
    """A bench with its own folder, copies of the tiny data and of the finished run."""
    return Bench(tmp_path, monkeypatch, cli, tiny_config, tiny_root, finished.folder)
