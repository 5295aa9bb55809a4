"""Errors of the trainer section, raised before any work starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, Phase
from anoframe.training.validation import check_training

CPU = torch.device("cpu")
PHASE = Phase("student", {"w": nn.Parameter(torch.ones(1))}, lambda batch: {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "trainer.epochs must be 1 or more"),
        ({"batch_size": 0}, "trainer.batch_size"),
        ({"accumulate": 0}, "trainer.accumulate"),
        ({"steps": 0}, "trainer.steps"),
        ({"clip": -1.0}, "trainer.clip"),
        ({"precision": "float64"}, "trainer.precision"),
        ({"precision": "float16"}, "requires a GPU"),
        ({"select": "best"}, "trainer.select"),
        ({"optimizer.name": "addam"}, "did you mean 'adam'"),
        ({"optimizer.name": "sgd", "optimizer.betas": "0.5, 0.9"}, "takes no argument 'betas'"),
        ({"select": "best_on_test"}, "evaluate_every"),
        ({"schedule.name": "cosin"}, "did you mean 'cosine'"),
        ({"schedule.decay_rate": 0.0}, "decay_rate"),
        ({"schedule.warmup_steps": -1}, "schedule.warmup_steps must be 0 or more"),
        ({"schedule.final_lr": -1.0}, "final_lr must be 0 or more"),
        ({"schedule.name": "cosine", "schedule.final_lr": 1.0}, "final_lr must be at most"),
        ({"phases": {"studnet": {"epochs": 1}}}, "did you mean 'student'"),
        ({"phases": {"student": {"epoch": 1}}}, "did you mean 'epochs'"),
        ({"phases": {"student": {"epochs": "many"}}}, "epochs takes"),
    ],
)
def test_wrong_settings_raise_an_error(section, changes, message):
    with pytest.raises(AnoframeError, match=message):
        check_training([PHASE], section(**changes), CPU, ["student"])


def test_method_with_phases_requires_a_trainer_section():
    with pytest.raises(AnoframeError, match=r"inherit __base__/gradient\.py"):
        check_training([PHASE], None, CPU, ["student"])


def test_method_with_observations_only_requires_no_trainer_section():
    observation = Observation("bank", lambda images: None, lambda features, samples: None, lambda: None)
    check_training([observation], None, CPU, [])
