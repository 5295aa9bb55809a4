"""The bench of the catalogue."""

from __future__ import annotations

import pytest
from bench import Bench


@pytest.fixture
def bench(tmp_path, monkeypatch, cli, tiny_config, tiny_root, finished, one_thread):
    return Bench(tmp_path, monkeypatch, cli, tiny_config, tiny_root, finished.folder)
