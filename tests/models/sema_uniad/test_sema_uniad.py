"""SEMA-UniAD as a network: where its sites are, what they see, what is frozen, and what its options change."""

from __future__ import annotations

import inspect
import json
from functools import partial

import pytest
import torch
from sema_stream import SMALL, cluster, disturb, learn_stream, learn_task, section, show, small, state_of
from torch import nn
from uniad_options import OPTIONS, outcome, same

from anoframe.config import load_config, plain
from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, TrainingBatch
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.factory import build_detector
from anoframe.models.sema_uniad.adapters import watching
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.models.uniad.model import UniAD
from anoframe.training.loop import PhaseTrainer
from anoframe.training.validation import check_training

POSITIONS, MODES = ("ffn", "attn", "both"), ("parallel", "sequential")
UNIAD = {name: value for name, value in SMALL.items() if name not in ("adapter_bottleneck", "rd_dim")}
FULL = {"image_size": 32, "stride": 8, "window": 3}  # width 256, 4 + 4 layers, on few tokens


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def batch_of(features):
    return TrainingBatch(features, (), torch.arange(len(features)))


def slots(detector):
    return [len(place.site.slots) for place in detector.places]


# ------------------------------------------------------------------------------------------------ sites and counts


@pytest.mark.parametrize(("position", "expected"), [("ffn", 8), ("attn", 12), ("both", 20)])
def test_sites_of_four_and_four_layers(backbone, position, expected):
    changes = {"encoder_layers": 4, "decoder_layers": 4, "sema_position": position}
    places = small(backbone, **changes).places
    assert len(places) == expected
    assert [place.layer_id for place in places] == sorted(place.layer_id for place in places)


def test_eight_slots_add_531464_parameters(backbone):
    plain_one, grown = UniAD(backbone, **FULL), SemaUniAD(backbone, **FULL)
    assert count(grown.reconstruction.parameters()) - count(plain_one.reconstruction.parameters()) == 531_464


def test_layers_out_of_range_have_no_site(backbone):
    places = small(backbone, sema_start_layer=1, sema_end_layer=2).places
    assert [place.layer_id for place in places] == [1, 2]


# ------------------------------------------------------------------------------------------------ the start


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("more", [1, 3])
def test_fresh_slots_leave_uniad_as_it_is_to_the_bit(backbone, images_of, position, mode, more):
    """In the prototype the model was initialised after its adapters, which so lost the zeros that they begin with: D4.

    Whatever the router says.
    """
    torch.manual_seed(0)
    plain_one = UniAD(backbone, **UNIAD).eval()
    grown = small(backbone, sema_position=position, sema_mode=mode)
    for place in grown.places:
        place.site.resize(more)
        for slot in place.site.slots:
            disturb(slot.router)
    before, after = plain_one.predict(images_of(0, 3)), grown.predict(images_of(0, 3))
    assert torch.equal(before.anomaly_map, after.anomaly_map)
    assert torch.equal(before.score, after.score)


def test_the_first_weights_are_uniads(backbone):
    torch.manual_seed(0)
    plain_one, grown = UniAD(backbone, **UNIAD), small(backbone)
    state = grown.learned_state()
    assert all(torch.equal(state[name], value) for name, value in plain_one.learned_state().items())


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_uniad_are_handed_on(backbone, name):
    """What is built with one is what UniAD with it is, to the bit, since fresh slots change nothing."""
    torch.manual_seed(0)
    plain_one = UniAD(backbone, **{**UNIAD, name: OPTIONS[name]})
    assert same(outcome(plain_one), outcome(small(backbone, **{name: OPTIONS[name]})))


def test_adapters_are_zero_when_the_model_is_built(backbone):
    """D4, where it would be done."""
    for place in small(backbone, sema_position="both").places:
        assert not place.site.newest.adapter.up.weight.any()
        assert place.site.newest.adapter.down.weight.any()


