"""Batch normalisation over several processes: to the digit what one process makes of the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch
from processes import together
from torch import nn

from anoframe.distributed.process_group import Group
from anoframe.distributed.sync_batchnorm import sync_batchnorm_layers
from anoframe.errors import AnoframeError

ALONE = Group(torch.device("cpu"))
PARTS = (5, 2)  # images of each process


def images(dtype=torch.float64):
    drawn = torch.randn(sum(PARTS), 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return drawn * torch.tensor([1.0, 2.0, 0.1]).view(1, 3, 1, 1).to(dtype) + 50


def weights(dtype=torch.float64):
    """Of a sum that makes a loss of what comes out: every value has another gradient."""
    return torch.randn(sum(PARTS), 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def layer(**options):
    made = nn.BatchNorm2d(3, **options).double()
    if made.affine:
        with torch.no_grad():
            made.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
            made.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    return made


def passed(norm, x, factors):
    """What comes out, all gradients, and all buffers, after two passes."""
    for _ in range(2):
        norm.zero_grad()
        x = x.detach().requires_grad_()
        out = norm(x)
        (out * factors).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"out": out.detach(), "x": x.grad, "parameters": gradients, "buffers": dict(norm.named_buffers())}


def _shared(group, options):
    bounds = slice(0, PARTS[0]) if group.is_main else slice(PARTS[0], None)
    norm = layer(**options)
    with sync_batchnorm_layers(norm, group):
        return passed(norm, images()[bounds], weights()[bounds])


OPTIONS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def both(request):
    """The same by two processes, and by one."""
    return together(_shared, request.param), passed(layer(**request.param), images(), weights())


@pytest.mark.parametrize("name", ["out", "x"])
def test_images_and_their_gradients_are_those_of_the_whole_batch(both, name):
    shared, whole = both
    torch.testing.assert_close(torch.cat([one[name] for one in shared]), whole[name], rtol=1e-10, atol=1e-10)


def test_gradients_of_parameters_add_up_to_those_of_the_whole_batch(both):
    shared, whole = both
    for name, gradient in whole["parameters"].items():
        torch.testing.assert_close(sum(one["parameters"][name] for one in shared), gradient, rtol=1e-10, atol=1e-10)


def test_running_statistics_are_those_of_the_whole_batch_everywhere(both):
    shared, whole = both
    for one in shared:
        for name, buffer in whole["buffers"].items():
            torch.testing.assert_close(one["buffers"][name], buffer, rtol=1e-12, atol=1e-12)


def _padded(group):
    """The second process has none of the batch, and computes along on an image of another value."""
    norm = layer()
    with sync_batchnorm_layers(norm, group) as joint:
        joint.counted = group.is_main
        x = images() if group.is_main else images()[:1] * 3
        return passed(norm, x, weights() if group.is_main else torch.zeros(1, 3, 4, 4, dtype=torch.float64))


def test_a_process_that_is_not_counted_changes_nothing():
    first, second = together(_padded)
    whole = passed(layer(), images(), weights())
    torch.testing.assert_close(first, whole, rtol=1e-10, atol=1e-10)
    assert all(not gradient.any() for gradient in second["parameters"].values())
    torch.testing.assert_close(second["buffers"], whole["buffers"], rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------ alone


# The mean, 50, is rounded by 50 * 2^-24, which is 3e-5 deviations of the third channel; bfloat16 has 8 bits.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_narrower_numbers_come_out_as_torch_has_them(dtype, rounding):
    norm, x = nn.BatchNorm2d(3), images(torch.float32).to(dtype)
    expected = copy.deepcopy(norm)(x)
    with sync_batchnorm_layers(norm, ALONE):
        found = norm(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=rounding)


def test_gradients_are_those_of_finite_differences():
    norm = layer()
    with sync_batchnorm_layers(norm, ALONE):
        assert torch.autograd.gradcheck(norm, images()[:2, :, :2, :2].requires_grad_())


def test_layers_are_afterwards_what_they_were():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm3d(2)))
    before = [vars(module).keys() for module in network.modules()]
    with pytest.raises(ZeroDivisionError), sync_batchnorm_layers(network, ALONE):
        raise ZeroDivisionError
    assert [type(network[0]), type(network[1][0])] == [nn.BatchNorm1d, nn.BatchNorm3d]
    assert [vars(module).keys() for module in network.modules()] == before


def test_a_frozen_layer_stays_frozen():
    norm, x = layer().eval(), images()
    expected = norm(x)
    with sync_batchnorm_layers(norm, ALONE):
        assert torch.equal(norm(x), expected)


def test_one_value_a_channel_has_no_variance():
    norm = layer()
    with sync_batchnorm_layers(norm, ALONE), pytest.raises(ValueError, match="more than one value"):
        norm(images()[:1, :, :1, :1])


def test_a_layer_that_does_more_is_refused_with_the_way_out():
    class Acting(nn.BatchNorm2d):
        """Stands for timm's, which have an activation."""

    with (
        pytest.raises(AnoframeError, match=r"Acting.*--trainer\.sync_batchnorm False"),
        sync_batchnorm_layers(Acting(3), ALONE),
    ):
        pass
