"""SEMA-UniAD as a network: its sites, what is trained and frozen, statistics, options, and shipped configs."""

from __future__ import annotations

import pytest
import torch
from sema_stream import (
    ALWAYS,
    SMALL_UNIAD,
    copy_state,
    count_slots,
    make_batch,
    make_cluster,
    make_small,
    make_trained,
    make_trainer,
    randomise,
    run_observation,
    run_scan,
    train_stream,
    train_task,
)
from torch import nn
from uniad_options import OPTIONS, all_equal, outputs

from anoframe.config import load_config, to_plain
from anoframe.models.base import Observation
from anoframe.models.factory import build_detector
from anoframe.models.sema_uniad.adapters import AdapterContext
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.models.uniad.model import UniAD
from anoframe.training.loop import PhaseTrainer
from anoframe.training.validation import check_training

POSITIONS, MODES = ("ffn", "attn", "both"), ("parallel", "sequential")
FULL = {"image_size": 32, "stride": 8, "window": 3}  # width 256 and 4 + 4 layers, on few tokens


def num_values(parameters):
    return sum(parameter.numel() for parameter in parameters)


# ------------------------------------------------------------------------------------------------ sites and sizes


@pytest.mark.parametrize(("position", "expected"), [("ffn", 8), ("attn", 12), ("both", 20)])
def test_number_of_sites_of_four_and_four_layers(backbone, position, expected):
    sites = make_small(backbone, uniad={"encoder_layers": 4, "decoder_layers": 4}, position=position).sites
    assert len(sites) == expected
    assert [site.layer_id for site in sites] == sorted(site.layer_id for site in sites)


def test_eight_slots_add_531464_parameters(backbone):
    base, detector = UniAD(backbone, **FULL), SemaUniAD(backbone, **FULL)
    added = num_values(detector.reconstruction.parameters()) - num_values(base.reconstruction.parameters())
    assert added == 531_464


def test_layers_out_of_range_have_no_sites(backbone):
    sites = make_small(backbone, start_layer=1, end_layer=2).sites
    assert [site.layer_id for site in sites] == [1, 2]


# ------------------------------------------------------------------------------------------------ initialisation


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("slots", [1, 3])
def test_new_slots_do_not_change_uniad_to_the_bit(backbone, images_of, position, mode, slots):
    """For any router weights. The prototype initialised the model after its adapters and lost their zeros: D4."""
    torch.manual_seed(0)
    base = UniAD(backbone, **SMALL_UNIAD).eval()
    detector = make_small(backbone, position=position, mode=mode)
    for site in detector.sites:
        site.adapter.resize(slots)
        for slot in site.adapter.slots:
            randomise(slot.router)
    before, after = base.predict(images_of(0, 3)), detector.predict(images_of(0, 3))
    assert torch.equal(before.anomaly_map, after.anomaly_map)
    assert torch.equal(before.score, after.score)


def test_the_initial_weights_are_those_of_uniad(backbone):
    torch.manual_seed(0)
    base, detector = UniAD(backbone, **SMALL_UNIAD), make_small(backbone)
    state = detector.learned_state()
    assert all(torch.equal(state[name], value) for name, value in base.learned_state().items())


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_uniad_are_passed_on(backbone, name):
    """New slots change nothing, so the outputs are those of UniAD with the same option, to the bit."""
    option = {name: OPTIONS[name]}
    torch.manual_seed(0)
    base = UniAD(backbone, **{**SMALL_UNIAD, **option})
    assert all_equal(outputs(base), outputs(make_small(backbone, uniad=option)))


def test_up_projections_are_zero_in_a_new_model(backbone):
    """D4, in the weights themselves."""
    for site in make_small(backbone, position="both").sites:
        assert not site.newest.adapter.up.weight.any()
        assert site.newest.adapter.down.weight.any()


