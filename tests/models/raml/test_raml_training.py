"""Training of RAML: it learns, resumes after a kill to the same bytes, and needs whole batches on one device."""

from pathlib import Path

import pytest
import torch

from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.distributed_loss import check_multi_device
from anoframe.training.stages import fit_learner
from anoframe.training.validation import check_training
from anoframe.types import Sample

NUM_IMAGES = 26  # two batches of 10 and one of 6 per epoch
PLAIN = {"weight": 0.0, "fusion": False}


class Kill(BaseException):
    """Stands for a kill: the code under test cannot handle it."""


class Killer:
    """Tracker that kills the training after a number of optimiser steps."""

    def __init__(self, steps):
        self._left = steps

    def log(self, event, **fields):
        self._left -= event == "step"
        if not self._left:
            raise Kill

    def close(self, status):
        pass


def section(**changes):
    changes = {"epochs": 4, "batch_size": 10, "save_minutes": 0.0, "optimizer.lr": 0.003} | changes
    return to_plain(
        load_config("__base__/raml.py", {f"trainer.{name}": value for name, value in changes.items()}).trainer
    )


@pytest.fixture
def data():
    """Images of two categories; the features of defects are shifted in one direction."""
    generator = torch.Generator().manual_seed(3)
    samples = [
        Sample(Path(f"{i}.png"), ("bottle", "screw")[i % 2], "train", "good" if i % 3 else "scratch")
        for i in range(NUM_IMAGES)
    ]
    shapes = {"scale1": (12,), "scale2": (4, 12), "scale3": (16, 12)}
    features = {name: torch.randn(NUM_IMAGES, *shape, generator=generator) for name, shape in shapes.items()}
    defects = torch.tensor([sample.is_defect for sample in samples])
    features["scale1"][defects, 3] += 4
    return FeatureBatch(features, torch.zeros(0), tuple(samples))


def train(detector, data, folder=None, tracker=None, **changes):
    context = FitContext("all", 0, section(**changes), tracker or Trackers(), folder)
    fit_learner(detector, [data], NUM_IMAGES, StageTimer(Trackers()), context)
    return context.curves["phases"][-1]["epochs"]


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("settings", [{}, {"loss": {"maccl": False}}, {"head": "linear", "text": PLAIN}])
def test_training_separates_defects(raml, data, settings):
    detector = raml(**settings)
    epochs = train(detector, data, epochs=30, **{"optimizer.lr": 0.1 if "head" in settings else 0.003})
    assert epochs[-1]["losses"]["bce"] < 0.5 * epochs[0]["losses"]["bce"]
    categories = [sample.category for sample in data.samples]
    visual = detector.detect(data.features, (8, 8), categories).extra_scores["visual"]
    defects = torch.tensor([sample.is_defect for sample in data.samples])
    assert visual[defects].min() > visual[~defects].max()


def test_the_centre_follows_the_normal_features_and_is_in_the_checkpoint(raml, data):
    detector = raml()
    train(detector, data, epochs=15)
    z, _ = detector.network(detector.add_category(data.features, [sample.category for sample in data.samples]))
    normal = z[[not sample.is_defect for sample in data.samples]]
    assert (normal.mean(0) - detector.maccl.centre).norm() < 0.5 * normal.mean(0).norm()
    state = detector.learned_state()
    assert {"maccl.centre", "maccl.sigma", "maccl.difficulty.names", "maccl.difficulty.averages"} <= state.keys()
    fresh = raml()
    fresh.load_learned_state({name: value.clone() for name, value in state.items()})
    assert fresh.maccl.difficulty.state() == detector.maccl.difficulty.state()
    assert torch.equal(fresh.maccl.centre, detector.maccl.centre)


@pytest.mark.parametrize("killed_at", [1, 2, 3, 7, 11])
def test_killed_training_resumes_to_the_same_bytes(raml, data, tmp_path, killed_at):
    whole, resumed = raml(), raml()
    train(whole, data)
    with pytest.raises(Kill):
        train(raml(), data, tmp_path, Killer(killed_at))
    train(resumed, data, tmp_path)
    assert equal_states(whole.learned_state(), resumed.learned_state())


def test_the_batch_cannot_be_computed_in_parts(raml, data):
    detector = raml()
    arguments = detector.training_stages(), section(accumulate=2), torch.device("cpu"), detector.phase_names()
    with pytest.raises(AnoframeError, match=r"depends on its whole batch.*--trainer\.accumulate 1"):
        check_training(*arguments)
    with pytest.raises(AnoframeError, match=r"--device 0 1: .*depends on its whole batch.*name one device"):
        check_multi_device(detector, "unified", "--device 0 1")


def test_without_maccl_the_batch_can_be_computed_in_parts(raml):
    detector = raml(loss={"maccl": False})
    check_training(detector.training_stages(), section(accumulate=2), torch.device("cpu"), detector.phase_names())
    check_multi_device(detector, "unified", "--device 0 1")
