"""Optimisers by name, and the learning rate at each step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.training.optimizers import build_optimizer, build_schedule
from anoframe.training.settings import Schedule, TrainingSettings

LR = 0.005


@pytest.fixture
def parameters():
    return dict(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).named_parameters())


@pytest.fixture
def learning_rates(parameters):
    """Function that returns the learning rate of each step of 10 epochs of 20 steps."""

    def compute(schedule, total=200):
        optimizer = build_optimizer({"name": "adam", "lr": LR}, parameters)
        settings = TrainingSettings({"name": "adam", "lr": LR}, 10, schedule=schedule)
        scheduler = build_schedule(settings, optimizer, steps_per_epoch=20, num_steps=total)
        rates = []
        for step in range(total):
            scheduler.step_update(step)
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    return compute


def test_constant_schedule(learning_rates):
    assert set(learning_rates(Schedule())) == {LR}


def test_warm_up_is_linear_from_a_thousandth(learning_rates):
    rates = learning_rates(Schedule(warmup_epochs=2.0))
    assert rates[0] == pytest.approx(LR / 1000)
    assert rates[20] == pytest.approx((LR / 1000 + LR) / 2)
    assert rates[40:] == [LR] * 160


def test_warm_up_can_be_given_in_steps(learning_rates):
    assert learning_rates(Schedule(warmup_epochs=2.0, warmup_steps=7)).index(LR) == 7


def test_step_schedule_decays_after_four_fifths_whatever_the_warm_up(learning_rates):
    rates = learning_rates(Schedule("step", warmup_epochs=1.0, decay_epochs=8.0))
    assert rates[159] == LR
    assert rates[160:] == pytest.approx([LR / 10] * 40)


@pytest.mark.parametrize("total", [10, 1000])
def test_step_schedule_decays_after_four_fifths_of_a_length_given_in_steps(learning_rates, total):
    rates = learning_rates(Schedule("step", decay_epochs=8.0), total)
    assert rates == pytest.approx([LR] * (total * 4 // 5) + [LR / 10] * (total // 5))


def test_cosine_schedule_ends_at_its_final_rate(learning_rates):
    rates = learning_rates(Schedule("cosine", final_lr=1e-5))
    assert rates[0] == LR
    assert rates[100] == pytest.approx((LR + 1e-5) / 2)
    assert 1e-5 < rates[199] < 1.1e-5


def test_weight_decay_excludes_biases_and_norms(parameters):
    groups = build_optimizer({"name": "adamw", "lr": LR, "weight_decay": 0.1}, parameters).param_groups
    decayed = [p for group in groups if group["weight_decay"] for p in group["params"]]
    assert [id(p) for p in decayed] == [id(parameters["0.weight"])]


def test_arguments_are_passed_to_the_optimiser_except_none(parameters):
    section = {"name": "adam", "lr": LR, "betas": [0.5, 0.999], "eps": None}
    optimizer = build_optimizer(section, parameters)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["betas"] == (0.5, 0.999)
    assert optimizer.defaults["eps"] == torch.optim.Adam([nn.Parameter(torch.ones(1))]).defaults["eps"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "addam", "lr": LR}, "did you mean 'adam'"),
        ({"name": "sgd", "lr": LR, "betas": (0.5, 0.9)}, "betas"),
        ({"name": "adam", "lr": 0.0}, "lr must be a number above 0"),
        ({"name": "adam", "lr": LR, "weight_decay": -0.1}, "weight_decay must be a number of 0 or more"),
        ({"name": "adam", "lr": LR, "betas": (0.5, 2.0)}, "rejects its arguments"),
        ({"name": "adam", "lr": LR, "betas": (0.5,)}, "betas takes 2 numbers"),
        ({"name": "adam", "lr": LR, "betas": (0.5, 0.9, 0.99)}, "betas takes 2 numbers"),
        ({"name": "adan", "lr": LR, "betas": [0.5, 0.9]}, "betas takes 3 numbers"),
        ({"name": "adahessian", "lr": LR}, "second derivatives"),
    ],
)
def test_wrong_arguments_raise_an_error(parameters, section, message):
    with pytest.raises(AnoframeError, match=message):
        build_optimizer(section, parameters)


@pytest.mark.parametrize("name", ["fusedadam", "bnbadam"])
def test_optimiser_with_missing_requirements_raises_an_error(parameters, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AnoframeError, match=f"optimizer '{name}' is not available on this machine"):
        build_optimizer({"name": name, "lr": LR}, parameters)
