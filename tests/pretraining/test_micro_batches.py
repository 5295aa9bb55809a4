"""Micro-batches with all negatives have the gradient of the whole batch; gradient accumulation has another."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from anoframe.pretraining.micro_batches import forward_views, keep_statistics
from anoframe.pretraining.nt_xent import nt_xent

N = 12


def make_network(norm, seed=0):
    torch.manual_seed(seed)
    layer = {"batch": nn.BatchNorm2d(6), "group": nn.GroupNorm(2, 6)}[norm]
    return nn.Sequential(nn.Conv2d(3, 6, 3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))


def draw_views():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(N, 3, 8, 8, generator=generator) for _ in range(2)]


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def largest_difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("parts", [2, 3, 5, N])
def test_gradient_is_that_of_the_whole_batch(parts):
    """S4, second half; without BatchNorm there is no difference but rounding."""
    network, views = make_network("group"), draw_views()
    whole = gradients(network, nt_xent(*forward_views(network, views), 0.1))
    in_parts = gradients(network, nt_xent(*forward_views(network, views, parts), 0.1))
    assert largest_difference(whole, in_parts) < 1e-5


def test_accumulation_is_the_mean_of_independent_batches():
    """S4, first half."""
    network, views = make_network("group"), draw_views()
    halves = [[view[: N // 2] for view in views], [view[N // 2 :] for view in views]]
    network.zero_grad()
    for half in halves:
        (nt_xent(*forward_views(network, half), 0.1) / 2).backward()
    accumulated = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    separate = [gradients(network, nt_xent(*forward_views(network, half), 0.1)) for half in halves]
    mean = {name: (separate[0][name] + separate[1][name]) / 2 for name in accumulated}
    whole = gradients(network, nt_xent(*forward_views(network, views), 0.1))
    assert largest_difference(accumulated, mean) < 1e-5
    assert largest_difference(accumulated, whole) > 1e-3


def test_batch_norm_uses_the_statistics_of_each_micro_batch():
    """The same gradient and running statistics as without the second computation."""
    network, views, parts = make_network("batch").train(), draw_views(), 3
    other = copy.deepcopy(network)
    chunks = zip(*(view.chunk(parts) for view in views), strict=True)
    outputs = [other(torch.cat(chunk)).chunk(2) for chunk in chunks]
    first, second = (torch.cat(view) for view in zip(*outputs, strict=True))
    expected = gradients(other, nt_xent(first, second, 0.1))
    actual = gradients(network, nt_xent(*forward_views(network, views, parts), 0.1))
    assert largest_difference(expected, actual) < 1e-6
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, dict(other.named_buffers())[name]), name
    assert int(network[1].num_batches_tracked) == parts


def test_statistics_stay_and_outputs_are_those_of_train_mode():
    network, (images, _) = make_network("batch").train(), draw_views()
    expected = copy.deepcopy(network)(images)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with keep_statistics(network):
        assert torch.equal(network(images), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    network(images)
    assert not torch.equal(network[1].running_mean, before["1.running_mean"])  # the context has ended
    assert int(network[1].num_batches_tracked) == 1


def test_dropout_is_the_same_in_both_computations():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Dropout(0.5), nn.Linear(32, 4)).train()
    views = draw_views()
    torch.manual_seed(7)
    first, second = forward_views(network, views, 2)
    output = gradients(network, nt_xent(first, second, 0.1))
    torch.manual_seed(7)
    outputs = [network(torch.cat(chunk)).chunk(2) for chunk in zip(*(view.chunk(2) for view in views), strict=True)]
    once = nt_xent(*(torch.cat(view) for view in zip(*outputs, strict=True)), 0.1)
    assert largest_difference(gradients(network, once), output) < 1e-6


def test_less_memory_is_held_for_the_backward_pass():
    saved = {1: 0, 4: 0}
    network, views = make_network("group"), draw_views()
    for parts in saved:

        def pack(tensor, parts=parts):
            saved[parts] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward_views(network, views, parts)
    assert saved[4] < saved[1] / 4