# ------------------------------------------------------------------------------------------------ where adapters act


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_an_adapter_acts_where_the_definition_says(backbone, mode):
    """Parallel ones of the prototype came after the norm: D9. `norm(x + value + A(x))`, or `h + A(h)` of the output."""
    detector = small(backbone, sema_position="both", sema_mode=mode)
    seen = {}
    for number, (place, one) in enumerate(_residuals(detector)):
        disturb(place.site.newest.adapter, number)
        for name, module in (("all", one), ("norm", one.norm), ("adapter", place.site)):
            module.register_forward_hook(lambda m, args, out, key=(number, name): seen.__setitem__(key, (args, out)))
    detector.reconstruct(cluster(0))
    for number, (place, _) in enumerate(_residuals(detector)):
        (x, value), out = seen[number, "all"]
        (total,), normed = seen[number, "norm"]
        (tokens,), change = seen[number, "adapter"]
        if mode == "sequential" or place.kind == "self":
            assert torch.equal(tokens, normed)
            assert torch.equal(total, x + value)
            assert torch.equal(out, normed + change)
        else:
            assert torch.equal(tokens, x)
            assert torch.equal(total, x + value + change)
            assert torch.equal(out, normed)


def _residuals(detector):
    sites = {id(place.site): place for place in detector.places}
    for one in detector.reconstruction.transformer.sites():
        yield sites[id(one.residual.adapter)], one.residual


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_every_site_sees_the_image(backbone, mode):
    """The decoder's first attention begins with queries that are the same for all images: its site sees its output."""
    detector = small(backbone, sema_position="both", sema_mode=mode)
    features = torch.cat([cluster(0, 1), cluster(1, 1)])
    with watching([place.site for place in detector.places]) as seen:
        detector.reconstruct(features)
    assert all((means[0] - means[1]).abs().max() > 1e-3 for means in seen.values())


def test_a_result_depends_on_no_other_image_to_the_bit(backbone, images_of):
    """D3 for the whole network, with grown sites."""
    detector = small(backbone, sema_position="both")
    for place in detector.places:
        place.site.resize(3)
        disturb(place.site)
    images = images_of(1, 7)
    together, alone = detector.predict(images), [detector.predict(one) for one in images.split(1)]
    assert torch.equal(together.anomaly_map, torch.cat([one.anomaly_map for one in alone]))
    assert torch.equal(together.score, torch.cat([one.score for one in alone]))


def test_as_many_images_as_tokens_are_not_taken_for_tokens(backbone, images_of):
    """16 images of 16 tokens: the prototype compared sizes to tell them apart: D3."""
    detector = small(backbone)
    for place in detector.places:
        place.site.resize(2)
        disturb(place.site)
    images = images_of(1, 16)
    few, many = detector.predict(images[:2]), detector.predict(images)
    assert torch.equal(many.anomaly_map[:2], few.anomaly_map)


# ------------------------------------------------------------------------------------------------ what is trained


@pytest.fixture
def full(backbone):
    """With the sizes of the default, after a first task without training, and where every batch is strange."""
    detector = SemaUniAD(backbone, **FULL, expansion_threshold=-1.0).eval()
    detector.start_task(0, 8)
    detector.finish_task()
    detector.start_task(1, 8)
    return detector


def test_a_new_slot_is_all_that_its_phases_train(full):
    (scan,) = full.training_stages()
    show(scan, cluster(1, 8))
    _, adapter, descriptor, statistics, _ = full.training_stages()
    assert count(adapter.parameters.values()) == 33_088 + 257
    assert count(descriptor.parameters.values()) == 33_088
    assert isinstance(statistics, Observation)


def test_what_wants_gradients_is_what_the_phases_to_come_train(full):
    show(full.training_stages()[0], cluster(1, 8))
    _, adapter, descriptor, _, _ = full.training_stages()
    listed = {id(one) for phase in (adapter, descriptor) for one in phase.parameters.values()}
    assert {id(one) for one in full.parameters() if one.requires_grad} == listed
    full.finish_task()
    assert not any(one.requires_grad for one in full.parameters())


