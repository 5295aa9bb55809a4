"""Grids of tiny runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = ("grid.md", "grid.csv", "grid.json", "grid.html")


def without_times(tree: Any) -> Any:
    """What a run's record of itself holds that does not differ between two equal runs."""
    return {key: value for key, value in tree.items() if key not in ("stages", "id")}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, Any]]:
    """All that a grid has made, as far as equal grids make it equal: its tables, and of each run the results."""

    def read(output: Path) -> dict[str, Any]:
        found: dict[str, Any] = {name: (output / name).read_bytes() for name in FILES}
        for pattern in ("metrics.json", "metrics.csv", "config.yaml", "results/*.json"):
            for path in output.rglob(f"separate/*/*/{pattern}"):
                found[path.relative_to(output).as_posix()] = path.read_bytes()
        for path in output.rglob("separate/*/*/run.json"):
            found[path.relative_to(output).as_posix()] = without_times(json.loads(path.read_text()))
        return found

    return read


@pytest.fixture(scope="session")
def dying_config(tiny_config, tmp_path_factory) -> Path:
    """The tiny config with a method that can be told to die; see dying.py."""
    path = tmp_path_factory.mktemp("configs") / "mortal.py"
    text = tiny_config.read_text(encoding="utf-8")
    path.write_text(text + 'cfg.model.name = "dying:DyingPatchCore"\n', encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def grid_here(dying_config, tmp_path_factory) -> Path:
    """The output of a grid of two categories and two seeds, made in this process. Read only."""
    import torch

    from anoframe.grid.grid import run_grid

    output = tmp_path_factory.mktemp("grid")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_grid([dying_config], ["all"], (0, 1), output)
    torch.set_num_threads(threads)
    return output
