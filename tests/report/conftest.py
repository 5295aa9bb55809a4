"""Run folders with everything that a report can show. The tiny run itself has too few images for a threshold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anoframe.metrics.threshold_sweep import sweep_pixels, sweep_threshold
from anoframe.report.curves import category_curves


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")


@pytest.fixture(scope="session")
def change() -> Callable[..., None]:
    """Function that edits a JSON file in place: `change(path, lambda tree: ...)`."""

    def apply(path: Path, edit: Callable[[Any], Any]) -> None:
        tree = read(path)
        edit(tree)
        write(path, tree)

    return apply


def add_results(folder: Path) -> None:
    """Write `results/<category>.json` of every category, with one missed defect and one false alarm."""
    tree = read(folder / "metrics.json")
    for category, metrics in tree["categories"].items():
        index = folder / "pictures" / category / "pictures.json"
        rows = read(index)
        scores = {True: iter([6.0, 1.0, 2.0]), False: iter([4.0, 7.0, 8.0, 9.0])}
        for row in rows:
            row["name"] = f"{row['defect']}/{Path(row['name']).name}"
            row["score"] = next(scores[row["defect"] == "good"])
        write(index, rows)
        write(folder / "results" / f"{category}.json", _results(category, metrics, rows, tree["provenance"]))
    run = read(folder / "run.json")
    write(folder / "run.json", {**run, "id": "3f9a0c21"})


def _results(category: str, metrics: Any, rows: Any, provenance: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 16, 16), bool)
    masks[4:, 4:9, 4:9] = True
    maps = rng.normal(masks * 2.0)
    labels = masks.any((1, 2))
    return {
        "category": category,
        "metrics": metrics,
        "counts": provenance["counts"][category],
        "backbone": provenance["backbone"],
        "threshold": {"image": 5.0, "pixel": 1.5, "false_positive_rate": 0.01, "images": 42},
        "images": [{key: row[key] for key in ("name", "defect", "score")} for row in rows],
        "curves": category_curves(sweep_threshold(labels, rng.normal(labels * 1.0)), sweep_pixels(masks, maps)),
    }


def _epoch(number: int, **losses: float) -> dict[str, Any]:
    speed = {"images_per_second": 10.0 * number, "seconds": 2.0, "data_seconds": 0.5}
    return {"epoch": number, "losses": losses, "lr": 0.01 / number, **speed}


def add_training(folder: Path) -> None:
    """Write `training/felt.json`: stages of three and of one epoch, and three evaluations during the first."""
    first = [_epoch(number, cosine=1.0 / number, rank=0.5) for number in (1, 2, 3)]
    phases = [{"name": "student", "epochs": first}, {"name": "head", "epochs": [_epoch(1, mse=0.25)]}]
    metrics = [{"image_auroc": 0.8 + number / 20, "pixel_auroc": 0.75, "aupro": None} for number in (1, 2, 3)]
    looks = [{"phase": "student", "epoch": i + 1, "metrics": {"felt": values}} for i, values in enumerate(metrics)]
    write(folder / "training" / "felt.json", {"phases": phases, "looks": looks})
    tree = read(folder / "metrics.json")
    tree["provenance"]["trainer"] = {"epochs": 3, "optimizer": {"name": "adam", "lr": 0.01}}
    write(folder / "metrics.json", tree)


@pytest.fixture(scope="session")
def full_folder(finished, tmp_path_factory) -> Path:
    """A copy of the finished run with scores, thresholds and curves. Read-only: use `full_run` to change files."""
    folder = Path(shutil.copytree(finished.folder, tmp_path_factory.mktemp("full") / "run"))
    add_results(folder)
    return folder


@pytest.fixture
def full_run(full_folder, tmp_path) -> Path:
    """A copy of `full_folder`."""
    return Path(shutil.copytree(full_folder, tmp_path / "copy"))


@pytest.fixture
def trained_run(full_run) -> Path:
    """A copy of `full_folder` in which `felt` has training curves and those of `mesh` are missing."""
    add_training(full_run)
    return full_run


@pytest.fixture
def older_run(run_copy) -> Path:
    """A copy of the finished run as an earlier version wrote it: without results."""
    shutil.rmtree(run_copy / "results")
    return run_copy


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    """A real browser; skips the test where there is none."""
    pytest.importorskip("fcntl", reason="the browser is controlled through POSIX pipes")
    from browser import BROWSERS, Browser, find_browser

    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}, or set ANOFRAME_BROWSER to one")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
