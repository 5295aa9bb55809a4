"""The schedule of CLAP4CLIP (C12 of the method's checks)."""

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.training.optimizers import build_optimizer, build_schedule
from anoframe.training.settings import phase_settings
from anoframe.training.warmup_cosine import WarmupCosine

SECTION = {
    "epochs": 5,
    "optimizer": {"name": "momentum", "momentum": 0.0, "lr": 1.6e-3},
    "schedule": {"name": "warmup_cosine", "warmup_share": 0.3, "final_share": 0.001},
    "phases": {"balance": {"optimizer": {"lr": 1.6e-4}, "schedule": {"warmup_share": 0.0}}},
}


def rates(phase, steps=100):
    settings = phase_settings(SECTION, phase)
    optimizer = build_optimizer(settings.optimizer, {"weight": torch.nn.Parameter(torch.zeros(2, 2))})
    schedule = build_schedule(settings, optimizer, 20, steps)
    values = []
    for step in range(steps):
        schedule.step_update(step)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def test_the_learning_rates_are_those_of_the_reference():
    values = rates("task")
    assert values[0] == pytest.approx(5.161e-5, rel=1e-3)
    assert values[29] == pytest.approx(1.5484e-3, rel=1e-4)
    assert values[30] == pytest.approx(1.6e-3)
    assert values[-1] == pytest.approx(2.405e-6, rel=1e-3)
    assert max(values) == values[30]


def test_a_phase_without_warmup_starts_at_its_learning_rate_and_only_falls():
    values = rates("balance", 10)
    assert values[0] == pytest.approx(1.6e-4)
    assert values == sorted(values, reverse=True)
    assert values[-1] > 1.6e-7


def test_the_optimiser_has_no_momentum():
    settings = phase_settings(SECTION, "task")
    optimizer = build_optimizer(settings.optimizer, {"weight": torch.nn.Parameter(torch.zeros(2, 2))})
    assert type(optimizer) is torch.optim.SGD
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0.0, False)}


def test_every_group_has_its_own_peak():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.5)]
    optimizer = torch.optim.SGD(groups)
    WarmupCosine(optimizer, 4, 0.5, 0.0).step_update(0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1 / 3, 1 / 6])


@pytest.mark.parametrize(("key", "value"), [("warmup_share", 1.0), ("warmup_share", -0.1), ("final_share", 1.5)])
def test_a_share_out_of_its_range_is_an_error(key, value):
    section = {**SECTION, "schedule": {**SECTION["schedule"], key: value}}
    with pytest.raises(AnoframeError, match=f"trainer.schedule.{key} must be"):
        phase_settings(section, "task")
