"""The trainer section: what of it is refused before any work, and what a phase changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anoframe.config import load_config
from anoframe.detector import Observation, Phase
from anoframe.errors import AnoframeError
from anoframe.trainers.settings import check_training, settings_of

CPU = torch.device("cpu")
PHASE = Phase("student", {"w": nn.Parameter(torch.ones(1))}, lambda batch: {})


def test_the_decay_follows_the_epochs():
    cfg = load_config("__base__/gradient.py", {"trainer.epochs": 300})
    assert cfg.trainer.schedule.decay_epochs == 240


def test_a_phase_changes_what_it_names_and_keeps_the_rest(section):
    made = section(phases={"student": {"epochs": 7, "optimizer": {"lr": 0.5}}})
    student, other = settings_of(made, "student"), settings_of(made, "other")
    assert (student.epochs, student.optimizer["lr"], student.optimizer["name"]) == (7, 0.5, "adam")
    assert (other.epochs, other.optimizer["lr"]) == (3, 0.001)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"epochs": 20}, 16.0),
    ({"epochs": 20, "schedule": {"decay_epochs": 5.0}}, 5.0),
    ({"schedule": {"name": "step"}}, 2.4),
])  # fmt: skip
def test_the_decay_of_a_phase_follows_its_own_epochs(section, changes, expected):
    settings = settings_of(section(phases={"student": changes}), "student")
    assert settings.schedule.decay_epochs == pytest.approx(expected)


@pytest.mark.parametrize("given", ["2.5", "7"])
def test_a_decay_can_be_said_and_then_stays(given):
    cfg = load_config("__base__/gradient.py", {"trainer.schedule.decay_epochs": given, "trainer.epochs": 300})
    assert cfg.trainer.schedule.decay_epochs == float(given)


@pytest.mark.parametrize(
    ("images", "steps", "expected"), [(10, None, (3, 9)), (8, None, (2, 6)), (10, 5, (3, 5)), (1, None, (1, 3))]
)
def test_an_epoch_takes_the_last_small_batch_too(section, images, steps, expected):
    assert settings_of(section(steps=steps), "student").length(images) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "trainer.epochs is 1 or more"),
        ({"batch_size": 0}, "trainer.batch_size"),
        ({"accumulate": 0}, "trainer.accumulate"),
        ({"steps": 0}, "trainer.steps"),
        ({"clip": -1.0}, "trainer.clip"),
        ({"precision": "float64"}, "trainer.precision"),
        ({"precision": "float16"}, "is for GPUs"),
        ({"select": "best"}, "trainer.select"),
        ({"optimizer.name": "addam"}, "did you mean 'adam'"),
        ({"optimizer.name": "sgd", "optimizer.betas": "0.5, 0.9"}, "takes no argument 'betas'"),
        ({"select": "best_on_test"}, "evaluate_every"),
        ({"schedule.name": "cosin"}, "did you mean 'cosine'"),
        ({"schedule.decay_rate": 0.0}, "decay_rate"),
        ({"schedule.final_lr": -1.0}, "final_lr is 0 or more"),
        ({"schedule.name": "cosine", "schedule.final_lr": 1.0}, "final_lr is at most"),
        ({"phases": {"studnet": {"epochs": 1}}}, "did you mean 'student'"),
        ({"phases": {"student": {"epoch": 1}}}, "did you mean 'epochs'"),
        ({"phases": {"student": {"epochs": "many"}}}, "epochs takes"),
    ],
)
def test_what_makes_no_sense_is_told(section, changes, message):
    with pytest.raises(AnoframeError, match=message):
        check_training([PHASE], section(**changes), CPU, ["student"])


def test_a_trained_method_needs_a_trainer_section():
    with pytest.raises(AnoframeError, match=r"inherit __base__/gradient\.py"):
        check_training([PHASE], None, CPU, ["student"])


def test_a_method_that_only_looks_needs_none():
    look = Observation("bank", lambda images: None, lambda features, samples: None, lambda: None)
    check_training([look], None, CPU, [])
