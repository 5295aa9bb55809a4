"""A grid over processes: the table of one process, whatever happens to some of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dying
import psutil
import pytest

from anoframe.errors import AnoframeError
from anoframe.grid.grid import run_grid
from anoframe.grid.process_pool import cores, run_in_processes

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills processes as POSIX does")
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch):
    """As the grid in this process ran: that it may be otherwise is no matter of processes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_two_processes_make_what_one_makes(grid_here, dying_config, tmp_path, contents):
    run_grid([dying_config], ["all"], (0, 1), tmp_path, workers=2)
    assert contents(tmp_path) == contents(grid_here)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(grid_here, dying_config, tmp_path, contents, monkeypatch, capsys):
    monkeypatch.setenv(dying.ONCE, str(tmp_path / "died"))
    grid = run_grid([dying_config], ["all"], (0, 1), tmp_path / "runs", workers=2)
    assert (tmp_path / "died").exists()
    assert "its process died (killed by signal 9" in capsys.readouterr().out
    assert grid.summary.failures == []
    assert contents(tmp_path / "runs") == contents(grid_here)


@pytest.mark.slow
def test_a_killed_grid_leaves_no_process_behind(dying_config, tmp_path):
    begun = tmp_path / "begun"
    words = [
        "--configs",
        str(dying_config),
        "--cls_names",
        "felt",
        "--workers",
        "1",
        "--output",
        str(tmp_path / "runs"),
    ]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, dying.SLEEPS: str(begun), "PYTHONPATH": paths}
    grid = subprocess.Popen([sys.executable, str(TOOL), *words], env=environment, stdout=subprocess.DEVNULL)
    wait_for(begun.exists)
    workers = psutil.Process(grid.pid).children(recursive=True)
    grid.send_signal(signal.SIGKILL)
    grid.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_number_below_one_is_refused(tmp_path):
    with pytest.raises(AnoframeError, match="--workers takes 0, a number of processes, or ray, got -1"):
        run_in_processes(None, -1, tmp_path)  # type: ignore[arg-type]


def test_there_is_a_core():
    assert cores() >= 1
