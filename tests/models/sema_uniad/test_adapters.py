"""Slots and sites: their outputs compared with a loop over images and slots, and the loss records of descriptors."""

from __future__ import annotations

import math

import pytest
import torch
from sema_stream import randomise
from torch import nn
from torch.nn import functional as F

from anoframe.models.sema_uniad.adapters import (
    AdapterContext,
    Descriptor,
    ExpandingAdapter,
    FunctionalAdapter,
    LossRecord,
    Slot,
)
from anoframe.models.sema_uniad.expansion import is_novel
from anoframe.models.sema_uniad.settings import SemaSettings

WIDTH, LENGTH = 12, 7


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def make_settings(**changes):
    return SemaSettings(**{"adapter_bottleneck": 4, "descriptor_dim": 3, **changes})


@pytest.fixture
def tokens(rng):
    return torch.randn(5, LENGTH, WIDTH, generator=rng)


@pytest.fixture
def make_site(rng):
    """Builds a site with random parameters, and loss records that give finite z-scores."""

    def make(slots=3, **settings):
        site = ExpandingAdapter(WIDTH, make_settings(**settings), sequential=False)
        site.resize(slots)
        randomise(site)
        for slot in site.slots:
            slot.descriptor.record.push(torch.rand(20, generator=rng))
        return site.eval()

    return make


def record_means(site, tokens):
    """The token means that a site records during a forward pass."""
    context = AdapterContext()
    site(tokens, context)
    return context.token_means[site.index]


# ------------------------------------------------------------------------------------------------ modules of a slot


def test_a_slot_of_width_256_has_the_specified_number_of_parameters():
    slot = Slot(256, SemaSettings())
    counts = num_parameters(slot.adapter), num_parameters(slot.descriptor), num_parameters(slot.router)
    assert counts == (33_088, 33_088, 257)


def test_routing_by_descriptors_needs_no_router_column():
    assert num_parameters(Slot(256, SemaSettings(routing="rd"))) == 2 * 33_088


