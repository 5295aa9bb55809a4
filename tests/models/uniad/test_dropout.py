import pytest
import torch
from torch import nn

from anoframe.models.uniad.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_becomes_zero_and_the_mean_is_kept(device, p):
    torch.manual_seed(0)
    values = dropout(torch.ones(200, 1000, device=device), p)
    zeros = (values == 0).float()
    assert zeros.mean().item() == pytest.approx(p, abs=0.005)
    assert values.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)
    assert values.mean().item() == pytest.approx(1, abs=0.015)


def test_the_four_elements_of_one_random_number_are_independent():
    torch.manual_seed(0)
    zeros = (dropout(torch.ones(250_000, 4), 0.5) == 0).float()
    torch.testing.assert_close(zeros.mean(0), torch.full((4,), 0.5), rtol=0, atol=0.005)
    torch.testing.assert_close(torch.corrcoef(zeros.T), torch.eye(4), rtol=0, atol=0.01)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5)])
def test_any_shape_is_kept(shape):
    assert dropout(torch.ones(shape), 0.5).shape == shape


def test_gradients_flow_through_the_kept_values():
    values = torch.randn(50, 20, requires_grad=True)
    kept = dropout(values, 0.3)
    kept.sum().backward()
    torch.testing.assert_close(values.grad, kept.detach() / values.detach())


def test_the_seed_determines_the_mask():
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout(torch.ones(100), 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_no_random_number_is_drawn_without_dropout():
    values, before = torch.randn(9), torch.get_rng_state()
    assert dropout(values, 0.0) is values
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(torch.get_rng_state(), before)


def test_the_module_is_an_nn_dropout():
    module = Dropout(0.3)
    assert isinstance(module, nn.Dropout)
    assert module.p == 0.3
    torch.manual_seed(0)
    assert (module(torch.ones(1000)) == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
