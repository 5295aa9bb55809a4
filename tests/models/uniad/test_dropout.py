import pytest
import torch
from torch import nn

from anoframe.models.uniad.dropout import Dropout, dropped


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_is_zero_and_the_rest_keeps_the_mean(device, p):
    torch.manual_seed(0)
    found = dropped(torch.ones(200, 1000, device=device), p)
    zeros = (found == 0).float()
    assert zeros.mean().item() == pytest.approx(p, abs=0.005)
    assert found.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)
    assert found.mean().item() == pytest.approx(1, abs=0.015)


def test_neighbours_fall_independently():
    """Coins come four at a time out of one number: none of them says anything of another."""
    torch.manual_seed(0)
    zeros = (dropped(torch.ones(250_000, 4), 0.5) == 0).float()
    torch.testing.assert_close(zeros.mean(0), torch.full((4,), 0.5), rtol=0, atol=0.005)
    torch.testing.assert_close(torch.corrcoef(zeros.T), torch.eye(4), rtol=0, atol=0.01)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5)])
def test_any_shape_will_do(shape):
    assert dropped(torch.ones(shape), 0.5).shape == shape


def test_a_gradient_flows_where_a_value_was_kept():
    values = torch.randn(50, 20, requires_grad=True)
    found = dropped(values, 0.3)
    found.sum().backward()
    torch.testing.assert_close(values.grad, found.detach() / values.detach())


def test_the_seed_decides():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(dropped(torch.ones(100), 0.5))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_nothing_is_drawn_where_nothing_falls():
    values, before = torch.randn(9), torch.get_rng_state()
    assert dropped(values, 0.0) is values
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_a_dropout_of_torch_to_whoever_looks_for_one():
    module = Dropout(0.3)
    assert isinstance(module, nn.Dropout)
    assert module.p == 0.3
    torch.manual_seed(0)
    assert (module(torch.ones(1000)) == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
