"""What tests of several folders share: a tiny dataset, a tiny config, and one finished run on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

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
cfg.model.coreset.ratio = 0.1
cfg.report.pictures = 6
"""
)


class Done(NamedTuple):
    """What a command line gave back."""

    status: Any
    out: str
    err: str


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny tensors on one thread: several would only wait for each other, long on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texture(seed: int, period: int, damaged: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Coloured stripes with noise, and the mask of the patch that is damaged."""
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
    """A category in the layout of MVTec AD: six training images, and as many for the test as asked for."""
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
    """Where runs of the tests keep their caches: never where the user's are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ANOFRAME_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def write_category() -> Callable[..., None]:
    """Writes a category to a folder: `(folder, period, good=3, defects=4, masks=True)`; the period is its texture."""
    return _category


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a real dataset, or a skip that says what is missing."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"no real photographs at {SHARED / name}: set ANOFRAME_SHARED_DATA to their folder")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def tiny_root(write_category, tmp_path_factory) -> Path:
    """Two categories, `felt` and `mesh`: 6 images to learn from, 3 good and 4 defects to test on. Read only."""
    root = tmp_path_factory.mktemp("data")
    for name, period in (("felt", 7), ("mesh", 11)):
        write_category(root / name, period)
    return root


@pytest.fixture(scope="session")
def enough_root(write_category, tmp_path_factory) -> Path:
    """One category, `felt`, with as many images to learn from as a threshold takes. Read only."""
    root = tmp_path_factory.mktemp("enough")
    write_category(root / "felt", 7)
    good = root / "felt/train/good"
    for number in range(6):
        shutil.copy(good / f"{number:03d}.png", good / f"{number + 6:03d}.png")
    return root


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory, tiny_root) -> Path:
    """A config file that inherits a shipped one and runs on `tiny_root` in about a second."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(TINY_CONFIG.format(root=str(tiny_root)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def train_tiny(tiny_config, tmp_path_factory) -> Callable[..., Any]:
    """Trains the tiny config, with dotted names changed, into an output folder of its own."""

    def train(categories: list[str], **overrides: Any) -> Any:
        import anoframe

        cfg = anoframe.load_config(tiny_config, {name.replace("__", "."): value for name, value in overrides.items()})
        with _one_thread():
            return anoframe.train(cfg, categories, tmp_path_factory.mktemp("runs"))

    return train


@pytest.fixture(scope="session")
def finished(train_tiny) -> Any:
    """A finished run on both categories. Read only: take `run_copy` to change something in its folder."""
    return train_tiny(["felt", "mesh"])


@pytest.fixture(autouse=True, scope="module")
def tiny_tensors(request) -> Iterator[None]:
    """The folders whose tests compute on tensors alone do it on one thread."""
    with _one_thread() if {"backbones", "models"} & set(request.path.parts) else nullcontext():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread during a test, as it was for the finished run."""
    with _one_thread():
        yield


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    """A copy of the finished run's folder, to break."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


@pytest.fixture
def cli(capsys) -> Callable[..., Done]:
    """Calls the command line in this process."""
    from anoframe.cli import main

    def call(*words: object) -> Done:
        capsys.readouterr()
        try:
            status: Any = main([str(word) for word in words])
        except SystemExit as stop:  # argparse ends by itself
            status = stop.code
        return Done(status, *capsys.readouterr())

    return call
