"""Optimisers by name, and learning rates over the steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.training.optimizers import build_optimizer, build_schedule
from anoframe.training.settings import Schedule, Settings

LR = 0.005


@pytest.fixture
def parameters():
    return dict(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).named_parameters())


@pytest.fixture
def rates(parameters):
    """The learning rate of each step of 10 epochs of 20 steps."""

    def over(schedule, total=200):
        optimizer = build_optimizer({"name": "adam", "lr": LR}, parameters)
        settings = Settings({"name": "adam", "lr": LR}, 10, schedule=schedule)
        driven = build_schedule(settings, optimizer, per_epoch=20, total=total)
        found = []
        for step in range(total):
            driven.step_update(step)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    return over


def test_a_constant_rate_is_constant(rates):
    assert set(rates(Schedule())) == {LR}


def test_a_warm_up_rises_in_a_line_from_a_thousandth(rates):
    found = rates(Schedule(warmup_epochs=2.0))
    assert found[0] == pytest.approx(LR / 1000)
    assert found[20] == pytest.approx((LR / 1000 + LR) / 2)
    assert found[40:] == [LR] * 160


def test_a_warm_up_can_be_said_in_steps(rates):
    assert rates(Schedule(warmup_epochs=2.0, warmup_steps=7)).index(LR) == 7


def test_steps_fall_to_a_tenth_after_four_fifths_of_all_whatever_the_warm_up(rates):
    found = rates(Schedule("step", warmup_epochs=1.0, decay_epochs=8.0))
    assert found[159] == LR
    assert found[160:] == pytest.approx([LR / 10] * 40)


@pytest.mark.parametrize("total", [10, 1000])
def test_steps_that_stand_for_epochs_fall_after_four_fifths_of_them(rates, total):
    found = rates(Schedule("step", decay_epochs=8.0), total)
    assert found == pytest.approx([LR] * (total * 4 // 5) + [LR / 10] * (total // 5))


def test_a_cosine_ends_at_its_final_rate(rates):
    found = rates(Schedule("cosine", final_lr=1e-5))
    assert found[0] == LR
    assert found[100] == pytest.approx((LR + 1e-5) / 2)
    assert 1e-5 < found[199] < 1.1e-5


def test_weight_decay_leaves_out_biases_and_norms(parameters):
    groups = build_optimizer({"name": "adamw", "lr": LR, "weight_decay": 0.1}, parameters).param_groups
    decayed = [p for group in groups if group["weight_decay"] for p in group["params"]]
    assert [id(p) for p in decayed] == [id(parameters["0.weight"])]


def test_arguments_reach_the_optimiser_and_none_is_left_to_it(parameters):
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
        ({"name": "adam", "lr": 0.0}, "lr above 0"),
        ({"name": "adam", "lr": LR, "betas": (0.5, 2.0)}, "refuses its arguments"),
        ({"name": "adam", "lr": LR, "betas": (0.5,)}, "betas takes 2 numbers"),
        ({"name": "adam", "lr": LR, "betas": (0.5, 0.9, 0.99)}, "betas takes 2 numbers"),
        ({"name": "adan", "lr": LR, "betas": [0.5, 0.9]}, "betas takes 3 numbers"),
        ({"name": "adahessian", "lr": LR}, "second derivatives"),
    ],
)
def test_what_makes_no_sense_is_told(parameters, section, message):
    with pytest.raises(AnoframeError, match=message):
        build_optimizer(section, parameters)


@pytest.mark.parametrize("name", ["fusedadam", "bnbadam"])
def test_an_optimiser_that_needs_what_is_not_here_is_told(parameters, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AnoframeError, match=f"optimizer '{name}' cannot be had here"):
        build_optimizer({"name": name, "lr": LR}, parameters)
