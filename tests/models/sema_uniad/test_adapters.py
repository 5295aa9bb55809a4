"""Slots: what they compute, against a loop over images and slots, and what they remember."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anoframe.models.sema_uniad.adapters import (
    Descriptor,
    ExpandingAdapter,
    FunctionalAdapter,
    LossRecord,
    Slot,
    SlotSettings,
    is_strange,
    watching,
)

WIDTH, LENGTH = 12, 7


def weights_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def disturb(module, seed=0):
    """Numbers in all parameters, the zeros of birth among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)


@pytest.fixture
def tokens(rng):
    return torch.randn(5, LENGTH, WIDTH, generator=rng)


@pytest.fixture
def site_of(rng):
    """A site with so many slots, none of them at its birth, and with records that make z finite."""

    def make(slots=3, routing="learned", **settings):
        site = ExpandingAdapter(SlotSettings(WIDTH, 4, routing=routing, descriptor_dim=3, **settings), sequential=False)
        site.resize(slots)
        disturb(site)
        for slot in site.slots:
            slot.descriptor.record.push(torch.rand(20, generator=rng))
        return site.eval()

    return make


# ------------------------------------------------------------------------------------------------ parts of a slot


def test_a_slot_of_width_256_has_the_parameters_of_the_sheet():
    slot = Slot(SlotSettings(256))
    assert (weights_of(slot.adapter), weights_of(slot.descriptor), weights_of(slot.router)) == (33_088, 33_088, 257)


def test_routing_by_descriptors_needs_no_column():
    assert weights_of(Slot(SlotSettings(256, routing="rd"))) == 2 * 33_088


