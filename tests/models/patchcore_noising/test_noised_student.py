"""Student of PatchCore-noising: its noise, its loss without noise, and running moments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.patchcore_noising import student as module
from anoframe.models.patchcore_noising.student import Moments, NoisedStudent, StudentSettings
from anoframe.models.rd4ad.loss import reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation

CHANNELS, STRIDES, SIGNED, SIDES = (8, 16), (4, 8), (False, True), (16, 8)
ROWS = torch.tensor([3, 0, 1])


def maps(seed, images=3):
    """Two levels of a teacher; the first has no negative values."""
    torch.manual_seed(seed)
    fine, coarse = (torch.randn(images, channels, side, side) for channels, side in zip(CHANNELS, SIDES, strict=True))
    return [fine.relu(), coarse]


def build(seed=0, **settings):
    """Build a student with random noise amplitudes for four training images."""
    torch.manual_seed(seed)
    student = NoisedStudent(CHANNELS, STRIDES, SIGNED, StudentSettings(enable=True, width=0.25, **settings))
    student.amplitude = torch.rand(4, 8, 8)
    student.deviation = torch.rand(sum(CHANNELS)) + 0.1
    return student


# ------------------------------------------------------------------------------------------------------------- noise


def test_noise_equals_the_formula_written_out():
    student, teacher = build(tau=0.7), maps(1)
    torch.manual_seed(5)
    noised_levels = student.add_noise(teacher, ROWS)
    torch.manual_seed(5)
    start = 0
    for level, noised in zip(teacher, noised_levels, strict=True):
        xi, expected = torch.randn_like(level), torch.empty_like(level)
        for i, row in enumerate(ROWS.tolist()):
            size = level.shape[-2:]
            amplitude = F.interpolate(student.amplitude[row][None, None], size, mode="bilinear", align_corners=False)[
                0, 0
            ]
            for c in range(level.shape[1]):
                expected[i, c] = level[i, c] + 0.7 * amplitude * student.deviation[start + c] * xi[i, c]
        assert_allclose(noised, expected, rtol=1e-5, atol=1e-6)
        start += level.shape[1]


def test_noise_divided_by_its_scale_is_standard_normal():
    student, teacher = build(tau=2.0), [level.expand(400, -1, -1, -1) for level in maps(1, 1)]
    student.amplitude = torch.full((4, 8, 8), 0.3)
    for level, noised, std in zip(
        teacher, student.add_noise(teacher, torch.zeros(400).long()), student.deviation.split(CHANNELS), strict=True
    ):
        units = (noised - level) / (2 * 0.3 * std[:, None, None])
        assert abs(float(units.mean())) < 0.01
        assert float(units.std()) == pytest.approx(1, abs=0.01)


def test_an_image_with_zero_amplitude_gets_no_noise():
    student, teacher = build(), maps(1)
    student.amplitude[0] = 0
    for level, noised in zip(teacher, student.add_noise(teacher, ROWS), strict=True):
        assert torch.equal(noised[1], level[1])
        assert not torch.equal(noised[0], level[0])


def test_the_network_gets_noised_maps_and_the_loss_gets_clean_maps(monkeypatch):
    student, teacher = build().train(), maps(1)
    inputs = {}
    student.network.register_forward_pre_hook(lambda _, arguments: inputs.update(network=arguments[0]))
    monkeypatch.setattr(module, "reverse_distillation_loss", lambda clean, *_: inputs.update(loss=clean))
    student.loss(teacher, ROWS)
    for level, target, noised in zip(teacher, inputs["loss"], inputs["network"], strict=True):
        assert torch.equal(target, level)
        assert not torch.equal(noised, level)


def test_noise_does_not_change_the_maps_of_the_teacher():
    student, teacher = build().train(), maps(1)
    before = [level.clone() for level in teacher]
    student.loss(teacher, ROWS).backward()
    assert all(torch.equal(*pair) for pair in zip(teacher, before, strict=True))


# ---------------------------------------------------------------------------------------------------------- no noise


@pytest.mark.parametrize("kind", ["flat", "local"])
def test_without_noise_training_equals_reverse_distillation_to_the_bit(kind):
    student = build(3, tau=0.0, loss=kind).train()
    torch.manual_seed(3)
    plain = ReverseDistillation(CHANNELS, STRIDES, SIGNED, width=0.25)
    optimisers = [torch.optim.Adam(network.parameters(), 0.005) for network in (student, plain)]
    for step in range(3):
        teacher = maps(step)
        losses = student.loss(teacher, ROWS), reverse_distillation_loss(teacher, plain(teacher), kind)
        assert torch.equal(*losses)
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert all(torch.equal(*pair) for pair in zip(student.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(("tau", "training"), [(0.0, True), (0.0, False), (1.0, False)])
def test_without_noise_or_training_no_random_number_is_drawn(tau, training):
    student, teacher = build(tau=tau).train(training), maps(1)
    before = torch.get_rng_state()
    student.loss(teacher, ROWS)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_eval_mode_the_network_gets_clean_maps():
    student, teacher = build(tau=5.0).eval(), maps(1)
    assert torch.equal(student.loss(teacher, ROWS), reverse_distillation_loss(teacher, student.network(teacher)))


# ----------------------------------------------------------------------------------------------------------- moments


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.lists(st.integers(1, 9), min_size=1, max_size=5), mean=st.floats(-1e3, 1e3))
def test_moments_of_blocks_equal_those_of_the_whole(seed, rows, mean):
    blocks = [np.random.default_rng((seed, i)).normal(mean, 2.0, (n, 3)) for i, n in enumerate(rows)]
    moments = Moments()
    for block in blocks:
        moments.add(torch.from_numpy(block))
    whole = np.concatenate(blocks)
    assert_allclose(moments.mean, whole.mean(0), rtol=1e-5, atol=1e-5)
    assert_allclose(moments.deviation, whole.std(0), rtol=1e-4, atol=1e-4)


def test_moments_of_a_constant_have_no_deviation():
    moments = Moments()
    moments.add(torch.full((1000, 2), 0.1))
    assert torch.equal(moments.deviation, torch.zeros(2))


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tau": -0.1}, r"model\.student\.tau is 0 or more, got -0\.1"),
        ({"beta": 1.5}, r"model\.student\.beta lies between 0 \(bank\) and 1 \(student\), got 1\.5"),
        ({"beta": -0.5}, r"model\.student\.beta"),
        ({"width": 0.0}, r"model\.student\.width is above 0, got 0\.0"),
        ({"loss": "cosine"}, r"model\.student\.loss is one of flat, local, got 'cosine'"),
    ],
)
def test_settings_out_of_range_are_errors(wrong, message):
    with pytest.raises(AnoframeError, match=message):
        StudentSettings(**wrong)
