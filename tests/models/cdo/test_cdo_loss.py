"""Loss of CDO: values computed by hand, bounds, gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from anoframe.models.cdo.loss import cdo_loss, discrepancies


def maps(seed, count=2, requires_grad=False):
    """Two levels of random features."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((count, 5, 6, 6), (count, 7, 3, 3))
    return [torch.randn(shape, generator=generator, requires_grad=requires_grad) for shape in shapes]


def brute_force(discrepancy, mask, gamma):
    """The loss, location by location; the mask has the size of the discrepancies."""
    normal = [float(d) for d, m in zip(discrepancy.flatten(), mask.flatten(), strict=True) if not m]
    synthetic = [float(d) for d, m in zip(discrepancy.flatten(), mask.flatten(), strict=True) if m]
    weights_n = [(d / (sum(normal) / len(normal))) ** gamma for d in normal]
    weights_s = [(sum(synthetic) / len(synthetic) / d) ** gamma for d in synthetic]
    difference = sum(w * d for w, d in zip(weights_n, normal, strict=True))
    difference -= sum(w * d for w, d in zip(weights_s, synthetic, strict=True))
    return len(discrepancy) * difference / (sum(weights_n) + sum(weights_s))


@pytest.mark.parametrize(
    ("values", "mask", "gamma", "expected"),
    [
        ([1.0, 3.0], [False, False], 2.0, 2.8),
        ([1.0, 3.0, 1.0, 3.0], [False, False, True, True], 2.0, (7 - 16 / 3) / (2.5 + 40 / 9)),
        ([1.0, 3.0], [False, False], 0.0, 2.0),
        ([1.0, 3.0, 1.0, 3.0], [False, False, True, True], 0.0, 0.0),
    ],
)
def test_values_of_the_method_sheet(values, mask, gamma, expected):
    loss = cdo_loss(torch.tensor([[values]]), torch.tensor([[mask]]), gamma)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.0])
def test_the_loss_equals_a_loop_over_locations(gamma):
    generator = torch.Generator().manual_seed(1)
    discrepancy = 4 * torch.rand(3, 5, 4, generator=generator) + 0.01
    mask = torch.rand(3, 5, 4, generator=generator) < 0.3
    assert float(cdo_loss(discrepancy, mask, gamma)) == pytest.approx(brute_force(discrepancy, mask, gamma), rel=1e-5)


def test_the_mask_is_resized_by_nearest_neighbour():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 4, 5] = True  # nearest neighbour of 4 x 4 takes the even rows and columns
    small = torch.zeros(1, 4, 4, dtype=torch.bool)
    small[0, 0, 0] = True
    discrepancy = torch.arange(1.0, 17).view(1, 4, 4)
    assert_close(cdo_loss(discrepancy, mask), cdo_loss(discrepancy, small))


def test_discrepancies_have_the_size_of_the_first_level_and_lie_in_0_to_4():
    levels = discrepancies(maps(0), maps(1))
    assert [level.shape for level in levels] == [(2, 6, 6)] * 2
    assert all((level >= 0).all() and (level <= 4).all() for level in levels)


def test_opposite_features_have_the_largest_discrepancy():
    first = maps(0)
    assert_close(discrepancies(first, [-level for level in first])[0], torch.full((2, 6, 6), 4.0))


def test_equal_networks_without_defects_have_loss_zero_and_finite_gradients():
    expert, apprentice = maps(0), maps(0, requires_grad=True)
    loss = sum(cdo_loss(level, torch.zeros(2, 6, 6, dtype=torch.bool)) for level in discrepancies(expert, apprentice))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert all(level.grad.isfinite().all() for level in apprentice)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_loss_is_bounded_for_any_share_of_defects(share):
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask.flatten()[: int(share * mask.numel())] = True
    for level in discrepancies(maps(0), maps(1)):
        assert abs(float(cdo_loss(level, mask))) <= 4 * 2


def test_no_gradient_flows_through_the_weights():
    discrepancy = torch.tensor([[[1.0, 3.0]]], requires_grad=True)
    cdo_loss(discrepancy, torch.zeros(1, 1, 2, dtype=torch.bool)).backward()
    assert_close(discrepancy.grad, torch.tensor([[[0.1, 0.9]]]))  # the normalised weights 0.25 and 2.25


def test_every_level_of_the_apprentice_gets_a_gradient():
    apprentice = maps(1, requires_grad=True)
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[:, 2:4] = True
    sum(cdo_loss(level, mask) for level in discrepancies(maps(0), apprentice)).backward()
    assert all(level.grad.abs().sum() > 0 for level in apprentice)
