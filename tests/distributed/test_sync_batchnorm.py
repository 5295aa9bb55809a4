"""Synchronised batch normalisation: two processes get the results of one process on the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from anoframe.distributed.process_group import Group
from anoframe.distributed.sync_batchnorm import sync_batchnorm_layers
from anoframe.errors import AnoframeError

SINGLE = Group(torch.device("cpu"))
SHARDS = (5, 2)  # number of images of each process


def images(dtype=torch.float64):
    values = torch.randn(sum(SHARDS), 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return values * torch.tensor([1.0, 2.0, 0.1]).view(1, 3, 1, 1).to(dtype) + 50


def weights(dtype=torch.float64):
    """Weights of the sum of outputs that is the loss, so that every output has another gradient."""
    return torch.randn(sum(SHARDS), 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def layer(**options):
    norm = nn.BatchNorm2d(3, **options).double()
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
            norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    return norm


def run_twice(norm, x, factors):
    """Output, all gradients and all buffers, after two forward and backward passes."""
    for _ in range(2):
        norm.zero_grad()
        x = x.detach().requires_grad_()
        output = norm(x)
        (output * factors).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"output": output.detach(), "x": x.grad, "parameters": gradients, "buffers": dict(norm.named_buffers())}


def _run_distributed(group, options):
    rows = slice(0, SHARDS[0]) if group.is_main else slice(SHARDS[0], None)
    norm = layer(**options)
    with sync_batchnorm_layers(norm, group):
        return run_twice(norm, images()[rows], weights()[rows])


OPTIONS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def results(request, process_pool):
    """Results of each of two processes, and of one process on the whole batch."""
    distributed = process_pool.run(_run_distributed, request.param)
    return distributed, run_twice(layer(**request.param), images(), weights())


@pytest.mark.parametrize("name", ["output", "x"])
def test_outputs_and_gradients_of_images_are_those_of_the_whole_batch(results, name):
    distributed, whole = results
    joined = torch.cat([result[name] for result in distributed])
    torch.testing.assert_close(joined, whole[name], rtol=1e-10, atol=1e-10)


def test_gradients_of_parameters_add_up_to_those_of_the_whole_batch(results):
    distributed, whole = results
    for name, gradient in whole["parameters"].items():
        total = sum(result["parameters"][name] for result in distributed)
        torch.testing.assert_close(total, gradient, rtol=1e-10, atol=1e-10)


def test_running_statistics_are_those_of_the_whole_batch_in_every_process(results):
    distributed, whole = results
    for result in distributed:
        for name, buffer in whole["buffers"].items():
            torch.testing.assert_close(result["buffers"][name], buffer, rtol=1e-12, atol=1e-12)


def _run_with_one_empty_shard(group):
    """The second process has no image of the batch, and computes an image with other values."""
    norm = layer()
    with sync_batchnorm_layers(norm, group) as sync_state:
        sync_state.is_counted = group.is_main
        x = images() if group.is_main else images()[:1] * 3
        return run_twice(norm, x, weights() if group.is_main else torch.zeros(1, 3, 4, 4, dtype=torch.float64))


def test_process_that_is_not_counted_changes_nothing(process_pool):
    first, second = process_pool.run(_run_with_one_empty_shard)
    whole = run_twice(layer(), images(), weights())
    torch.testing.assert_close(first, whole, rtol=1e-10, atol=1e-10)
    assert all(not gradient.any() for gradient in second["parameters"].values())
    torch.testing.assert_close(second["buffers"], whole["buffers"], rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------ a single process


# The mean, 50, is rounded by 50 * 2^-24, which is 3e-5 deviations of the third channel; bfloat16 has 8 bits.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_lower_precision_gives_the_results_of_torch(dtype, rounding):
    norm, x = nn.BatchNorm2d(3), images(torch.float32).to(dtype)
    expected = copy.deepcopy(norm)(x)
    with sync_batchnorm_layers(norm, SINGLE):
        output = norm(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=0, atol=rounding)


def test_gradients_equal_finite_differences():
    norm = layer()
    with sync_batchnorm_layers(norm, SINGLE):
        assert torch.autograd.gradcheck(norm, images()[:2, :, :2, :2].requires_grad_())


def test_layers_are_restored_afterwards():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm3d(2)))
    before = [vars(module).keys() for module in network.modules()]
    with pytest.raises(ZeroDivisionError), sync_batchnorm_layers(network, SINGLE):
        raise ZeroDivisionError
    assert [type(network[0]), type(network[1][0])] == [nn.BatchNorm1d, nn.BatchNorm3d]
    assert [vars(module).keys() for module in network.modules()] == before


def test_layer_in_eval_mode_does_not_change():
    norm, x = layer().eval(), images()
    expected = norm(x)
    with sync_batchnorm_layers(norm, SINGLE):
        assert torch.equal(norm(x), expected)


def test_one_value_per_channel_raises_an_error():
    norm = layer()
    with sync_batchnorm_layers(norm, SINGLE), pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(images()[:1, :, :1, :1])


def test_subclass_of_batch_norm_raises_an_error_with_the_option():
    class NormWithActivation(nn.BatchNorm2d):
        """Stands for the layers of timm that include an activation."""

    with (
        pytest.raises(AnoframeError, match=r"NormWithActivation.*--trainer\.sync_batchnorm False"),
        sync_batchnorm_layers(NormWithActivation(3), SINGLE),
    ):
        pass