def test_a_new_adapter_outputs_zero_and_gets_gradients(tokens):
    adapter = FunctionalAdapter(WIDTH, make_settings())
    out = adapter(tokens)
    out.sum().backward()
    assert not out.any()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_an_adapter_matches_its_definition(tokens):
    adapter = FunctionalAdapter(WIDTH, make_settings(adapter_scalar=0.5))
    randomise(adapter)
    hidden = (tokens @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    expected = 0.5 * (hidden @ adapter.up.weight.T + adapter.up.bias)
    torch.testing.assert_close(adapter(tokens), expected)


def test_dropout_of_an_adapter_acts_only_in_train_mode(tokens):
    adapter = FunctionalAdapter(WIDTH, make_settings(adapter_dropout=0.5))
    randomise(adapter)
    expected = adapter.eval()(tokens)
    assert torch.equal(expected, adapter(tokens))
    assert not torch.equal(expected, adapter.train()(tokens))


@torch.no_grad()
def test_the_loss_of_a_descriptor_is_the_mean_squared_error_of_the_token_mean(tokens):
    descriptor = Descriptor(WIDTH, make_settings())
    randomise(descriptor)
    for image, loss in zip(tokens, descriptor.loss(tokens.mean(1)), strict=True):
        mean = image.sum(0) / LENGTH
        code = descriptor.encode.weight @ mean + descriptor.encode.bias
        error = descriptor.decode.weight @ code + descriptor.decode.bias - mean
        assert float(loss) == pytest.approx(float(error.square().sum()) / WIDTH, rel=1e-5)


@torch.no_grad()
def test_the_loss_of_a_descriptor_does_not_depend_on_the_order_of_tokens(make_site, tokens, rng):
    site = make_site(1)
    loss = site.newest.descriptor.loss
    permuted = tokens[:, torch.randperm(LENGTH, generator=rng)]
    torch.testing.assert_close(loss(record_means(site, permuted)), loss(record_means(site, tokens)))


@pytest.mark.parametrize("relu", [False, True])
def test_a_descriptor_is_linear_without_a_relu(tokens, relu):
    means = tokens.mean(1)
    descriptor = Descriptor(WIDTH, make_settings(descriptor_relu=relu))
    randomise(descriptor)

    def reconstruct(x):
        return descriptor.decode(descriptor.activation(descriptor.encode(x)))

    average = (reconstruct(means[:2]) + reconstruct(means[2:4])) / 2
    assert torch.allclose(reconstruct((means[:2] + means[2:4]) / 2), average, atol=1e-5) is not relu


def test_a_descriptor_gives_its_input_no_gradient(tokens):
    means = tokens.mean(1).requires_grad_()
    Descriptor(WIDTH, make_settings()).loss(means).sum().backward()
    assert means.grad is None


# ------------------------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize("count", [3, 10, 500, 731])
def test_z_scores_use_the_latest_500_losses_and_the_unbiased_deviation(count, rng):
    losses, record = torch.rand(count, generator=rng), LossRecord(500)
    for batch in losses.split(64):
        record.push(batch)
    latest = [float(loss) for loss in losses[-500:]]
    mean = sum(latest) / len(latest)
    deviation = math.sqrt(sum((loss - mean) ** 2 for loss in latest) / (len(latest) - 1))
    z = record.z_scores(torch.tensor([0.1, 3.0]))
    assert z.tolist() == pytest.approx([abs(0.1 - mean) / deviation, (3 - mean) / deviation], rel=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_with_fewer_than_three_records_z_scores_are_zero(count):
    record = LossRecord()
    record.push(torch.arange(count).float())
    assert record.z_scores(torch.tensor([5.0, -5.0])).tolist() == [0, 0]


def test_equal_losses_give_no_nan():
    record = LossRecord()
    record.push(torch.full((50,), 0.25))
    assert record.z_scores(torch.tensor([0.25, 0.5])).isfinite().all()
    assert record.z_scores(torch.tensor([0.25])) == 0
    assert record.z_scores(torch.tensor([0.5])) > 1000


def test_a_frozen_record_ignores_losses_until_it_is_cleared():
    record = LossRecord()
    record.push(torch.tensor([1.0, 2.0]))
    record.freeze()
    record.push(torch.tensor([9.0]))
    assert record.losses.tolist() == [1, 2]
    record.clear()
    record.push(torch.tensor([3.0]))
    assert record.losses.tolist() == [3]


@pytest.mark.parametrize(("one_sided", "expected"), [(False, [2, 2]), (True, [-2, 2])])
def test_z_scores_are_absolute_unless_one_sided(one_sided, expected):
    record = LossRecord(one_sided=one_sided)
    record.push(torch.tensor([1.0, 2.0, 3.0]))
    assert record.z_scores(torch.tensor([0.0, 4.0])).tolist() == expected


@torch.no_grad()
def test_with_one_sided_z_scores_a_better_reconstruction_than_usual_gets_no_extra_weight(make_site, tokens):
    site, means = make_site(2, routing="rd", one_sided=True), tokens.mean(1)
    low, high = (slot.descriptor for slot in site.slots)
    for descriptor, offset in ((low, 50.0), (high, -1.5)):  # the mean of the record is above, or below, the losses
        descriptor.record.clear()
        descriptor.record.push(descriptor.loss(means).mean() + offset + torch.tensor([-9.0, 0.0, 9.0]))
    z = site.z_scores(means)
    assert z[0].max() < -1
    weights = z.clamp(min=0).neg().exp()
    torch.testing.assert_close(site.weights(means), (weights / weights.sum(0)).T)
    assert not torch.allclose(site.weights(means), torch.softmax(-z, 0).T, atol=0.1)


def test_loss_records_are_part_of_the_state(make_site, tokens):
    """In the prototype they were not: D7."""
    site, means = make_site(3), tokens.mean(1)
    other = make_site(3)
    for slot in other.slots:
        slot.descriptor.record.clear()
    state = site.state_dict()
    for name, buffer in dict(other.named_buffers()).items():
        owner, _, attribute = name.rpartition(".")
        assert name in state
        setattr(other.get_submodule(owner), attribute, state[name].to(buffer.dtype))
    assert torch.equal(other.z_scores(means), site.z_scores(means))
    assert site.z_scores(means).gt(0).all()


# ------------------------------------------------------------------------------------------------ mixing


def mix_in_a_loop(site, tokens, weights):
    """The mixture, by a loop over images and slots."""
    out = torch.zeros_like(tokens)
    for image in range(len(tokens)):
        for number, slot in enumerate(site.slots):
            out[image] += weights[image][number] * slot.adapter(tokens[image])
    return out


def softmax_in_a_loop(site, tokens):
    """The weights of a learned router, by a loop over images and slots."""
    rows = []
    for image in tokens:
        logits = [slot.router.weight[0] @ image.mean(0) + slot.router.bias[0] for slot in site.slots]
        exponentials = [torch.exp(logit - max(logits)) for logit in logits]
        rows.append([value / sum(exponentials) for value in exponentials])
    return rows


@torch.no_grad()
@pytest.mark.parametrize("slots", [2, 3, 5])
def test_the_mixture_equals_a_loop_over_images_and_slots(make_site, tokens, slots):
    site = make_site(slots)
    torch.testing.assert_close(site(tokens), mix_in_a_loop(site, tokens, softmax_in_a_loop(site, tokens)))


@torch.no_grad()
def test_routing_by_descriptors_gives_less_weight_to_larger_z_scores(make_site, tokens):
    site = make_site(3, routing="rd")
    rows = []
    for image in tokens:
        values = [torch.exp(-slot.descriptor.z_scores(image.mean(0)[None]))[0] for slot in site.slots]
        rows.append([value / sum(values) for value in values])
    torch.testing.assert_close(site(tokens), mix_in_a_loop(site, tokens, rows))


BOTH_ROUTINGS = pytest.mark.parametrize("routing", ["learned", "rd"])


@torch.no_grad()
@BOTH_ROUTINGS
def test_weights_of_an_image_sum_to_one(make_site, tokens, routing):
    weights = make_site(4, routing=routing).weights(tokens.mean(1))
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    assert weights.shape == (5, 4)


@torch.no_grad()
@BOTH_ROUTINGS
def test_a_single_slot_has_weight_one_exactly(make_site, tokens, routing):
    site = make_site(1, routing=routing)
    assert torch.equal(site.weights(tokens.mean(1)), torch.ones(5, 1))
    assert torch.equal(site(tokens), site.newest.adapter(tokens))


@torch.no_grad()
@BOTH_ROUTINGS
def test_the_result_of_an_image_does_not_depend_on_other_images(make_site, tokens, routing):
    """The prototype guessed the batch axis and averaged over images: D3."""
    site = make_site(3, routing=routing)
    changed = tokens.clone()
    changed[1:] = 100 * changed[1:] - 7
    torch.testing.assert_close(site(changed)[0], site(tokens)[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(site(tokens[:1])[0], site(tokens)[0], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_means_are_over_tokens_if_there_are_as_many_images_as_tokens(make_site, rng):
    """The prototype compared sizes to find the batch axis: D3."""
    square = torch.randn(LENGTH, LENGTH, WIDTH, generator=rng)
    means = record_means(make_site(2), square)
    torch.testing.assert_close(means, torch.stack([image.mean(0) for image in square]))


@torch.no_grad()
@BOTH_ROUTINGS
def test_the_order_of_slots_does_not_matter(make_site, tokens, routing):
    site = make_site(3, routing=routing)
    before = site(tokens)
    site.slots = nn.ModuleList([site.slots[number] for number in (2, 0, 1)])
    torch.testing.assert_close(site(tokens), before)


# ------------------------------------------------------------------------------------------------ context of a call


@torch.no_grad()
def test_a_path_fixes_the_slot_of_all_images(make_site, tokens):
    site = make_site(3)
    for slot in range(3):
        out = site(tokens, AdapterContext(path={site.index: slot}))
        assert torch.equal(out, site.slots[slot].adapter(tokens))


@torch.no_grad()
def test_a_path_of_other_sites_leaves_the_mixture(make_site, tokens):
    site = make_site(3)
    assert torch.equal(site(tokens, AdapterContext(path={site.index + 1: 0})), site(tokens))


@torch.no_grad()
def test_a_context_belongs_to_one_call(make_site, tokens):
    site, context = make_site(1), AdapterContext()
    site(tokens, context)
    site(tokens[:2])
    assert context.token_means[site.index].shape == (5, WIDTH)
    assert not AdapterContext().token_means


# ------------------------------------------------------------------------------------------------ new slots


@torch.no_grad()
def test_a_new_slot_gets_its_weight_from_the_extended_logits_and_adds_nothing_yet(make_site, tokens):
    site = make_site(2)
    old = [slot.adapter(tokens) for slot in site.slots]
    site.resize(3)
    logits = torch.cat([slot.router(tokens.mean(1)) for slot in site.slots], 1)
    weights = torch.softmax(logits, 1)[:, :, None, None]
    torch.testing.assert_close(site(tokens), weights[:, 0] * old[0] + weights[:, 1] * old[1])
    assert not site.newest.adapter(tokens).any()


@torch.no_grad()
def test_separate_columns_equal_one_merged_router(make_site, tokens):
    site, merged = make_site(3), nn.Linear(WIDTH, 3)
    for row, slot in enumerate(site.slots):
        merged.weight[row], merged.bias[row] = slot.router.weight[0], slot.router.bias[0]
    torch.testing.assert_close(site.weights(tokens.mean(1)), F.softmax(merged(tokens.mean(1)), 1))


@torch.no_grad()
def test_with_a_low_bias_a_new_slot_hardly_changes_the_output(make_site, tokens):
    changes = []
    for bias in (None, -12.0):
        site = make_site(1, new_router_bias=bias)
        before = site(tokens)
        torch.manual_seed(0)
        site.resize(2)
        changes.append(float((site(tokens) - before).norm() / before.norm()))
    assert changes[1] < 1e-3 < 0.1 < changes[0]


def test_the_bias_of_the_first_column_is_not_set():
    site = ExpandingAdapter(WIDTH, make_settings(new_router_bias=-4.0), sequential=False)
    site.resize(3)
    assert [slot.router.bias.item() == -4 for slot in site.slots] == [False, True, True]


def test_a_bias_of_zero_is_set(make_site):
    site = make_site(1, new_router_bias=0.0)
    site.resize(2)
    assert site.newest.router.bias.item() == 0


@pytest.mark.parametrize("mode", [False, True])
def test_a_new_slot_has_the_mode_of_its_site(make_site, mode):
    site = make_site(1).train(mode)
    site.resize(2)
    assert {module.training for module in site.modules()} == {mode}


def test_old_slots_do_not_change_when_one_is_added(make_site):
    site = make_site(2)
    before = {name: value.clone() for name, value in site.state_dict().items()}
    site.resize(3)
    assert all(torch.equal(site.state_dict()[name], value) for name, value in before.items())


def test_the_newest_slots_can_be_removed(make_site):
    site = make_site(3)
    first = site.slots[0]
    site.resize(1)
    assert list(site.slots) == [first]


# ------------------------------------------------------------------------------------------------ novelty


@pytest.mark.parametrize(("z", "threshold", "expected"), [
    ([4.0], 3.0, True),
    ([3.0], 3.0, False),
    ([9.0, 4.0], 3.0, True),
    ([9.0, 2.0], 3.0, False),  # familiar to one slot
    ([2.0, 9.0], 3.0, False),
    ([1e9, 1e9], math.inf, False),
    ([0.0], -1.0, True),
])  # fmt: skip
def test_a_batch_is_novel_if_it_is_novel_to_every_slot(z, threshold, expected):
    assert is_novel(torch.tensor(z), threshold) is expected


def test_a_batch_is_judged_by_its_mean_and_not_by_its_most_novel_image():
    """The descriptor outputs zero, so its loss is the mean square of the token mean."""
    site = ExpandingAdapter(WIDTH, make_settings(), sequential=False)
    with torch.no_grad():
        for parameter in site.newest.descriptor.parameters():
            parameter.zero_()
    site.newest.descriptor.record.push(torch.tensor([0.0, 1.0, 2.0]))  # mean 1, deviation 1
    means = torch.tensor([1.0, 1.0, 1.0, 3.0])[:, None].expand(4, WIDTH)  # losses 1, 1, 1, 9: z 0, 0, 0, 8
    z = site.z_scores(means).mean(1)
    assert z.tolist() == pytest.approx([2.0])
    assert not is_novel(z, 3.0)
