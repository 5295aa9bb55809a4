"""Settings of the trainer section: derived values, and changes for single phases."""

from __future__ import annotations

import pytest

from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.training.settings import phase_settings


def test_decay_follows_the_epochs():
    cfg = load_config("__base__/gradient.py", {"trainer.epochs": 300})
    assert cfg.trainer.schedule.decay_epochs == 240


def test_a_phase_changes_only_the_given_keys(section):
    trainer = section(phases={"student": {"epochs": 7, "optimizer": {"lr": 0.5}}})
    student, other = phase_settings(trainer, "student"), phase_settings(trainer, "other")
    assert (student.epochs, student.optimizer["lr"], student.optimizer["name"]) == (7, 0.5, "adam")
    assert (other.epochs, other.optimizer["lr"]) == (3, 0.001)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"epochs": 20}, 16.0),
    ({"epochs": 20, "schedule": {"decay_epochs": 5.0}}, 5.0),
    ({"schedule": {"name": "step"}}, 2.4),
])  # fmt: skip
def test_decay_of_a_phase_follows_its_own_epochs(section, changes, expected):
    settings = phase_settings(section(phases={"student": changes}), "student")
    assert settings.schedule.decay_epochs == pytest.approx(expected)


@pytest.mark.parametrize("value", ["2.5", "7"])
def test_a_given_decay_does_not_follow_the_epochs(value):
    cfg = load_config("__base__/gradient.py", {"trainer.schedule.decay_epochs": value, "trainer.epochs": 300})
    assert cfg.trainer.schedule.decay_epochs == float(value)


@pytest.mark.parametrize(
    ("images", "steps", "expected"), [(10, None, (3, 9)), (8, None, (2, 6)), (10, 5, (3, 5)), (1, None, (1, 3))]
)
def test_an_epoch_includes_the_last_small_batch(section, images, steps, expected):
    assert phase_settings(section(steps=steps), "student").num_steps(images) == expected


@pytest.mark.parametrize(
    ("name", "metrics"),
    [("summary", ("image_auroc", "pixel_auroc", "aupro")), ("pixel_auroc", ("pixel_auroc",)), ("aupro", ("aupro",))],
)
def test_the_metrics_that_choose_an_epoch(section, name, metrics):
    assert phase_settings(section(select_metric=name), "student").selection_metrics == metrics


@pytest.mark.parametrize("name", ["pixel_aurok", "aupro_0.05", "fm"])
def test_an_unknown_metric_to_choose_by_is_an_error(section, name):
    with pytest.raises(AnoframeError, match=r"unknown trainer\.select_metric"):
        phase_settings(section(select_metric=name), "student")