def test_the_first_task_trains_the_trunk_with_adapters_and_then_descriptors(backbone):
    detector = small(backbone)
    first, second, _ = detector.training_stages()
    assert (first.name, second.name) == ("reconstruction", "descriptor")
    parts = [name.split(".adapter.slots.0.")[-1].split(".")[0] for name in detector.learned_state() if "slots" in name]
    assert set(parts) == {"adapter", "descriptor", "router"}
    trained = {name for name in first.parameters}
    assert {name for name in trained if ".slots." in name} == {n for n in trained if ".slots.0.adapter." in n}
    trunk = {name for name, _ in detector.named_parameters() if name.startswith("recon") and ".slots." not in name}
    assert trunk <= trained
    assert all(".slots.0.descriptor." in name for name in second.parameters)


def test_parameters_carry_the_names_that_a_checkpoint_has(full):
    show(full.training_stages()[0], cluster(1, 8))
    for phase in full.training_stages()[1:3]:
        assert phase.parameters.keys() <= full.learned_state().keys()


RECONSTRUCTION = {"routing": "reconstruction"}


@pytest.mark.parametrize("options", [
    {}, {"sema_position": "both"}, {"sema_mode": "sequential"}, {"routing": "rd"}, RECONSTRUCTION,
])  # fmt: skip
def test_every_parameter_of_a_phase_gets_a_gradient(backbone, options):
    """New adapters of the prototype were in no optimiser, because it was built before they were: D1."""
    options = {"expansion_threshold": -1.0, "scan_order": "joint", "adapter_bottleneck": 16} | options
    detector = learn_stream(small(backbone, **options), [cluster(0)])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], cluster(1))
    _, adapter, descriptor, *_ = detector.training_stages()
    for place in detector.places:
        disturb(place.site.newest.adapter.up)
    for phase in (adapter, descriptor):
        sum(phase.loss(batch_of(cluster(1))).values()).backward()
        still = [name for name, one in phase.parameters.items() if one.grad is None or not one.grad.any()]
        assert still == []


def test_what_is_frozen_stays_in_eval_mode_whoever_calls_train(backbone):
    detector = small(backbone, expansion_threshold=-1.0, adapter_dropout=0.1)
    learn_stream(detector, [cluster(0)])
    assert not _training(detector.train())
    detector.start_task(1, 12)
    detector.eval()
    show(detector.training_stages()[0], cluster(1))
    modes = _training(detector.train())
    newest = [name for name in modes if ".slots.1." in name]
    assert newest
    assert modes == {*newest, "reconstruction.jitter"}


def _training(detector):
    """Names of modules in train mode that are more than a container of others."""
    named = detector.reconstruction.named_modules(prefix="reconstruction")
    return {name for name, module in named if module.training and not list(module.children())}


def test_the_trunk_trains_in_the_first_phase_of_the_first_task_alone(backbone, monkeypatch):
    detector, modes = small(backbone, expansion_threshold=-1.0), []
    original = PhaseTrainer._batch

    def batch(trainer, done):
        dropout = detector.reconstruction.transformer.encoder[0].residuals["attn"].dropout
        modes.append((trainer._phase.name, dropout.training, detector.reconstruction.jitter.training))
        return original(trainer, done)

    monkeypatch.setattr(PhaseTrainer, "_batch", batch)
    learn_stream(detector, [cluster(0), cluster(1)])
    assert set(modes[:4]) == {("reconstruction", True, True), ("descriptor", False, False)}
    assert set(modes[4:]) == {("adapter", False, True), ("descriptor", False, False)}


def test_descriptors_learn_what_is_seen_without_noise_and_dropout(backbone):
    detector = small(backbone, jitter={"alpha": 50.0}, dropout=0.5)
    phase = detector.training_stages()[1]
    plain_one = float(phase.loss(batch_of(cluster(0)))["descriptor"].detach())
    detector.train()
    assert float(phase.loss(batch_of(cluster(0)))["descriptor"].detach()) == plain_one
    assert detector.reconstruction.training


def test_the_descriptors_loss_is_a_sum_over_sites_of_means_over_images(backbone):
    detector = small(backbone)
    means = detector._token_means(cluster(0))
    expected = sum(place.site.newest.descriptor.loss(means[n]).mean() for n, place in enumerate(detector.places))
    torch.testing.assert_close(detector.training_stages()[1].loss(batch_of(cluster(0)))["descriptor"], expected)


