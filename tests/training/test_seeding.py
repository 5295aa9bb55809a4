"""Seeding of all random generators."""

from __future__ import annotations

import random
import subprocess
import sys

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


def test_deterministic_kernels_without_importing_the_compiler():
    code = (
        "import sys, torch; from anoframe.training.seeding import seed_everything; seed_everything(0)\n"
        "print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),"
        " [name for name in ('torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "True True []"
