"""The trainer section: what follows from what, and what a phase changes."""

from __future__ import annotations

import pytest

from anoframe.config import load_config
from anoframe.training.settings import settings_of


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