def test_the_descriptors_loss_of_a_later_task_is_that_of_the_slots_that_came(full):
    show(full.training_stages()[0], cluster(1, 8))
    descriptor = full.training_stages()[2]
    means = full._token_means(cluster(1, 8))
    expected = full.places[0].site.newest.descriptor.loss(means[0]).mean()
    torch.testing.assert_close(descriptor.loss(batch_of(cluster(1, 8)))["descriptor"], expected)


# ------------------------------------------------------------------------------------------------ statistics


def test_the_seed_decides_which_images_statistics_are_of(backbone):
    chosen = []
    for seed in (0, 0, 1):
        detector = small(backbone, rd_buffer_size=8, seed=seed)
        show(detector.training_stages()[-1], cluster(0, 40))
        chosen.append(detector._wanted.tolist())
    assert chosen[0] == chosen[1] != chosen[2]


def test_statistics_are_of_a_clean_pass_after_the_descriptors_are_trained(backbone):
    features = cluster(0, 20)
    detector = learn_stream(small(backbone, jitter={"alpha": 50.0}), [features])
    means = detector._token_means(features)
    for number, place in enumerate(detector.places):
        descriptor = place.site.newest.descriptor
        torch.testing.assert_close(descriptor.record.losses, descriptor.loss(means[number]).detach())
        assert descriptor.record.frozen


def test_statistics_are_of_as_many_images_as_the_buffer_holds_from_anywhere_in_the_task(backbone):
    detector = small(backbone, rd_buffer_size=8)
    detector.start_task(0, 200)
    show(detector.training_stages()[-1], cluster(0, 200))
    chosen = detector._wanted.nonzero().flatten()
    assert len(detector.places[0].site.newest.descriptor.record.losses) == len(chosen) == 8
    assert chosen.min() < 100 < chosen.max()


def test_statistics_taken_again_are_of_the_descriptor_as_it_is_now(backbone):
    detector = small(backbone)
    detector.start_task(0, 12)
    descriptor = detector.places[0].site.newest.descriptor
    for seed in (1, 2):
        disturb(descriptor, seed)
        show(detector.training_stages()[-1], cluster(0))
    expected = descriptor.loss(detector._token_means(cluster(0))[0]).detach()
    torch.testing.assert_close(descriptor.record.losses, expected)


@pytest.mark.parametrize(
    "options", [{}, {"scan_order": "joint"}, {"routing": "rd"}, {"joint_loss": True}, RECONSTRUCTION]
)
def test_a_slot_before_one_of_the_same_task_has_its_descriptor_measured_anew(backbone, monkeypatch, options):
    """Site 1 grows, then site 0, which changes what site 1 gets."""
    detector = learn_stream(small(backbone, **options), [cluster(0)])
    strange = [1, 0]

    def strangeness(features):
        grown = sum(slots(detector)) - len(detector.places)
        at = strange[grown] if grown < len(strange) else None
        return [torch.full((1, len(features)), 9.0 * (number == at)) for number in range(len(detector.places))]

    monkeypatch.setattr(detector, "strangeness", strangeness)
    learn_task(detector, 1, cluster(1))
    assert slots(detector)[:2] == [2, 2]
    means = detector._token_means(cluster(1))
    for number in (0, 1):
        descriptor = detector.places[number].site.newest.descriptor
        torch.testing.assert_close(descriptor.record.losses.sort().values, descriptor.loss(means[number]).sort().values)


# ------------------------------------------------------------------------------------------------ options


def test_joint_learning_adds_the_weighed_loss_and_gives_the_trunk_no_gradient_of_it(backbone):
    detector = small(backbone, joint_loss=True, rd_loss_weight=0.5)
    first, second = detector.training_stages()
    assert second.name == "statistics"
    losses = first.loss(batch_of(cluster(0)))
    assert torch.equal(losses["mse"], detector.losses(batch_of(cluster(0)))["mse"])
    descriptors = [name for name in first.parameters if ".descriptor." in name]
    found = torch.autograd.grad(losses["descriptor"], list(first.parameters.values()), allow_unused=True)
    assert {name for name, one in zip(first.parameters, found, strict=True) if one is not None} == set(descriptors)
    torch.testing.assert_close(
        losses["descriptor"], 0.5 * small(backbone).training_stages()[1].loss(batch_of(cluster(0)))["descriptor"]
    )


