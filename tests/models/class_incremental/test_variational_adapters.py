"""Variational adapters and their distributions (C1, C6 to C8 of the method's checks)."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from anoframe.models.class_incremental.adapters import Adapter
from anoframe.models.class_incremental.losses import kl_loss
from anoframe.models.class_incremental.network import ClapNetwork
from anoframe.models.class_incremental.priors import Gaussian, kl_divergence
from anoframe.models.class_incremental.settings import PosteriorSettings, VGASettings


def texts(classes, prompts, width=16, seed=0):
    return torch.nn.functional.normalize(
        torch.randn(classes, prompts, width, generator=torch.Generator().manual_seed(seed)), dim=-1
    )


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_numbers_of_parameters_are_those_of_the_reference():
    adapter = Adapter(512)
    assert (count(adapter.mu), count(adapter)) == (262_656, 525_312)


def test_ten_tasks_have_the_parameters_of_the_reference():
    with torch.device("meta"):
        network = ClapNetwork(512, VGASettings(), PosteriorSettings())
        network.resize(10)
    assert count(network) == 9_457_152


def test_the_standard_deviation_has_a_lower_bound():
    adapter = Adapter(8)
    with torch.no_grad():
        adapter.sigma.linear.weight.zero_()
        adapter.sigma.linear.bias.fill_(-50.0)
    torch.testing.assert_close(adapter(torch.randn(3, 8)).std, torch.full((3, 8), 0.001), rtol=1e-6, atol=0)


@torch.no_grad()
def test_the_initial_standard_deviation_is_near_that_of_softplus_0():
    torch.manual_seed(0)
    adapter, text = Adapter(512), texts(10, 18, 512)
    adapter.initialise(text.mean(1), text.var(1))
    std = adapter(text.mean(1) + torch.randn(10, 512)).std
    assert 0.6 <= std.mean() <= 0.8
    assert std.min() >= 0.001


def test_initial_weights_are_gram_matrices_of_the_texts():
    adapter, text = Adapter(16), texts(5, 7)
    bias = adapter.mu.linear.bias.clone()
    adapter.initialise(text.mean(1), text.var(1))
    assert torch.equal(adapter.mu.linear.bias, bias)
    for weight, rows in ((adapter.mu.linear.weight, text.mean(1)), (adapter.sigma.linear.weight, text.var(1))):
        torch.testing.assert_close(weight, weight.T)
        values = torch.linalg.eigvalsh(weight.double())
        assert values.min() > -1e-9
        assert int((values > 1e-7 * values.max()).sum()) <= 5
        torch.testing.assert_close(weight.trace(), rows.square().sum() / 16)


def test_without_variance_an_adapter_has_a_mean_alone():
    adapter = Adapter(16, variational=False)
    distribution = adapter(torch.randn(3, 16))
    assert distribution.std is None
    assert torch.equal(distribution.sample(torch.randn(4, 3, 16)), distribution.mean[None])
    adapter.initialise(torch.randn(5, 16), torch.randn(5, 16))


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)])
def test_the_divergence_is_that_of_torch(shape):
    generator = torch.Generator().manual_seed(3)
    posterior = Gaussian(torch.randn(shape, generator=generator), 0.1 + torch.rand(shape, generator=generator))
    prior = Gaussian(torch.randn(shape, generator=generator), 0.1 + torch.rand(shape, generator=generator))
    expected = torch_kl(Normal(posterior.mean, posterior.std), Normal(prior.mean, prior.std))
    torch.testing.assert_close(kl_divergence(posterior, prior), expected)
    standard = torch_kl(Normal(posterior.mean, posterior.std), Normal(torch.zeros(shape), torch.ones(shape)))
    torch.testing.assert_close(kl_divergence(posterior, None), standard)
    assert kl_divergence(posterior, posterior).abs().max() < 1e-6


@pytest.mark.parametrize("classes", [1, 3])
def test_the_loss_is_a_mean_over_classes_and_a_sum_over_channels(classes):
    posterior = Gaussian(torch.full((classes, 5), 0.2), torch.full((classes, 5), 0.7))
    expected = 5 * (-math.log(0.7) + (0.49 + 0.04) / 2 - 0.5)
    assert float(0.001 * kl_loss(posterior, None)) == pytest.approx(6.08375e-4, rel=1e-4)
    assert float(kl_loss(posterior, None)) == pytest.approx(expected, rel=1e-5)
    samples = Gaussian(posterior.mean.expand(4, -1, -1), posterior.std.expand(4, -1, -1))
    assert float(kl_loss(samples, None)) == pytest.approx(expected, rel=1e-5)  # global samples do not multiply it
