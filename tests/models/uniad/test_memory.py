import math

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.uniad.memory import MemoryModule, entropy


@pytest.fixture
def tokens():
    return torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(1))


def memory_of(**arguments):
    """With slots as spread out as tokens, so that weights differ."""
    torch.manual_seed(0)
    memory = MemoryModule(16, **{"slots": 12, **arguments})
    with torch.no_grad():
        memory.slots.mul_(20)
    return memory


def test_it_has_as_many_parameters_as_its_definition():
    assert sum(parameter.numel() for parameter in MemoryModule(256, 256).parameters()) == 262_144


def test_it_starts_as_its_definition_says():
    torch.manual_seed(0)
    memory = MemoryModule(64, slots=64)
    assert memory.slots.std().item() == pytest.approx(0.1, rel=0.05)
    for layer in (memory.query, memory.key, memory.value):
        bound = math.sqrt(6 / (64 + 64))  # Xavier-uniform
        assert 0.99 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize("topk", [None, 3, 12])
@pytest.mark.parametrize("shrink", [0.0, 0.05])
def test_it_is_what_its_definition_says(tokens, topk, shrink):
    memory = memory_of(topk=topk, shrink=shrink)
    read, weights = memory(tokens)
    keys, values = memory.slots @ memory.key.weight.T, memory.slots @ memory.value.weight.T
    for image in range(2):
        for place in range(30):
            logits = keys @ (memory.query.weight @ tokens[image, place]) / math.sqrt(16)
            for slot in logits.argsort(descending=True)[topk or 12 :]:
                logits[slot] = -math.inf
            w = logits.exp() / logits.exp().sum()
            w = torch.where(w > shrink, w, 0)
            w = w / w.sum()
            torch.testing.assert_close(weights[image, place], w, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(read[image, place], w @ values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_weights_sum_to_one(tokens, options):
    _, weights = memory_of(**options)(tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 30))
    assert (weights >= 0).all()


def test_what_is_read_lies_between_the_values(tokens):
    memory = memory_of()
    read, _ = memory(tokens)
    values = memory.value(memory.slots)
    assert (read >= values.amin(0) - 1e-5).all()
    assert (read <= values.amax(0) + 1e-5).all()


def test_one_slot_is_read_by_every_token(tokens):
    memory = memory_of(slots=1)
    read, weights = memory(tokens)
    assert torch.equal(weights, torch.ones(2, 30, 1))
    torch.testing.assert_close(read, memory.value(memory.slots).expand(2, 30, 16))


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_the_order_of_slots_does_not_matter(tokens, options):
    memory = memory_of(**options)
    before, _ = memory(tokens)
    with torch.no_grad():
        memory.slots.copy_(memory.slots[torch.randperm(12)])
    torch.testing.assert_close(memory(tokens)[0], before)


def test_all_slots_are_as_good_as_no_limit(tokens):
    assert torch.equal(memory_of(topk=12)(tokens)[0], memory_of()(tokens)[0])


def test_as_many_slots_are_mixed_as_asked_for(tokens):
    assert ((memory_of(topk=3)(tokens)[1] > 0).sum(-1) == 3).all()


def test_a_token_whose_weights_are_all_too_small_reads_nothing(tokens):
    memory = MemoryModule(16, slots=12, shrink=0.5)  # slots near zero: all weights are about a twelfth
    assert not memory(tokens)[0].any()


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_every_part_of_it_learns(tokens, options):
    memory = memory_of(**options)
    memory(tokens)[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in memory.parameters())


def test_entropy_is_that_of_its_definition():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    assert entropy(weights).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"slots": 0}, r"model\.memory\.slots is at least 1, got 0"),
    ({"topk": 13}, r"model\.memory\.topk lies between 1 and the 12 slots, got 13"),
    ({"topk": 0}, r"model\.memory\.topk lies between 1"),
    ({"shrink": 1.0}, r"model\.memory\.shrink lies between 0 and 1, got 1\.0"),
])  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_its_key(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        memory_of(**arguments)