def test_joint_learning_trains_a_new_slots_parts_together(backbone):
    detector = small(backbone, joint_loss=True, expansion_threshold=-1.0)
    learn_stream(detector, [cluster(0)])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], cluster(1))
    _, adapter, statistics, _ = detector.training_stages()
    parts = {name.split(".slots.1.")[1].split(".")[0] for name in adapter.parameters}
    assert parts == {"adapter", "descriptor", "router"}
    assert statistics.name == "statistics"


def test_reuse_finetune_leaves_descriptors_alone_though_losses_are_joint(backbone):
    """Their statistics stay those of the task that they were born in."""
    detector = small(backbone, reuse_finetune=True, joint_loss=True, expansion_threshold=None)
    learn_stream(detector, [cluster(0)])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], cluster(1))
    _, adapter = detector.training_stages()
    assert {name.split(".slots.0.")[1].split(".")[0] for name in adapter.parameters} == {"adapter"}


@pytest.mark.parametrize("strange", [False, True])
def test_reuse_finetune_trains_the_adapters_there_are_where_nothing_is_strange(backbone, strange):
    detector = small(backbone, reuse_finetune=True, expansion_threshold=-1.0 if strange else None)
    learn_stream(detector, [cluster(0)])
    before = state_of(detector)
    learn_task(detector, 1, cluster(1))
    after = state_of(detector)
    changed = {name for name in before if name != "progress" and not torch.equal(before[name], after[name])}
    parts = {name.split(".slots.0.")[1].split(".")[0] for name in changed}
    assert parts == (set() if strange else {"adapter"})  # one column alone has no say


def test_options_of_slots_reach_them(backbone):
    options = {"adapter_bottleneck": 5, "adapter_dropout": 0.25, "adapter_scalar": 0.5, "rd_dim": 3, "rd_relu": True}
    others = {"rd_buffer_size": 7, "one_sided": True, "new_router_bias": -4.0}
    site = small(backbone, **options, **others).places[0].site
    site.resize(2)
    for slot in site.all_slots:
        adapter, descriptor = slot.adapter, slot.descriptor
        assert (adapter.down.out_features, adapter.dropout.p, adapter.scalar) == (5, 0.25, 0.5)
        assert (descriptor.encode.out_features, type(descriptor.between)) == (3, nn.ReLU)
        assert (descriptor.record.size, descriptor.record.one_sided) == (7, True)
    assert site.newest.router.bias.item() == -4


def test_layers_that_have_sites_may_be_more_than_those_that_grow(backbone):
    detector = small(backbone, expansion_threshold=-1.0, expand_start=1, expand_end=2)
    assert slots(learn_stream(detector, [cluster(0), cluster(1)])) == [1, 2, 2, 1]


def test_routing_by_descriptors_has_no_router(backbone):
    assert not [name for name in small(backbone, routing="rd").learned_state() if "router" in name]


# ------------------------------------------------------------------------------------------------ by reconstruction


@pytest.fixture
def three_tasks(backbone):
    """Sites 1 and 2 have slots of all tasks, which are far apart; sites 0 and 3 have one slot for all."""
    options = {"expansion_threshold": -1.0, "scan_order": "joint", "expand_start": 1, "expand_end": 2}
    detector = learn_stream(small(backbone, **RECONSTRUCTION, **options), [cluster(0), cluster(1), cluster(2)])
    for number in (1, 2):
        for slot, one in enumerate(detector.places[number].site.all_slots):
            disturb(one.adapter, 10 * number + slot)
    return detector