# ------------------------------------------------------------------------------------------------ sites in the network


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_adapters_act_where_the_definition_says(backbone, mode):
    """`norm(x + value + A(x))` or `h + A(h)`. Parallel adapters of the prototype came after the norm: D9."""
    detector = make_small(backbone, position="both", mode=mode)
    residuals = [place.residual for place in detector.reconstruction.transformer.sites()]
    calls = {}
    for number, (site, residual) in enumerate(zip(detector.sites, residuals, strict=True)):
        assert residual.adapter is site.adapter
        randomise(site.newest.adapter, number)
        for name, module in (("all", residual), ("norm", residual.norm), ("adapter", site.adapter)):
            module.register_forward_hook(lambda m, args, out, key=(number, name): calls.__setitem__(key, (args, out)))
    detector.reconstruct(make_cluster(0))
    for number, site in enumerate(detector.sites):
        (x, value), out = calls[number, "all"]
        (total,), normed = calls[number, "norm"]
        (tokens, _), change = calls[number, "adapter"]
        if mode == "sequential" or site.kind == "self":
            assert torch.equal(tokens, normed)
            assert torch.equal(total, x + value)
            assert torch.equal(out, normed + change)
        else:
            assert torch.equal(tokens, x)
            assert torch.equal(total, x + value + change)
            assert torch.equal(out, normed)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_the_input_of_every_site_depends_on_the_image(backbone, mode):
    """The input of the decoder's first attention is the same for all images, so its site receives the output."""
    detector = make_small(backbone, position="both", mode=mode)
    context = AdapterContext()
    detector.reconstruct(torch.cat([make_cluster(0, 1), make_cluster(1, 1)]), context)
    assert len(context.token_means) == len(detector.sites)
    assert all((means[0] - means[1]).abs().max() > 1e-3 for means in context.token_means.values())


def expand(detector, slots):
    """Give all sites random slots."""
    for site in detector.sites:
        site.adapter.resize(slots)
        randomise(site.adapter)
    return detector


def test_a_result_does_not_depend_on_other_images_to_the_bit(backbone, images_of):
    """D3 for the whole network, with several slots per site."""
    detector = expand(make_small(backbone, position="both"), 3)
    images = images_of(1, 7)
    together, alone = detector.predict(images), [detector.predict(image) for image in images.split(1)]
    assert torch.equal(together.anomaly_map, torch.cat([prediction.anomaly_map for prediction in alone]))
    assert torch.equal(together.score, torch.cat([prediction.score for prediction in alone]))


def test_as_many_images_as_tokens_are_not_confused_with_tokens(backbone, images_of):
    """16 images of 16 tokens: the prototype compared sizes to find the batch axis: D3."""
    detector = expand(make_small(backbone), 2)
    images = images_of(1, 16)
    few, many = detector.predict(images[:2]), detector.predict(images)
    assert torch.equal(many.anomaly_map[:2], few.anomaly_map)


# ------------------------------------------------------------------------------------------------ trained parameters


@pytest.fixture
def full(backbone):
    """A detector of the default size, after a first task without training, where every batch is novel."""
    detector = SemaUniAD(backbone, sema=ALWAYS, **FULL).eval()
    detector.start_task(0, 8)
    detector.finish_task()
    detector.start_task(1, 8)
    return detector


def test_the_phases_of_a_later_task_train_only_a_new_slot(full):
    run_scan(full, make_cluster(1, 8))
    _, adapter, descriptor, statistics, _ = full.training_stages()
    assert num_values(adapter.parameters.values()) == 33_088 + 257
    assert num_values(descriptor.parameters.values()) == 33_088
    assert isinstance(statistics, Observation)


def test_the_parameters_of_the_coming_phases_require_gradients(full):
    run_scan(full, make_cluster(1, 8))
    _, adapter, descriptor, _, _ = full.training_stages()
    trained = {id(parameter) for phase in (adapter, descriptor) for parameter in phase.parameters.values()}
    assert {id(parameter) for parameter in full.parameters() if parameter.requires_grad} == trained
    full.finish_task()
    assert not any(parameter.requires_grad for parameter in full.parameters())


def test_the_first_task_trains_the_trunk_with_adapters_and_then_descriptors(backbone):
    detector = make_small(backbone)
    first, second, _ = detector.training_stages()
    assert (first.name, second.name) == ("reconstruction", "descriptor")
    modules = [
        name.split(".adapter.slots.0.")[-1].split(".")[0] for name in detector.learned_state() if "slots" in name
    ]
    assert set(modules) == {"adapter", "descriptor", "router"}
    trained = set(first.parameters)
    assert {name for name in trained if ".slots." in name} == {n for n in trained if ".slots.0.adapter." in n}
    trunk = {name for name, _ in detector.named_parameters() if name.startswith("recon") and ".slots." not in name}
    assert trunk <= trained
    assert all(".slots.0.descriptor." in name for name in second.parameters)


