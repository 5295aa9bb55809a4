"""Gradients of several processes equal those of the whole batch, however its images are divided."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import ProcessExited, run_in_processes
from torch import nn

from anoframe.distributed import process_group
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Observation, Phase
from anoframe.training.distributed_loss import check_multi_device, distributed_loss, shard_batch, sync_learned_state

CPU = torch.device("cpu")
SINGLE = Group(CPU)
IMAGES = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Batch(NamedTuple):
    """The part of a training batch that the loss of these tests reads."""

    features: torch.Tensor


class Network(Detector):
    """Convolution, batch norm, convolution. The loss is a mean over images, which all differ."""

    def __init__(self):
        super().__init__(nn.Identity())
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2)).double()

    def loss(self, batch):
        output = self.network(batch.features)
        return {"square": output.square().flatten(1).mean(1).mean(), "first": output[:, 0].abs().mean()}

    def training_stages(self):
        return [Phase("network", dict(self.network.named_parameters()), self.loss)]

    def compute_prediction(self, features, size):
        raise NotImplementedError


def compute_gradients(group, steps, sync=True):
    """Gradients after each step, and the learned state in the end. A step is a list of parts of a batch."""
    detector = Network().train()
    (phase,) = detector.training_stages()
    gradients = []
    with distributed_loss(detector, phase, phase.loss, group, sync) as loss:
        for step in steps:
            detector.zero_grad()
            images = sum(map(len, step))
            for number, rows in enumerate(step):
                shard = loss.shard(rows)
                with loss.accumulate(shard, is_last=number == len(step) - 1):
                    total = sum(loss(Batch(IMAGES[list(shard.rows)])).values())
                    (loss.scale(total, shard) * (len(rows) / images)).backward()
            gradients.append({name: parameter.grad.clone() for name, parameter in phase.parameters.items()})
    sync_learned_state(detector, group)
    return gradients, detector.learned_state()


STEPS = {
    "even": [[range(8)]],
    "uneven": [[range(9)], [range(3)]],
    "a process has no image": [[range(9)], [range(4, 5)], [range(2, 7)]],
    "in parts": [[range(5), range(5, 8)], [range(3), range(3, 4)]],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_gradient_is_that_of_the_whole_batch_in_every_process(process_pool, steps):
    expected, state = compute_gradients(SINGLE, steps)
    for gradients, own_state in process_pool.run(compute_gradients, steps):
        torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(own_state, state, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def without_sync(process_pool):
    """Gradients and learned state of both processes, without synchronised batch norm."""
    return process_pool.run(compute_gradients, [[range(9)]], False)


def test_gradient_differs_without_synchronised_batch_norm(without_sync):
    """So the test above would fail if statistics were not synchronised."""
    ((expected,), _), (gradients, _) = compute_gradients(SINGLE, [[range(9)]]), without_sync[1]
    assert (gradients[0]["0.weight"] - expected["0.weight"]).abs().max() > 1e-6


def test_unsynchronised_statistics_are_those_of_rank_0_in_the_end(without_sync):
    (_, first), (_, second) = without_sync
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(rows=st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True), size=st.integers(1, 9))
def test_shards_contain_every_image_once(rows, size):
    shards = [shard_batch(rows, Group(CPU, rank, size)) for rank in range(size)]
    counted = [shard for shard in shards if shard.weight]
    assert [row for shard in counted for row in shard.rows] == rows
    assert [shard.weight * len(rows) for shard in counted] == pytest.approx([len(shard.rows) for shard in counted])
    assert all(len(shard.rows) == 1 for shard in shards if not shard.weight)
    assert max(len(shard.rows) for shard in shards) - min(len(shard.rows) for shard in counted) <= 1


def _train_with_unused_parameter(group):
    detector = Network().train()
    parameters = {**dict(detector.network.named_parameters()), "unused": nn.Parameter(torch.zeros(1))}
    phase = Phase("network", parameters, detector.loss)
    with distributed_loss(detector, phase, phase.loss, group, True) as loss:
        for _ in range(2):
            try:
                sum(loss(Batch(IMAGES)).values()).backward()
            except AnoframeError as error:
                return str(error)
    return "no error"


def test_unused_parameter_raises_an_error(process_pool):
    for text in process_pool.run(_train_with_unused_parameter):
        assert text.startswith("phase network: its loss does not use all of its parameters")


def _exit_within_a_step(group):
    detector = Network().train()
    (phase,) = detector.training_stages()
    with distributed_loss(detector, phase, phase.loss, group, True) as loss:
        losses = loss(Batch(IMAGES))
        if group.rank == 1:
            process_group.exit_immediately(2)
        try:
            sum(losses.values()).backward()
        except RuntimeError as error:
            process_group.exit_immediately(7 if process_group.is_lost_peer(error) else 8)


def test_process_that_exits_within_a_step_is_noticed():
    with pytest.raises(ProcessExited) as error:
        run_in_processes(_exit_within_a_step)
    assert error.value.args[0] == [7, 2]


class Observer(Network):
    """Has no phase."""

    def training_stages(self):
        return [Observation("observe", len, lambda features, samples: None, lambda: None)]


def test_method_without_phases_raises_an_error():
    check_multi_device(Network(), "separate", "--device 0 1")
    with pytest.raises(AnoframeError, match="--device 0 1: this method trains on one device"):
        check_multi_device(Observer(), "separate", "--device 0 1")


def test_stream_raises_an_error():
    with pytest.raises(AnoframeError, match="--device 0 1: a stream of tasks is trained by one process"):
        check_multi_device(Network(), "continual", "--device 0 1")
