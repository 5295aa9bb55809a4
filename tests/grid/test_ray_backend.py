"""Grids on a local Ray cluster: the same tables as in one process, also when a worker is killed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import crashing_model
import pytest

from anoframe.errors import AnoframeError
from anoframe.grid.runner import run_grid

HERE = Path(__file__).parent
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='no Ray: pip install "anoframe[ray]"')


@pytest.fixture
def model_on_node_path(monkeypatch):
    """Lets the nodes import crashing_model.py."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("model_on_node_path")
def test_cluster_gives_the_results_of_one_process(finished_grid, crash_config, tmp_path, contents):
    run_grid([crash_config], ["all"], (0, 1), tmp_path, workers="ray")
    assert contents(tmp_path) == contents(finished_grid)


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("model_on_node_path")
def test_killed_worker_changes_no_result(finished_grid, crash_config, tmp_path, contents, monkeypatch, capsys):
    monkeypatch.setenv(crashing_model.CRASH_FILE, str(tmp_path / "crashed"))
    grid = run_grid([crash_config], ["all"], (0, 1), tmp_path / "runs", workers="ray")
    assert (tmp_path / "crashed").exists()
    assert "its process died" in capsys.readouterr().out
    assert grid.summary.failures == []
    assert contents(tmp_path / "runs") == contents(finished_grid)


def test_missing_ray_is_an_error_before_anything_is_written(crash_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AnoframeError, match=r'pip install "anoframe\[ray\]"'):
        run_grid([crash_config], ["felt"], (0,), tmp_path, workers="ray")
    assert list(tmp_path.iterdir()) == []