def test_parameters_have_their_names_in_the_checkpoint(full):
    run_scan(full, make_cluster(1, 8))
    for phase in full.training_stages()[1:3]:
        assert phase.parameters.keys() <= full.learned_state().keys()


@pytest.mark.parametrize("options", [
    {}, {"position": "both"}, {"mode": "sequential"}, {"routing": "rd"}, {"routing": "reconstruction"},
])  # fmt: skip
def test_every_parameter_of_a_phase_gets_a_gradient(backbone, options):
    """The prototype built its optimiser before it added adapters, so they were never trained: D1."""
    options = {**ALWAYS, "scan_order": "joint", "adapter_bottleneck": 16} | options
    detector = make_trained(backbone, 1, **options)
    detector.start_task(1, 12)
    run_scan(detector, make_cluster(1))
    _, adapter, descriptor, *_ = detector.training_stages()
    for site in detector.sites:
        randomise(site.newest.adapter.up)
    for phase in (adapter, descriptor):
        sum(phase.loss(make_batch(make_cluster(1))).values()).backward()
        without = [name for name, value in phase.parameters.items() if value.grad is None or not value.grad.any()]
        assert without == []


def find_training(detector):
    """Names of modules in train mode that have no children."""
    modules = detector.reconstruction.named_modules(prefix="reconstruction")
    return {name for name, module in modules if module.training and not list(module.children())}


def test_frozen_modules_stay_in_eval_mode_when_train_is_called(backbone):
    detector = make_trained(backbone, 1, **ALWAYS, adapter_dropout=0.1)
    assert not find_training(detector.train())
    detector.start_task(1, 12)
    detector.eval()
    run_scan(detector, make_cluster(1))
    in_train_mode = find_training(detector.train())
    newest = [name for name in in_train_mode if ".slots.1." in name]
    assert newest
    assert in_train_mode == {*newest, "reconstruction.jitter"}


def test_the_trunk_is_trained_only_in_the_first_phase_of_the_first_task(backbone, monkeypatch):
    detector, modes = make_small(backbone, **ALWAYS), []
    original = PhaseTrainer._batch_rows

    def batch(trainer, done):
        dropout = detector.reconstruction.transformer.encoder[0].residuals["attn"].dropout
        modes.append((trainer._phase.name, dropout.training, detector.reconstruction.jitter.training))
        return original(trainer, done)

    monkeypatch.setattr(PhaseTrainer, "_batch_rows", batch)
    train_stream(detector, [make_cluster(0), make_cluster(1)])
    assert set(modes[:4]) == {("reconstruction", True, True), ("descriptor", False, False)}
    assert set(modes[4:]) == {("adapter", False, True), ("descriptor", False, False)}


def test_the_backbone_is_not_trained(backbone):
    with_weights = nn.Sequential(nn.Conv2d(3, 3, 1))
    with_weights.channels = (15,)
    stages = make_small(with_weights).training_stages()[:2]
    assert not any(name.startswith("backbone") for stage in stages for name in stage.parameters)


# ------------------------------------------------------------------------------------------------ descriptors


def test_descriptors_are_trained_on_features_without_noise_and_dropout(backbone):
    detector = make_small(backbone, uniad={"jitter": {"alpha": 50.0}, "dropout": 0.5})
    phase = detector.training_stages()[1]
    expected = float(phase.loss(make_batch(make_cluster(0)))["descriptor"].detach())
    detector.train()
    assert float(phase.loss(make_batch(make_cluster(0)))["descriptor"].detach()) == expected
    assert detector.reconstruction.training


def test_the_descriptor_loss_is_a_sum_over_sites_of_means_over_images(backbone):
    detector = make_small(backbone)
    means = detector.token_means(make_cluster(0))
    expected = sum(site.newest.descriptor.loss(means[n]).mean() for n, site in enumerate(detector.sites))
    loss = detector.training_stages()[1].loss(make_batch(make_cluster(0)))["descriptor"]
    torch.testing.assert_close(loss, expected)


def test_the_descriptor_loss_of_a_later_task_is_that_of_its_new_slots(full):
    run_scan(full, make_cluster(1, 8))
    phase = full.training_stages()[2]
    means = full.token_means(make_cluster(1, 8))
    expected = full.sites[0].newest.descriptor.loss(means[0]).mean()
    torch.testing.assert_close(phase.loss(make_batch(make_cluster(1, 8)))["descriptor"], expected)


