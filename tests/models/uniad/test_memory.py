import math

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.uniad.memory import MemoryModule, mean_entropy


@pytest.fixture
def tokens():
    return torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(1))


def make_memory(**arguments):
    """A memory whose slots are spread as widely as the tokens, so that weights differ."""
    torch.manual_seed(0)
    memory = MemoryModule(16, **{"slots": 12, **arguments})
    with torch.no_grad():
        memory.slots.mul_(20)
    return memory


def test_the_number_of_parameters_matches_the_definition():
    assert sum(parameter.numel() for parameter in MemoryModule(256, 256).parameters()) == 262_144


def test_the_initialisation_matches_the_definition():
    torch.manual_seed(0)
    memory = MemoryModule(64, slots=64)
    assert memory.slots.std().item() == pytest.approx(0.1, rel=0.05)
    for layer in (memory.query, memory.key, memory.value):
        bound = math.sqrt(6 / (64 + 64))  # Xavier-uniform
        assert 0.99 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize("topk", [None, 3, 12])
@pytest.mark.parametrize("shrink", [0.0, 0.05])
def test_the_output_matches_the_definition(tokens, topk, shrink):
    memory = make_memory(topk=topk, shrink=shrink)
    mixtures, weights = memory(tokens)
    keys, values = memory.slots @ memory.key.weight.T, memory.slots @ memory.value.weight.T
    for image in range(2):
        for position in range(30):
            logits = keys @ (memory.query.weight @ tokens[image, position]) / math.sqrt(16)
            for slot in logits.argsort(descending=True)[topk or 12 :]:
                logits[slot] = -math.inf
            w = logits.exp() / logits.exp().sum()
            w = torch.where(w > shrink, w, 0)
            w = w / w.sum()
            torch.testing.assert_close(weights[image, position], w, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(mixtures[image, position], w @ values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_weights_sum_to_one(tokens, options):
    _, weights = make_memory(**options)(tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 30))
    assert (weights >= 0).all()


def test_each_coordinate_lies_between_those_of_the_slot_values(tokens):
    memory = make_memory()
    mixtures, _ = memory(tokens)
    values = memory.value(memory.slots)
    assert (mixtures >= values.amin(0) - 1e-5).all()
    assert (mixtures <= values.amax(0) + 1e-5).all()


def test_with_one_slot_every_token_reads_its_value(tokens):
    memory = make_memory(slots=1)
    mixtures, weights = memory(tokens)
    assert torch.equal(weights, torch.ones(2, 30, 1))
    torch.testing.assert_close(mixtures, memory.value(memory.slots).expand(2, 30, 16))


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_the_order_of_slots_does_not_matter(tokens, options):
    memory = make_memory(**options)
    before, _ = memory(tokens)
    with torch.no_grad():
        memory.slots.copy_(memory.slots[torch.randperm(12)])
    torch.testing.assert_close(memory(tokens)[0], before)


def test_topk_of_all_slots_equals_no_topk(tokens):
    assert torch.equal(make_memory(topk=12)(tokens)[0], make_memory()(tokens)[0])


def test_topk_slots_are_mixed(tokens):
    assert ((make_memory(topk=3)(tokens)[1] > 0).sum(-1) == 3).all()


def test_a_token_with_only_small_weights_becomes_zero(tokens):
    memory = MemoryModule(16, slots=12, shrink=0.5)  # slots near zero: all weights are about 1/12
    assert not memory(tokens)[0].any()


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_all_parameters_get_gradients(tokens, options):
    memory = make_memory(**options)
    memory(tokens)[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in memory.parameters())


def test_the_entropy_matches_its_definition():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    assert mean_entropy(weights).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"slots": 0}, r"model\.memory\.slots must be at least 1, got 0"),
    ({"topk": 13}, r"model\.memory\.topk must be between 1 and model\.memory\.slots = 12, got 13"),
    ({"topk": 0}, r"model\.memory\.topk must be between 1"),
    ({"shrink": 1.0}, r"model\.memory\.shrink must be at least 0 and below 1, got 1\.0"),
])  # fmt: skip
def test_an_invalid_option_raises_an_error_with_its_key(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        make_memory(**arguments)
