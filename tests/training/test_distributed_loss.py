"""A gradient that processes share is that of the whole batch, however uneven their parts."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from processes import Ended, together
from torch import nn

from anoframe.distributed import process_group as distributed
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Observation, Phase
from anoframe.training.distributed_loss import check_several, part_of, settle, shared_loss

CPU = torch.device("cpu")
ALONE = Group(CPU)
IMAGES = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Rows(NamedTuple):
    """As much of a training batch as the loss here needs."""

    features: torch.Tensor


class Net(Detector):
    """A layer, a normalisation, a layer; its loss is a mean over images, of which none is like another."""

    def __init__(self):
        super().__init__(nn.Identity())
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2)).double()

    def loss(self, batch):
        found = self.net(batch.features)
        return {"square": found.square().flatten(1).mean(1).mean(), "first": found[:, 0].abs().mean()}

    def training_stages(self):
        return [Phase("net", dict(self.net.named_parameters()), self.loss)]

    def detect(self, features, size):
        raise NotImplementedError


def gradients(group, steps, sync=True):
    """After each step, which is a list of parts of a batch, one after another."""
    detector = Net().train()
    (phase,) = detector.training_stages()
    found = []
    with shared_loss(detector, phase, phase.loss, group, sync) as shared:
        for step in steps:
            detector.zero_grad()
            images = sum(map(len, step))
            for number, rows in enumerate(step):
                part = shared.part(rows)
                with shared.taking(part, last=number == len(step) - 1):
                    total = sum(shared(Rows(IMAGES[list(part.rows)])).values())
                    (shared.scaled(total, part) * (len(rows) / images)).backward()
            found.append({name: parameter.grad.clone() for name, parameter in phase.parameters.items()})
    settle(detector, group)
    return found, detector.learned_state()


STEPS = {
    "even": [[range(8)]],
    "uneven": [[range(9)], [range(3)]],
    "a process has none": [[range(9)], [range(4, 5)], [range(2, 7)]],
    "in parts": [[range(5), range(5, 8)], [range(3), range(3, 4)]],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_gradient_is_that_of_the_whole_batch_in_every_process(steps):
    expected, state = gradients(ALONE, steps)
    for found, shared_state in together(gradients, steps):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(shared_state, state, rtol=0, atol=1e-10)


def test_without_synchronised_statistics_the_gradient_is_another():
    """So the test above would notice statistics that are not synchronised."""
    ((expected,), _), (found, _) = gradients(ALONE, [[range(9)]]), together(gradients, [[range(9)]], False)[1]
    assert (found[0]["0.weight"] - expected["0.weight"]).abs().max() > 1e-6


def test_statistics_that_are_not_synchronised_are_those_of_rank_0_in_the_end():
    (_, first), (_, second) = together(gradients, [[range(9)]], False)
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(rows=some.lists(some.integers(0, 99), min_size=1, max_size=20, unique=True), size=some.integers(1, 9))
def test_a_batch_is_parted_without_loss(rows, size):
    parts = [part_of(rows, Group(CPU, rank, size)) for rank in range(size)]
    counted = [part for part in parts if part.weight]
    assert [row for part in counted for row in part.rows] == rows
    assert [part.weight * len(rows) for part in counted] == pytest.approx([len(part.rows) for part in counted])
    assert all(len(part.rows) == 1 for part in parts if not part.weight)
    assert max(len(part.rows) for part in parts) - min(len(part.rows) for part in counted) <= 1


def _unreached(group):
    detector = Net().train()
    parameters = {**dict(detector.net.named_parameters()), "unused": nn.Parameter(torch.zeros(1))}
    phase = Phase("net", parameters, detector.loss)
    with shared_loss(detector, phase, phase.loss, group, True) as shared:
        for _ in range(2):
            try:
                sum(shared(Rows(IMAGES)).values()).backward()
            except AnoframeError as error:
                return str(error)
    return "nothing is wrong"


def test_a_parameter_that_the_loss_does_not_reach_is_told():
    for text in together(_unreached):
        assert text.startswith("phase net: its loss does not reach all of its parameters")


def _fails_within(group):
    detector = Net().train()
    (phase,) = detector.training_stages()
    with shared_loss(detector, phase, phase.loss, group, True) as shared:
        losses = shared(Rows(IMAGES))
        if group.rank == 1:
            distributed.quit_at_once(2)
        try:
            sum(losses.values()).backward()
        except RuntimeError as error:
            distributed.quit_at_once(7 if distributed.is_lost_peer(error) else 8)


def test_a_process_that_goes_in_the_middle_of_a_step_is_noticed():
    with pytest.raises(Ended) as ended:
        together(_fails_within)
    assert ended.value.args[0] == [7, 2]


class Observer(Net):
    """Has nothing to train."""

    def training_stages(self):
        return [Observation("look", len, lambda features, samples: None, lambda: None)]


def test_a_method_without_phases_is_refused():
    check_several(Net(), "separate", "--device 0 1")
    with pytest.raises(AnoframeError, match="--device 0 1: this method runs on one device"):
        check_several(Observer(), "separate", "--device 0 1")


def test_a_stream_is_refused_before_a_process_is_started():
    with pytest.raises(AnoframeError, match="--device 0 1: a stream of tasks is learned by one process"):
        check_several(Net(), "continual", "--device 0 1")