@torch.no_grad()
def test_an_image_takes_the_slots_of_the_task_that_rebuilds_it_best(three_tasks):
    images = torch.cat([cluster(seed, 4, draw=1) for seed in range(6)])
    alone = []
    for slot in range(3):
        for number in (1, 2):
            three_tasks.places[number].site.chosen = slot
        alone.append(three_tasks.reconstruction(images)[0])
    for place in three_tasks.places:
        place.site.chosen = None
    missed = torch.stack([(one - images).square().mean((1, 2, 3)) for one in alone])
    best = missed.argmin(0)
    assert len(best.unique()) > 1
    found = three_tasks.reconstruct(images)
    assert all(torch.equal(found[i], alone[slot][i]) for i, slot in enumerate(best.tolist()))


def test_many_threads_do_not_disturb_each_others_paths(three_tasks, request):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    images = torch.cat([cluster(seed, 8, draw=1) for seed in range(6)])
    torch.set_num_threads(1)
    expected = three_tasks.detect(images, (32, 32))
    with torch.no_grad():
        by_best = three_tasks.distance(images, three_tasks.reconstruct(images))
    torch.testing.assert_close(upsample(by_best, (32, 32), align_corners=True), expected.anomaly_map)
    torch.set_num_threads(8)
    for _ in range(3):
        assert torch.equal(three_tasks.detect(images, (32, 32)).anomaly_map, expected.anomaly_map)


@torch.no_grad()
def test_an_image_takes_its_path_by_itself(three_tasks):
    images = torch.cat([cluster(seed, 2, draw=1) for seed in range(6)])
    together = three_tasks.strangeness(images)
    for number, image in enumerate(images):
        for site, one in zip(together, three_tasks.strangeness(image[None]), strict=True):
            torch.testing.assert_close(site[:, number], one[:, 0], rtol=1e-4, atol=1e-4)


def test_a_task_learns_by_its_own_slots_alone(backbone):
    """Whatever the adapters of earlier tasks would add is no part of its loss, nor of what its descriptors see."""
    options = {"expansion_threshold": -1.0, "scan_order": "joint"}
    detector = learn_stream(small(backbone, **RECONSTRUCTION, **options), [cluster(0)])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], cluster(1))
    _, adapter, descriptor, *_ = detector.training_stages()
    before = [phase.loss(batch_of(cluster(1))) for phase in (adapter, descriptor)]
    for place in detector.places:
        disturb(place.site.all_slots[0].adapter)
    assert [phase.loss(batch_of(cluster(1))) for phase in (adapter, descriptor)] == before


# key of the config: what the sheet of 29 points says is the default
DEFAULTS = {
    "adapter_bottleneck": 64,
    "adapter_dropout": 0.0,
    "adapter_scalar": 1.0,
    "sema_position": "ffn",
    "sema_mode": "parallel",
    "rd_dim": 64,
    "rd_relu": False,
    "rd_buffer_size": 500,
    "rd_loss_weight": 0.1,
    "joint_loss": False,
    "expansion_threshold": 3.0,
    "one_sided": False,
    "scan_order": "sequential",
    "sema_start_layer": 0,
    "sema_end_layer": 7,
    "expand_start": None,
    "expand_end": None,
    "routing": "learned",
    "new_router_bias": None,
    "reuse_finetune": False,
}


