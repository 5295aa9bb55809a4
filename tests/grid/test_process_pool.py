"""Grids over processes: the same tables as in one process, also when processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import crashing_model
import psutil
import pytest
from stub_cells import FailingCell, KilledCell, StubCell

from anoframe.errors import AnoframeError
from anoframe.grid.process_pool import available_cores, run_in_processes
from anoframe.grid.runner import run_grid
from anoframe.grid.scheduler import Scheduler
from anoframe.report.grid_table import Failure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills processes with POSIX signals"),
]
HERE = Path(__file__).parent
ENDLESS_GRID = """
import sys
from pathlib import Path

from anoframe.grid.process_pool import run_in_processes
from stub_cells import EndlessCell, SingleCellScheduler

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_in_processes(SingleCellScheduler(EndlessCell("endless", folder=str(folder))), 1, folder)
"""


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch):
    """The number of threads of the grid in this process, so that results are comparable to the bit."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_two_processes_give_the_results_of_one_although_a_process_is_killed(
    finished_grid, crash_config, tmp_path, contents, monkeypatch, capsys
):
    monkeypatch.setenv(crashing_model.CRASH_FILE, str(tmp_path / "crashed"))
    grid = run_grid([crash_config], ["all"], (0, 1), tmp_path / "runs", workers=2)
    assert (tmp_path / "crashed").exists()
    assert "its process died (killed by signal 9" in capsys.readouterr().out
    assert grid.summary.failures == []
    assert contents(tmp_path / "runs") == contents(finished_grid)


def test_killed_process_does_not_affect_other_cells(tmp_path, capsys):
    with Scheduler([StubCell("a"), KilledCell("b"), FailingCell("c"), StubCell("d")]) as scheduler:
        run_in_processes(scheduler, 2, tmp_path)
    reason = f"its process died 3 times, last: killed by signal 9, see {tmp_path}/worker_"
    failures = {failure.cell: failure.reason for failure in scheduler.failures}
    assert failures.keys() == {"b", "c"}
    assert failures["b"].startswith(reason)
    assert Failure("c", "no images") in scheduler.failures
    lines = capsys.readouterr().out.splitlines()
    assert {"done: a", "FAILED: b", "FAILED: c", "done: d"} <= set(lines)


def test_output_of_a_process_is_in_its_log(tmp_path, capfd):
    with Scheduler([StubCell("a"), StubCell("b")]) as scheduler:
        run_in_processes(scheduler, 1, tmp_path / "logs")
    assert (tmp_path / "logs/worker_0.log").read_text() == "output of a\noutput of b\n"
    assert "output of" not in capfd.readouterr().out


@pytest.fixture
def endless_grid(tmp_path):
    """A process with a grid whose only cell has started and never ends."""
    (tmp_path / "script.py").write_text(ENDLESS_GRID)
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    grid = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for((tmp_path / "started").exists)
    yield grid
    grid.kill()
    grid.wait()


def test_killed_grid_leaves_no_process(endless_grid):
    workers = psutil.Process(endless_grid.pid).children(recursive=True)
    assert workers
    endless_grid.send_signal(signal.SIGKILL)
    endless_grid.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_interrupted_grid_interrupts_its_cells(endless_grid, tmp_path):
    workers = psutil.Process(endless_grid.pid).children(recursive=True)
    endless_grid.send_signal(signal.SIGINT)
    endless_grid.wait(60)
    assert (tmp_path / "interrupted").exists()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_number_below_one_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match="--workers must be 0, a number of processes, or ray; got -1"):
        run_in_processes(None, -1, tmp_path)  # type: ignore[arg-type]


def test_at_least_one_core_is_available():
    assert available_cores() >= 1
