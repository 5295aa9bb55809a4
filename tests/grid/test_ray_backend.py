"""A grid on Ray's cluster of one machine: the table of one process, also when a worker is killed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import dying
import pytest

from anoframe.errors import AnoframeError
from anoframe.grid.grid import run_grid

HERE = Path(__file__).parent
there = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='no Ray: pip install "anoframe[ray]"')


@pytest.fixture
def nodes_find_the_method(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


@there
@pytest.mark.slow
@pytest.mark.usefixtures("nodes_find_the_method")
def test_a_cluster_makes_what_one_process_makes(grid_here, dying_config, tmp_path, contents):
    run_grid([dying_config], ["all"], (0, 1), tmp_path, workers="ray")
    assert contents(tmp_path) == contents(grid_here)


@there
@pytest.mark.slow
@pytest.mark.usefixtures("nodes_find_the_method")
def test_a_killed_worker_loses_nothing(grid_here, dying_config, tmp_path, contents, monkeypatch, capsys):
    monkeypatch.setenv(dying.ONCE, str(tmp_path / "died"))
    grid = run_grid([dying_config], ["all"], (0, 1), tmp_path / "runs", workers="ray")
    assert (tmp_path / "died").exists()
    assert "its process died" in capsys.readouterr().out
    assert grid.summary.failures == []
    assert contents(tmp_path / "runs") == contents(grid_here)


def test_without_ray_the_extra_is_named_before_anything(dying_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AnoframeError, match=r'pip install "anoframe\[ray\]"'):
        run_grid([dying_config], ["felt"], (0,), tmp_path, workers="ray")
    assert list(tmp_path.iterdir()) == []
