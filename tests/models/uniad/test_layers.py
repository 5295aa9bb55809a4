"""The feed-forward network, and residual connections with and without adapters."""

import pytest
import torch
from torch import nn

from anoframe.models.uniad.layers import Residual, feed_forward


def test_the_hidden_layer_has_dropout_in_train_mode_and_keeps_its_mean():
    torch.manual_seed(0)
    network = feed_forward(4, 50, 0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].bias.fill_(1 / 50)
        network[-1].weight.fill_(1)  # the output is the sum of the hidden units
        sums = network(torch.zeros(2000, 4))
        assert (sums.mean().item(), sums.std().item()) == (
            pytest.approx(1, abs=0.02),
            pytest.approx(1 / 50**0.5, rel=0.05),
        )
        torch.testing.assert_close(network.eval()(torch.zeros(3, 4)), torch.ones(3, 4))


class ShiftAdapter(nn.Module):
    """Adds half of the previous token; keeps the context that it was called with."""

    def __init__(self, sequential):
        super().__init__()
        self.sequential = sequential

    def forward(self, tokens, context):
        self.context = context
        return 0.5 * tokens.roll(1, 1)


@pytest.fixture
def residual():
    residual = Residual(16, 0.1).eval()
    nn.init.normal_(residual.norm.weight)
    return residual


def test_without_an_adapter_it_is_post_norm_to_the_bit(residual):
    x, value = torch.randn(2, 3, 7, 16)
    assert torch.equal(residual(x, value), residual.norm(x + value))


def test_a_parallel_adapter_receives_the_input_and_is_added_before_the_norm(residual):
    x, value = torch.randn(2, 3, 7, 16)
    residual.adapter = ShiftAdapter(sequential=False)
    torch.testing.assert_close(residual(x, value), residual.norm(x + value + 0.5 * x.roll(1, 1)))


def test_a_sequential_adapter_receives_the_output_and_is_added_to_it(residual):
    x, value = torch.randn(2, 3, 7, 16)
    out = residual(x, value)
    residual.adapter = ShiftAdapter(sequential=True)
    torch.testing.assert_close(residual(x, value), out + 0.5 * out.roll(1, 1))


@pytest.mark.parametrize("sequential", [False, True])
def test_an_adapter_receives_the_context_of_the_call(residual, sequential):
    residual.adapter, context = ShiftAdapter(sequential), object()
    residual(*torch.randn(2, 3, 7, 16), context=context)
    assert residual.adapter.context is context


def test_an_adapter_has_no_dropout_of_the_residual(residual):
    residual.adapter = ShiftAdapter(sequential=False)
    x = torch.randn(3, 7, 16)
    assert torch.equal(residual.train()(x, torch.zeros_like(x)), residual.eval()(x, torch.zeros_like(x)))