# ------------------------------------------------------------------------------------------------ statistics


def run_statistics(detector, features):
    """Run the statistics of the first task; returns the rows of the images that were measured."""
    stage = detector.training_stages()[-1]
    run_observation(stage, features)
    return stage.begin.__self__.chosen.nonzero().flatten().tolist()


def test_the_seed_determines_the_images_of_the_statistics(backbone):
    chosen = [
        run_statistics(make_small(backbone, seed=seed, descriptor_buffer_size=8), make_cluster(0, 40))
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_statistics_come_from_a_clean_pass_after_the_training_of_the_descriptors(backbone):
    detector = make_trained(backbone, 1, uniad={"jitter": {"alpha": 50.0}})
    means = detector.token_means(make_cluster(0))
    for number, site in enumerate(detector.sites):
        descriptor = site.newest.descriptor
        torch.testing.assert_close(descriptor.record.losses, descriptor.loss(means[number]).detach())
        assert descriptor.record.frozen


def test_statistics_use_images_of_the_whole_task_up_to_the_buffer_size(backbone):
    detector = make_small(backbone, descriptor_buffer_size=8)
    detector.start_task(0, 200)
    chosen = run_statistics(detector, make_cluster(0, 200))
    assert len(detector.sites[0].newest.descriptor.record.losses) == len(chosen) == 8
    assert min(chosen) < 100 < max(chosen)


def test_repeated_statistics_are_those_of_the_current_descriptor(backbone):
    detector = make_small(backbone)
    detector.start_task(0, 12)
    descriptor = detector.sites[0].newest.descriptor
    for seed in (1, 2):
        randomise(descriptor, seed)
        run_statistics(detector, make_cluster(0))
    expected = descriptor.loss(detector.token_means(make_cluster(0))[0]).detach()
    torch.testing.assert_close(descriptor.record.losses, expected)


@pytest.mark.parametrize(
    "options", [{}, {"scan_order": "joint"}, {"routing": "rd"}, {"joint_loss": True}, {"routing": "reconstruction"}]
)
def test_descriptors_after_a_site_that_expands_later_are_measured_again(backbone, monkeypatch, options):
    """Site 1 expands, then site 0, which changes the input of site 1."""
    detector = make_trained(backbone, 1, **options)
    novel_sites = [1, 0]

    def z_scores(features):
        expanded = sum(count_slots(detector)) - len(detector.sites)
        novel = novel_sites[expanded] if expanded < len(novel_sites) else None
        return [torch.full((1, len(features)), 9.0 * (number == novel)) for number in range(len(detector.sites))]

    monkeypatch.setattr(detector, "z_scores", z_scores)
    train_task(detector, 1, make_cluster(1))
    assert count_slots(detector)[:2] == [2, 2]
    means = detector.token_means(make_cluster(1))
    for number in (0, 1):
        descriptor = detector.sites[number].newest.descriptor
        torch.testing.assert_close(descriptor.record.losses.sort().values, descriptor.loss(means[number]).sort().values)


# ------------------------------------------------------------------------------------------------ options


def test_the_joint_loss_adds_the_weighted_descriptor_loss_without_gradients_for_the_trunk(backbone):
    detector = make_small(backbone, joint_loss=True, descriptor_loss_weight=0.5)
    batch = make_batch(make_cluster(0))
    first, second = detector.training_stages()
    assert second.name == "statistics"
    losses = first.loss(batch)
    assert torch.equal(losses["mse"], detector.losses(batch)["mse"])
    descriptors = [name for name in first.parameters if ".descriptor." in name]
    gradients = torch.autograd.grad(losses["descriptor"], list(first.parameters.values()), allow_unused=True)
    with_gradient = {name for name, grad in zip(first.parameters, gradients, strict=True) if grad is not None}
    assert with_gradient == set(descriptors)
    expected = 0.5 * make_small(backbone).training_stages()[1].loss(batch)["descriptor"]
    torch.testing.assert_close(losses["descriptor"], expected)


def test_the_joint_loss_trains_all_modules_of_a_new_slot_together(backbone):
    detector = make_trained(backbone, 1, joint_loss=True, **ALWAYS)
    detector.start_task(1, 12)
    run_scan(detector, make_cluster(1))
    _, adapter, statistics, _ = detector.training_stages()
    modules = {name.split(".slots.1.")[1].split(".")[0] for name in adapter.parameters}
    assert modules == {"adapter", "descriptor", "router"}
    assert statistics.name == "statistics"


def test_reuse_finetune_does_not_train_descriptors_with_a_joint_loss(backbone):
    """Their statistics remain those of the task in which they were created."""
    detector = make_trained(backbone, 1, reuse_finetune=True, joint_loss=True, expansion_threshold=None)
    detector.start_task(1, 12)
    run_scan(detector, make_cluster(1))
    _, adapter = detector.training_stages()
    assert {name.split(".slots.0.")[1].split(".")[0] for name in adapter.parameters} == {"adapter"}


@pytest.mark.parametrize("novel", [False, True])
def test_reuse_finetune_trains_existing_adapters_only_without_an_expansion(backbone, novel):
    detector = make_trained(backbone, 1, reuse_finetune=True, expansion_threshold=-1.0 if novel else None)
    before = copy_state(detector)
    train_task(detector, 1, make_cluster(1))
    after = copy_state(detector)
    changed = {name for name in before if name != "progress" and not torch.equal(before[name], after[name])}
    modules = {name.split(".slots.0.")[1].split(".")[0] for name in changed}
    assert modules == (set() if novel else {"adapter"})  # a single router column has no effect


def test_options_of_slots_are_passed_on(backbone):
    adapter_options = {"adapter_bottleneck": 5, "adapter_dropout": 0.25, "adapter_scalar": 0.5, "new_router_bias": -4.0}
    descriptor_options = {"descriptor_dim": 3, "descriptor_relu": True, "descriptor_buffer_size": 7, "one_sided": True}
    site = make_small(backbone, **adapter_options, **descriptor_options).sites[0].adapter
    site.resize(2)
    for slot in site.all_slots:
        adapter, descriptor = slot.adapter, slot.descriptor
        assert (adapter.down.out_features, adapter.dropout.p, adapter.scalar) == (5, 0.25, 0.5)
        assert (descriptor.encode.out_features, type(descriptor.activation)) == (3, nn.ReLU)
        assert (descriptor.record.size, descriptor.record.one_sided) == (7, True)
    assert site.newest.router.bias.item() == -4


def test_layers_that_may_expand_can_be_fewer_than_those_with_adapters(backbone):
    detector = make_trained(backbone, 2, **ALWAYS, expand_start=1, expand_end=2)
    assert count_slots(detector) == [1, 2, 2, 1]


def test_routing_by_descriptors_has_no_router(backbone):
    assert not [name for name in make_small(backbone, routing="rd").learned_state() if "router" in name]


# ------------------------------------------------------------------------------------------------ configs

STREAMS = {
    "10x1": "hazelnut;bottle;cable;capsule;metal_nut;pill;toothbrush;transistor;zipper;screw",
    "15x1": "15x1",
    "10-1x5": "10-1x5",
    "lite0": "10-1x5",
}


@pytest.mark.parametrize("name", STREAMS)
def test_configs_have_the_streams_of_their_names(name):
    protocol = load_config(f"sema_uniad/sema_uniad_{name}.py").protocol
    assert (protocol.name, protocol.strategy, protocol.tasks) == ("continual", "native", STREAMS[name])


# name of an ablation -> records of `sema_config` that it changes
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


def build_ablation(name):
    """The config of an ablation, and its detector at a small size with a random backbone."""
    changes = {"model.backbone.weights": "random", "model.width": 16, "model.hidden": 16}
    cfg = load_config(f"sema_uniad/sema_uniad_lite0{name}.py", changes)
    return cfg, build_detector(to_plain(cfg.model))


@pytest.fixture(scope="module")
def base_record():
    _, detector = build_ablation("")
    return detector.sema.record()


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_can_be_trained_and_changes_the_setting_of_its_name(base_record, name):
    cfg, detector = build_ablation(f"_{name}")
    check_training(detector.training_stages(), to_plain(cfg.trainer), torch.device("cpu"), detector.phase_names())
    assert detector.summary().config_records["sema_config"] == base_record | ABLATIONS[name]
    assert (detector.memory.kind == "series") is (name == "memory")


def test_all_phases_have_a_name_before_the_first_task(backbone):
    assert set(make_trainer()["phases"]) | {"reconstruction"} == set(make_small(backbone).phase_names())
