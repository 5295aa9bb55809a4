"""Fixtures for tests of several folders: a tiny dataset, a tiny config, and a finished run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has one core; several torch threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image
from tiny_data import TINY_DATA

SHARED = Path(os.environ.get("ANOFRAME_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
SIDE = 64
TINY_CONFIG = (
    '''"""PatchCore on a network with random weights, for tests."""

from anoframe.config import inherit

cfg = inherit("patchcore/patchcore_lite0_224.py")
'''
    + TINY_DATA
    + """cfg.model.backbone.weights = "random"
cfg.model.backbone.engine = "torch"
cfg.model.coreset.ratio = 0.1
cfg.report.pictures = 6
"""
)


class CliResult(NamedTuple):
    """Exit status and output of a command line."""

    status: Any
    out: str
    err: str


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread: with tiny tensors, several threads mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texture(seed: int, period: int, damaged: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """An image of coloured stripes with noise, and the mask of its damaged patch."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    stripes = 110 + 50 * np.sin(2 * np.pi * (rows + rng.integers(period)) / period) + 20 * np.cos(columns / period)
    pixels = np.stack([stripes, stripes * 0.8, 200 - stripes], axis=2) + rng.normal(0, 6, (SIDE, SIDE, 3))
    mask = np.zeros((SIDE, SIDE), bool)
    if damaged:
        top, left = rng.integers(8, 36, 2)
        mask[top : top + 16, left : left + 14] = True
        pixels[mask] = 255 - pixels[mask][::-1]
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def _category(folder: Path, period: int, good: int = 3, defects: int = 4, masks: bool = True) -> None:
    """Write a category in the layout of MVTec AD: six training images, and the given numbers of test images."""
    names = [("train/good", i, False) for i in range(6)] + [("test/good", i, False) for i in range(good)]
    names += [(f"test/{kind}", i, True) for kind, i in [("cut", 0), ("cut", 1), ("dent", 0), ("dent", 1)][:defects]]
    for number, (split, index, damaged) in enumerate(names):
        pixels, mask = texture(1000 * period + number, period, damaged)
        _save(folder / split / f"{index:03d}.png", pixels)
        if damaged and masks:
            kind = Path(split).name
            _save(folder / "ground_truth" / kind / f"{index:03d}_mask.png", mask.astype(np.uint8) * 255)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory) -> Iterator[Path]:
    """A cache folder for the tests, so that the caches of the user are not touched."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ANOFRAME_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def write_category() -> Callable[..., None]:
    """Function that writes a category: `(folder, period, good=3, defects=4, masks=True)`; period sets the texture."""
    return _category


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Function that returns the path of a real dataset, or skips the test if it is missing."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"no real photographs at {SHARED / name}: set ANOFRAME_SHARED_DATA to their folder")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def tiny_root(write_category, tmp_path_factory) -> Path:
    """Two categories, `felt` and `mesh`, with 6 training, 3 good test and 4 defect test images each. Read-only."""
    root = tmp_path_factory.mktemp("data")
    for name, period in (("felt", 7), ("mesh", 11)):
        write_category(root / name, period)
    return root


@pytest.fixture(scope="session")
def enough_root(write_category, tmp_path_factory) -> Path:
    """One category, `felt`, with enough training images for a threshold. Read-only."""
    root = tmp_path_factory.mktemp("enough")
    write_category(root / "felt", 7)
    good = root / "felt/train/good"
    for number in range(6):
        shutil.copy(good / f"{number:03d}.png", good / f"{number + 6:03d}.png")
    return root


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory, tiny_root) -> Path:
    """A config file that inherits a shipped config and runs on `tiny_root` in about a second."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(TINY_CONFIG.format(root=str(tiny_root)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def train_tiny(tiny_config, tmp_path_factory) -> Callable[..., Any]:
    """Function that trains the tiny config, with overrides by dotted name, in a new output folder."""

    def train(categories: list[str], **overrides: Any) -> Any:
        import anoframe

        cfg = anoframe.load_config(tiny_config, {name.replace("__", "."): value for name, value in overrides.items()})
        with _one_thread():
            return anoframe.train(cfg, categories, tmp_path_factory.mktemp("runs"))

    return train


@pytest.fixture(scope="session")
def finished(train_tiny) -> Any:
    """A finished run on both categories. Read-only: use `run_copy` to change files in its folder."""
    return train_tiny(["felt", "mesh"])


@pytest.fixture(autouse=True, scope="module")
def tiny_tensors(request) -> Iterator[None]:
    """Run tests of networks and methods, which compute on tiny tensors, with one torch thread."""
    with _one_thread() if {"backbones", "models"} & set(request.path.parts) else nullcontext():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one torch thread during a test, as for the finished run."""
    with _one_thread():
        yield


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    """A copy of the folder of the finished run, for tests that damage it."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


@pytest.fixture
def cli(capsys) -> Callable[..., CliResult]:
    """Function that calls the command line in this process."""
    from anoframe.cli import main

    def call(*words: object) -> CliResult:
        capsys.readouterr()
        try:
            status: Any = main([str(word) for word in words])
        except SystemExit as stop:  # argparse exits by itself
            status = stop.code
        return CliResult(status, *capsys.readouterr())

    return call
