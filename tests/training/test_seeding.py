"""Seeding of all random generators."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from anoframe.training.seeding import random_states, seed_everything, seed_generators, set_random_states

every_generator = pytest.mark.parametrize(
    "draw",
    [random.random, lambda: np.random.rand(), lambda: torch.rand(1).item()],  # noqa: NPY002
    ids=["random", "numpy", "torch"],
)


@every_generator
def test_seed_determines_every_generator(draw):
    def draw_after(seed):
        seed_everything(seed)
        return draw()

    assert draw_after(3) == draw_after(3) != draw_after(4)


@every_generator
def test_restored_states_give_the_same_numbers(draw):
    seed_generators(0, 1, 2)
    states = random_states()
    first = draw()
    draw()
    set_random_states(states)
    assert draw() == first


@every_generator
def test_every_number_of_a_seed_matters(draw):
    def draw_after(*numbers):
        seed_generators(*numbers)
        return draw()

    assert draw_after(0, 1) == draw_after(0, 1)
    assert len({draw_after(0), draw_after(0, 1), draw_after(0, 2), draw_after(1, 2)}) == 4