def test_defaults_of_the_class_and_of_the_config_are_the_sheets():
    signature = inspect.signature(SemaUniAD).parameters
    cfg = plain(load_config("__base__/sema_uniad.py").model)
    assert {key: signature[key].default for key in DEFAULTS} == DEFAULTS
    assert {key: cfg[key] for key in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(("arguments", "message"), [
    ({"sema_position": "mlp"}, r"model\.sema_position is one of ffn, attn, both, got 'mlp'"),
    ({"sema_mode": "beside"}, r"model\.sema_mode is one of parallel, sequential, got 'beside'"),
    ({"routing": "z"}, r"model\.routing is one of learned, rd, reconstruction, got 'z'"),
    ({"scan_order": "random"}, r"model\.scan_order is one of sequential, joint, got 'random'"),
    ({"rd_buffer_size": 2}, r"model\.rd_buffer_size is at least 3, got 2"),
    ({"adapter_dropout": 1.0}, r"model\.adapter_dropout lies between 0 and 1, got 1\.0"),
    ({"sema_start_layer": 9}, r"no layer among 9 to 7 has a place for adapters: see model\.sema_start_layer"),
    ({"expand_start": 5, "expand_end": 4}, r"no layer among 5 to 4 has adapters that could multiply"),
    ({"routing": "rd", "new_router_bias": -4.0}, r"model\.new_router_bias is for the learned router"),
    ({**RECONSTRUCTION, "reuse_finetune": True}, r"model\.reuse_finetune trains a mixture of slots"),
])  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_its_key(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        small(backbone, **arguments)


STREAMS = {
    "10x1": "hazelnut;bottle;cable;capsule;metal_nut;pill;toothbrush;transistor;zipper;screw",
    "15x1": "15x1",
    "10-1x5": "10-1x5",
    "lite0": "10-1x5",
}


@pytest.mark.parametrize("name", STREAMS)
def test_configs_have_the_streams_that_their_names_say(name):
    protocol = load_config(f"sema_uniad/sema_uniad_{name}.py").protocol
    assert (protocol.name, protocol.strategy, protocol.tasks) == ("continual", "expand", STREAMS[name])


ABLATIONS = {
    "threshold2": {"expansion_threshold": 2.0},
    "threshold4": {"expansion_threshold": 4.0},
    "always": {"expansion_threshold": -1.0},
    "no_expansion": {"expansion_threshold": None},
    "attn": {"sema_position": "attn"},
    "both": {"sema_position": "both"},
    "sequential": {"sema_mode": "sequential"},
    "layers_2_5": {"sema_start_layer": 2, "sema_end_layer": 5, "expand_start": 2, "expand_end": 5},
    "joint_loss": {"joint_loss": True},
    "router_bias": {"new_router_bias": -4.0},
    "rd_routing": {"routing": "rd"},
    "reconstruction_routing": {"routing": "reconstruction"},
    "joint_scan": {"scan_order": "joint"},
    "reuse_finetune": {"reuse_finetune": True},
    "memory": {},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_can_be_trained_and_changes_what_its_name_says(name):
    changes = {"model.backbone.weights": "random", "model.width": 16, "model.hidden": 16}
    base, cfg = (load_config(f"sema_uniad/sema_uniad_lite0{end}.py", changes) for end in ("", f"_{name}"))
    first, ablation = (build_detector(plain(one.model)) for one in (base, cfg))
    check_training(ablation.training_stages(), plain(cfg.trainer), torch.device("cpu"), ablation.phase_names())
    changed = first.growth()["sema_config"] | ABLATIONS[name]
    assert ablation.growth()["sema_config"] == changed
    assert (ablation.memory.kind == "series") is (name == "memory")


def test_settings_of_all_phases_are_known_before_the_first_task(backbone):
    assert set(section()["phases"]) | {"reconstruction"} == set(small(backbone).phase_names())


def test_growth_is_json_and_its_sum_is_that_of_the_sites(backbone):
    detector = learn_stream(small(backbone, expansion_threshold=-1.0, expand_end=1), [cluster(0), cluster(1)])
    growth = json.loads(json.dumps(detector.growth(), allow_nan=False))
    stats = growth["adapter_stats"]
    assert stats["total_modules"] == len(stats["adapters_per_layer"]) == 4
    assert stats["total_adapters"] == sum(one["num_adapters"] for one in stats["adapters_per_layer"]) == 6
    assert stats["adapters_per_layer"][0] == {"layer_id": 0, "kind": "ffn", "num_adapters": 2}
    assert growth["sema_config"]["expansion_threshold"] == -1.0
    assert set(growth["expansions"][0]) == {"task", "site", "batch", "pass", "min_z", "all_z"}


def test_the_backbone_is_not_among_what_is_trained(backbone):
    weighted = nn.Sequential(nn.Conv2d(3, 3, 1))
    weighted.channels = (15,)
    detector = small(weighted)
    assert not any(name.startswith("backbone") for step in detector.training_stages()[:2] for name in step.parameters)
