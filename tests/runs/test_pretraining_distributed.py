"""A pretraining of two processes gives the encoder of one, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from processes import run_in_processes

from anoframe.backbones.exported import read_export
from anoframe.config import load_config
from anoframe.runs.pretraining_run import pretrain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

KEYS = {
    "data.resize": 40,
    "data.crop": 40,
    "data.workers": 0,
    "encoder.architecture": "test_resnet",
    "views.size": 32,
    "trainer.epochs": 2,
    "trainer.batch_size": 10,
    "trainer.optimizer.name": "momentum",  # Adam divides small gradients by their own size
    "trainer.optimizer.lr": 0.001,  # at 0.01, an error of 1e-7 in the initial weights grows to 3 % in six steps
    "trainer.schedule.warmup_epochs": 0.0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven images: the last batch of an epoch has a single one, so one process has none of it."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(11):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((48, 48), Image.Resampling.BILINEAR).save(folder / f"{i:02d}.png")
    return folder


def _pretrain(group, photos, output, micro_batches):
    """Pretrain in each of the processes, or in one alone."""
    keys = {**KEYS, "data.root": str(photos), "learner.micro_batches": micro_batches}
    return str(pretrain(load_config("simclr/simclr_resnet18_industrial.py", keys), output).file)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_equal_one(photos, tmp_path, micro_batches):
    files = set(run_in_processes(_pretrain, photos, tmp_path / "two", micro_batches))
    assert len(files) == 1  # both name the file that the first process wrote
    # With synchronised BatchNorm, a micro-batch of two processes has the images of both: those of one process alone
    # are other ones, so only a single micro-batch can be compared.
    two = read_export(files.pop())
    if micro_batches == 1:
        one = read_export(_pretrain(None, photos, tmp_path / "one", 1))
        for name, value in one.state.items():
            scale = float(value.abs().max()) + 1e-3
            assert float((two.state[name] - value).abs().max()) < 1e-4 * scale, name
    assert two.facts["images"] == "11"
