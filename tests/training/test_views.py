"""Training on views: the same bytes for any number of workers and after an interruption, for a learner that is no
detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from anoframe.config import load_config, to_plain
from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.models.learner import Learner, Phase
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.training.views import TrainingImages, ViewSource
from anoframe.types import Sample

COUNT = 7


def draw(images, row, rng):
    """Two shifted views, one of them blended with another image."""
    shifts = rng.integers(0, 8, 2)
    first, second = (images.pixels(row).roll(int(shift), 2) for shift in shifts)
    other = images.pixels(int(rng.integers(len(images))))
    return {"first": first, "second": (second.float() + other.float()) / 2, "row": torch.tensor(row)}


class Contrast(Learner):
    """A tiny encoder that brings two views together; it is no detector."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        self.seen = []

    def training_stages(self):
        return [Phase("contrast", dict(self.named_parameters()), self._loss, views=draw)]

    def _loss(self, batch):
        self.seen.append(batch.rows.tolist())
        assert batch.features["row"].tolist() == batch.rows.tolist()
        first, second = (self.network(batch.features[name].float() / 255) for name in ("first", "second"))
        return {"distance": (first - second).square().mean() + (1 - first.std())}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return [Sample(folder / f"{i}.png", "felt", "train") for i in range(COUNT)]


@pytest.fixture
def images(samples):
    def make(workers=0, chosen=samples):
        return TrainingImages(chosen, Reader(Preprocessing(8, 8)), workers)

    return make


@pytest.fixture
def fit(images):
    """Function that trains a new learner and returns its learned state."""

    def run(workers=0, state_folder=None, learner=None, **changes):
        keys = {"epochs": 3, "batch_size": 3, "save_minutes": 0.0} | changes
        cfg = load_config("__base__/gradient.py", {f"trainer.{name}": value for name, value in keys.items()})
        context = FitContext("felt", 5, to_plain(cfg.trainer), Trackers(), state_folder)
        seed_everything(0)
        learner = learner or Contrast()
        fit_learner(learner, (), COUNT, StageTimer(Trackers()), context, images=images(workers))
        return {name: value.clone() for name, value in learner.learned_state().items()}

    return run


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def views_of(source, planned):
    source.start(planned)
    return [source.batch(rows, epoch) for epoch, rows in planned]


def test_training_changes_the_learner(fit):
    seed_everything(0)
    before = Contrast().learned_state()
    assert not torch.equal(fit()["network.0.weight"], before["network.0.weight"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_number_of_workers_changes_no_byte(fit, accumulate):
    assert_equal(fit(workers=2, accumulate=accumulate), fit(workers=0, accumulate=accumulate))


def test_a_killed_and_resumed_training_gives_the_same_bytes(fit, tmp_path):
    class Killed(Contrast):
        def _loss(self, batch):
            if len(self.seen) == 5:  # in the second epoch
                raise KeyboardInterrupt
            return super()._loss(batch)

    seed_everything(0)
    with pytest.raises(KeyboardInterrupt):
        fit(state_folder=tmp_path, learner=Killed())
    assert list(tmp_path.iterdir())
    assert_equal(fit(state_folder=tmp_path), fit())


def test_views_depend_on_seed_stage_epoch_and_row_alone(images):
    def drawn(seed=0, stage=0, epoch=0, rows=(1, 4)):
        (batch,) = views_of(ViewSource(images(), draw, seed, stage, torch.device("cpu")), [(epoch, rows)])
        return batch.features["second"]

    assert torch.equal(drawn(), drawn())
    assert torch.equal(drawn(rows=(4, 1)), drawn().flip(0))
    for changed in ({"seed": 1}, {"stage": 1}, {"epoch": 1}):
        assert not torch.equal(drawn(**changed), drawn())


def test_a_batch_has_its_samples_in_order(images, samples):
    source = ViewSource(images(), draw, 0, 0, torch.device("cpu"))
    batches = views_of(source, [(0, [3, 1]), (1, [6])])
    assert [batch.samples for batch in batches] == [(samples[3], samples[1]), (samples[6],)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_named(images, samples, tmp_path, workers):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = [samples[0], Sample(tmp_path / "broken.png", "felt", "train")]
    source = ViewSource(images(workers, broken), draw, 0, 0, torch.device("cpu"))
    with pytest.raises(AnoframeError, match=r"broken\.png"):
        views_of(source, [(0, [1])])