def test_an_adapter_is_zero_at_birth_and_can_learn(tokens):
    adapter = FunctionalAdapter(WIDTH, 4)
    out = adapter(tokens)
    out.sum().backward()
    assert not out.any()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_an_adapter_is_that_of_the_definition(tokens):
    adapter = FunctionalAdapter(WIDTH, 4, scalar=0.5)
    disturb(adapter)
    inner = (tokens @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    expected = 0.5 * (inner @ adapter.up.weight.T + adapter.up.bias)
    torch.testing.assert_close(adapter(tokens), expected)


def test_dropout_of_an_adapter_works_in_train_mode_alone(tokens):
    adapter = FunctionalAdapter(WIDTH, 4, dropout=0.5)
    disturb(adapter)
    plain = adapter.eval()(tokens)
    assert torch.equal(plain, adapter(tokens))
    assert not torch.equal(plain, adapter.train()(tokens))


@torch.no_grad()
def test_a_descriptors_loss_is_the_mean_squared_error_of_the_token_mean(tokens):
    descriptor = Descriptor(WIDTH, 3, relu=False, record=LossRecord())
    disturb(descriptor)
    for image, loss in zip(tokens, descriptor.loss(tokens.mean(1)), strict=True):
        mean = image.sum(0) / LENGTH
        code = descriptor.encode.weight @ mean + descriptor.encode.bias
        error = descriptor.decode.weight @ code + descriptor.decode.bias - mean
        assert float(loss) == pytest.approx(float(error.square().sum()) / WIDTH, rel=1e-5)


def test_a_descriptors_loss_knows_no_order_of_tokens(site_of, tokens, rng):
    site = site_of(1)
    with watching([site]) as seen:
        site(tokens)
        plain = site.newest.descriptor.loss(seen[0])
        site(tokens[:, torch.randperm(LENGTH, generator=rng)])
    torch.testing.assert_close(site.newest.descriptor.loss(seen[0]), plain)


def test_a_descriptor_is_linear_unless_it_is_given_a_relu(tokens):
    one, other = tokens.mean(1).split([2, 3])
    for relu, linear in ((False, True), (True, False)):
        descriptor = Descriptor(WIDTH, 3, relu, LossRecord())
        disturb(descriptor)
        rebuilt = [descriptor.decode(descriptor.between(descriptor.encode(x))) for x in (one[:2], other[:2])]
        middle = descriptor.decode(descriptor.between(descriptor.encode((one[:2] + other[:2]) / 2)))
        assert torch.allclose(middle, (rebuilt[0] + rebuilt[1]) / 2, atol=1e-5) is linear


def test_a_descriptor_gives_its_input_no_gradient(tokens):
    means = tokens.mean(1).requires_grad_()
    Descriptor(WIDTH, 3, False, LossRecord()).loss(means).sum().backward()
    assert means.grad is None


# ------------------------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize("count", [3, 10, 500, 731])
def test_z_is_that_of_the_newest_500_with_unbiased_deviation(count, rng):
    losses, record = torch.rand(count, generator=rng), LossRecord(500)
    for part in losses.split(64):
        record.push(part)
    newest = [float(loss) for loss in losses[-500:]]
    mean = sum(newest) / len(newest)
    deviation = math.sqrt(sum((loss - mean) ** 2 for loss in newest) / (len(newest) - 1))
    found = record.z(torch.tensor([0.1, 3.0]))
    assert found.tolist() == pytest.approx([abs(0.1 - mean) / deviation, (3 - mean) / deviation], rel=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_records_say_nothing(count):
    record = LossRecord()
    record.push(torch.arange(count).float())
    assert record.z(torch.tensor([5.0, -5.0])).tolist() == [0, 0]


def test_equal_losses_make_no_nan():
    record = LossRecord()
    record.push(torch.full((50,), 0.25))
    assert record.z(torch.tensor([0.25, 0.5])).isfinite().all()
    assert record.z(torch.tensor([0.25])) == 0
    assert record.z(torch.tensor([0.5])) > 1000


def test_a_frozen_record_takes_in_nothing_until_it_is_cleared():
    record = LossRecord()
    record.push(torch.tensor([1.0, 2.0]))
    record.freeze()
    record.push(torch.tensor([9.0]))
    assert record.losses.tolist() == [1, 2]
    record.clear()
    record.push(torch.tensor([3.0]))
    assert record.losses.tolist() == [3]


def test_a_loss_below_the_mean_is_strange_unless_z_is_one_sided():
    losses = torch.tensor([1.0, 2.0, 3.0])
    found = []
    for one_sided in (False, True):
        record = LossRecord(one_sided=one_sided)
        record.push(losses)
        found.append(record.z(torch.tensor([0.0, 4.0])).tolist())
    assert found == [[2, 2], [-2, 2]]


@torch.no_grad()
def test_one_sided_a_slot_draws_no_image_by_rebuilding_it_better_than_its_own(site_of, tokens):
    site, means = site_of(2, routing="rd", one_sided=True), tokens.mean(1)
    low, high = (slot.descriptor for slot in site.slots)
    for descriptor, usual in ((low, 50.0), (high, -1.5)):  # below the mean, and above it, by few deviations
        descriptor.record.clear()
        descriptor.record.push(descriptor.loss(means).mean() + usual + torch.tensor([-9.0, 0.0, 9.0]))
    z = site.z(means)
    assert z[0].max() < -1
    shares = z.clamp(min=0).neg().exp()
    torch.testing.assert_close(site.weights(means), (shares / shares.sum(0)).T)
    assert not torch.allclose(site.weights(means), torch.softmax(-z, 0).T, atol=0.1)


def test_records_are_part_of_the_state(site_of, tokens):
    """In the prototype they were not: D7."""
    site, means = site_of(3), tokens.mean(1)
    other = site_of(3)
    for slot in other.slots:
        slot.descriptor.record.clear()
    state = site.state_dict()
    for name, buffer in dict(other.named_buffers()).items():
        owner, _, attribute = name.rpartition(".")
        assert name in state
        setattr(other.get_submodule(owner), attribute, state[name].to(buffer.dtype))
    assert torch.equal(other.z(means), site.z(means))
    assert site.z(means).gt(0).all()


# ------------------------------------------------------------------------------------------------ mixing


def by_hand(site, tokens, weights):
    """A loop over images and slots."""
    out = torch.zeros_like(tokens)
    for image in range(len(tokens)):
        for number, slot in enumerate(site.slots):
            out[image] += weights[image][number] * slot.adapter(tokens[image])
    return out


def learned_weights(site, tokens):
    rows = []
    for image in tokens:
        logits = [slot.router.weight[0] @ image.mean(0) + slot.router.bias[0] for slot in site.slots]
        largest = max(logits)
        shares = [torch.exp(logit - largest) for logit in logits]
        rows.append([share / sum(shares) for share in shares])
    return rows


@torch.no_grad()
@pytest.mark.parametrize("slots", [2, 3, 5])
def test_mixing_is_a_loop_over_images_and_slots(site_of, tokens, slots):
    site = site_of(slots)
    torch.testing.assert_close(site(tokens), by_hand(site, tokens, learned_weights(site, tokens)))


@torch.no_grad()
def test_routing_by_descriptors_weighs_by_how_little_strange_an_image_is(site_of, tokens):
    site = site_of(3, routing="rd")
    rows = []
    for image in tokens:
        shares = [torch.exp(-slot.descriptor.z(image.mean(0)[None]))[0] for slot in site.slots]
        rows.append([share / sum(shares) for share in shares])
    torch.testing.assert_close(site(tokens), by_hand(site, tokens, rows))


@torch.no_grad()
@pytest.mark.parametrize("routing", ["learned", "rd"])
def test_weights_of_an_image_sum_to_one(site_of, tokens, routing):
    weights = site_of(4, routing=routing).weights(tokens.mean(1))
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    assert weights.shape == (5, 4)


@torch.no_grad()
@pytest.mark.parametrize("routing", ["learned", "rd"])
def test_one_slot_has_weight_one_exactly(site_of, tokens, routing):
    site = site_of(1, routing=routing)
    assert torch.equal(site.weights(tokens.mean(1)), torch.ones(5, 1))
    assert torch.equal(site(tokens), site.newest.adapter(tokens))


@torch.no_grad()
@pytest.mark.parametrize("routing", ["learned", "rd"])
def test_an_image_is_mixed_by_itself(site_of, tokens, routing):
    """The prototype guessed which axis the batch was, took means over images, and so mixed them: D3."""
    site = site_of(3, routing=routing)
    changed = tokens.clone()
    changed[1:] = 100 * changed[1:] - 7
    torch.testing.assert_close(site(changed)[0], site(tokens)[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(site(tokens[:1])[0], site(tokens)[0], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_means_are_over_tokens_where_images_are_as_many_as_tokens(site_of, rng):
    """Sizes that could be mistaken for one another, as the prototype compared them: D3."""
    square = torch.randn(LENGTH, LENGTH, WIDTH, generator=rng)
    site = site_of(2)
    with watching([site]) as seen:
        site(square)
    torch.testing.assert_close(seen[0], torch.stack([image.mean(0) for image in square]))


@torch.no_grad()
@pytest.mark.parametrize("routing", ["learned", "rd"])
def test_the_order_of_slots_means_nothing(site_of, tokens, routing):
    site = site_of(3, routing=routing)
    before = site(tokens)
    site.slots = nn.ModuleList([site.slots[number] for number in (2, 0, 1)])
    torch.testing.assert_close(site(tokens), before)


# ------------------------------------------------------------------------------------------------ growing


@torch.no_grad()
def test_a_new_slot_takes_its_share_by_the_extended_logits_and_adds_nothing_yet(site_of, tokens):
    site = site_of(2)
    old = [slot.adapter(tokens) for slot in site.slots]
    site.resize(3)
    logits = torch.cat([slot.router(tokens.mean(1)) for slot in site.slots], 1)
    share = torch.softmax(logits, 1)[:, :, None, None]
    torch.testing.assert_close(site(tokens), share[:, 0] * old[0] + share[:, 1] * old[1])
    assert not site.newest.adapter(tokens).any()


@torch.no_grad()
def test_columns_apart_give_what_one_merged_router_gives(site_of, tokens):
    site, merged = site_of(3), nn.Linear(WIDTH, 3)
    for row, slot in enumerate(site.slots):
        merged.weight[row], merged.bias[row] = slot.router.weight[0], slot.router.bias[0]
    torch.testing.assert_close(site.weights(tokens.mean(1)), F.softmax(merged(tokens.mean(1)), 1))


@torch.no_grad()
def test_a_low_bias_makes_a_birth_nearly_neutral(site_of, tokens):
    change = []
    for bias in (None, -12.0):
        site = site_of(1, new_router_bias=bias)
        before = site(tokens)
        torch.manual_seed(0)
        site.resize(2)
        change.append(float((site(tokens) - before).norm() / before.norm()))
    assert change[1] < 1e-3 < 0.1 < change[0]


def test_the_bias_of_the_first_column_is_not_set(site_of):
    settings = SlotSettings(WIDTH, new_router_bias=-4.0)
    site = ExpandingAdapter(settings, sequential=False)
    site.resize(3)
    assert [slot.router.bias.item() == -4 for slot in site.slots] == [False, True, True]


def test_a_bias_of_zero_is_no_bias_left_to_chance(site_of):
    site = site_of(1, new_router_bias=0.0)
    site.resize(2)
    assert site.newest.router.bias.item() == 0


@pytest.mark.parametrize("mode", [False, True])
def test_a_slot_comes_in_the_mode_of_its_site(site_of, mode):
    site = site_of(1).train(mode)
    site.resize(2)
    assert {module.training for module in site.modules()} == {mode}


def test_old_slots_stay_as_they_are_when_one_comes(site_of):
    site = site_of(2)
    before = {name: value.clone() for name, value in site.state_dict().items()}
    site.resize(3)
    assert all(torch.equal(site.state_dict()[name], value) for name, value in before.items())


def test_a_site_can_shrink_to_what_an_older_state_has(site_of):
    site = site_of(3)
    first = site.slots[0]
    site.resize(1)
    assert list(site.slots) == [first]


def test_watching_ends_with_its_context(site_of, tokens):
    site = site_of(1)
    with watching([site]) as seen:
        site(tokens)
    site(tokens[:2])
    assert seen[0].shape == (5, WIDTH)


# ------------------------------------------------------------------------------------------------ the rule


@pytest.mark.parametrize(("z", "threshold", "strange"), [
    ([4.0], 3.0, True),
    ([3.0], 3.0, False),
    ([9.0, 4.0], 3.0, True),
    ([9.0, 2.0], 3.0, False),  # one slot that knows it will do
    ([2.0, 9.0], 3.0, False),
    ([1e9, 1e9], math.inf, False),
    ([0.0], -1.0, True),
])  # fmt: skip
def test_a_batch_is_strange_where_every_slot_finds_it_so(z, threshold, strange):
    assert is_strange(torch.tensor(z), threshold) is strange


def test_the_batch_is_judged_by_its_mean_and_not_by_its_strangest_image(site_of):
    """A slot rebuilds nothing, so its loss is the mean square of the token mean."""
    site = ExpandingAdapter(SlotSettings(WIDTH), sequential=False)
    with torch.no_grad():
        for parameter in site.newest.descriptor.parameters():
            parameter.zero_()
    site.newest.descriptor.record.push(torch.tensor([0.0, 1.0, 2.0]))  # mean 1, deviation 1
    means = torch.tensor([1.0, 1.0, 1.0, 3.0])[:, None].expand(4, WIDTH)  # losses 1, 1, 1, 9: z 0, 0, 0, 8
    z = site.z(means).mean(1)
    assert z.tolist() == pytest.approx([2.0])
    assert not is_strange(z, 3.0)
