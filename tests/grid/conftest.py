"""Fixtures: a config whose runs can be made to crash, and the output of a finished grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = ("grid.md", "grid.csv", "grid.json", "grid.html")


def without_times(tree: Any) -> Any:
    """`run.json` without the entries that differ between equal runs."""
    return {key: value for key, value in tree.items() if key not in ("stages", "id")}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, Any]]:
    """Read everything that is equal for equal grids: the tables of the grid and the results of each run."""

    def read(output: Path) -> dict[str, Any]:
        files: dict[str, Any] = {name: (output / name).read_bytes() for name in FILES}
        for pattern in ("metrics.json", "metrics.csv", "config.yaml", "results/*.json"):
            for path in output.rglob(f"separate/*/*/{pattern}"):
                files[path.relative_to(output).as_posix()] = path.read_bytes()
        for path in output.rglob("separate/*/*/run.json"):
            files[path.relative_to(output).as_posix()] = without_times(json.loads(path.read_text()))
        return files

    return read


@pytest.fixture(scope="session")
def crash_config(tiny_config, tmp_path_factory) -> Path:
    """The tiny config with a method whose process can be killed, see crashing_model.py."""
    path = tmp_path_factory.mktemp("configs") / "crash.py"
    text = tiny_config.read_text(encoding="utf-8")
    path.write_text(text + 'cfg.model.name = "crashing_model:CrashingPatchCore"\n', encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished_grid(crash_config, tmp_path_factory) -> Path:
    """Output folder of a grid of two categories and two seeds that ran in this process. Read only."""
    import torch

    from anoframe.grid.runner import run_grid

    output = tmp_path_factory.mktemp("grid")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_grid([crash_config], ["all"], (0, 1), output)
    torch.set_num_threads(threads)
    return output
