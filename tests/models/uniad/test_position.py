import math

import pytest
import torch

from anoframe.models.uniad.position import LearnedPosition, SinePosition


def test_a_learned_code_has_its_column_first():
    position = LearnedPosition((3, 4), 8)
    code = position().view(3, 4, 8)
    for row in range(3):
        for column in range(4):
            assert torch.equal(code[row, column], torch.cat([position.columns[column], position.rows[row]]))


def test_learned_codes_are_initialised_between_0_and_1():
    code = LearnedPosition((14, 14), 256)()
    assert 0 <= code.min() < 0.01
    assert 0.99 < code.max() <= 1


def test_a_sine_code_matches_its_formula():
    height, width, half = 3, 4, 6
    code = SinePosition((height, width), 2 * half)().view(height, width, 2 * half)
    for row in range(height):
        for column in range(width):
            for k in range(half):
                wave = math.sin if k % 2 == 0 else math.cos
                for index, length, offset in ((row, height, 0), (column, width, half)):
                    angle = (index + 1) / (length + 1e-6) * 2 * math.pi / 10000 ** (2 * (k // 2) / half)
                    assert code[row, column, offset + k].item() == pytest.approx(wave(angle), abs=1e-5)


def test_sine_codes_are_not_trained():
    assert not SinePosition((3, 4), 8).state_dict()
