"""SEMA-UniAD on streams of tasks: when it expands, in which order, what it never changes, and how it is resumed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sema_stream import (
    ALWAYS,
    TWO_LAYERS,
    copy_state,
    count_slots,
    find_differences,
    make_cluster,
    make_small,
    make_trained,
    make_trainer,
    randomise,
    run_observation,
    run_scan,
    run_stage,
    train_stream,
    train_task,
    train_whole_task,
)

from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, Phase
from anoframe.models.sema_uniad.expansion import scan_rows
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.training.loop import PhaseTrainer

pytestmark = pytest.mark.slow

A, B, C = make_cluster(0), make_cluster(1), make_cluster(2)
LOAD_OR_START_FIRST = pytest.mark.parametrize("start_first", [False, True], ids=["load, start", "start, load"])


@pytest.fixture
def small_batches(monkeypatch):
    """Scan batches of 4 images, so that a task has several."""
    monkeypatch.setattr(SemaUniAD, "scan_batch_size", 4)


def get_expansions(detector, *keys):
    return [tuple(event[key] for key in keys) for event in detector.expansions]


def predict_maps(detector, images):
    return detector.predict(images).anomaly_map


# ------------------------------------------------------------------------------------------------ when it expands


@pytest.fixture(scope="module")
def longer():
    """A trainer with enough steps for descriptors to learn their task."""
    trainer = make_trainer(reconstruction=5, adapter=5, descriptor=100)
    trainer["phases"]["descriptor"]["optimizer"]["lr"] = 0.02
    return trainer


@pytest.mark.parametrize("options", [
    {"end_layer": 0},  # one site: no adapter changes its input
    {"routing": "rd", "start_layer": 1, "end_layer": 3},  # old images are routed as before
], ids=["one site", "three sites, routing by descriptors"])  # fmt: skip
def test_it_expands_for_new_images_and_not_for_known_ones(backbone, longer, options):
    known, new, known_again = make_cluster(0, 30), make_cluster(1, 30), make_cluster(0, 30, draw=1)
    detector = make_small(backbone, uniad={"width": 32}, **options)
    train_stream(detector, [known, new], longer)
    z = [site.mean(1) for site in detector.z_scores(make_cluster(1, 30, draw=1))]
    assert z[0][0] > 9  # novel to the slot of the first task
    assert z[0][1] < 3  # known to the slot of the second
    train_whole_task(detector, 2, known_again, longer)
    expansions = get_expansions(detector, "task", "min_z")
    assert len(expansions) == len(detector.sites)
    assert all(task == 1 and z > 9 for task, z in expansions)


def test_without_a_threshold_it_never_expands_and_no_result_changes_to_the_bit(backbone, images_of):
    detector = make_trained(backbone, 1, expansion_threshold=None)
    before, state = predict_maps(detector, images_of(0, 4)), copy_state(detector)
    for task, features in ((1, B), (2, C)):
        train_whole_task(detector, task, features)
        assert torch.equal(predict_maps(detector, images_of(0, 4)), before)
    assert find_differences(state, copy_state(detector)) == {"progress"}
    assert count_slots(detector) == [1, 1, 1, 1]


def test_if_every_batch_is_novel_each_site_gets_one_slot_per_task(backbone):
    detector = make_trained(backbone, 3, **ALWAYS)
    assert count_slots(detector) == [3, 3, 3, 3]
    assert [task for (task,) in get_expansions(detector, "task")] == [1] * 4 + [2] * 4


def test_the_first_task_never_expands(backbone):
    assert count_slots(make_trained(backbone, 1, **ALWAYS)) == [1, 1, 1, 1]


@pytest.mark.usefixtures("small_batches")
def test_a_site_expands_once_per_task_however_many_batches_are_novel(backbone):
    detector = make_small(backbone, **ALWAYS, end_layer=0)
    train_stream(detector, [A, B])
    assert count_slots(detector) == [2]
    assert len(detector.scans) == 2 * 3  # a pass with an expansion, and one without
    train_task(detector, 2, C)
    assert count_slots(detector) == [3]


# ------------------------------------------------------------------------------------------------ order


def test_sites_expand_from_the_first_layer_to_the_last(backbone):
    detector = make_trained(backbone, 2, **ALWAYS, position="both")
    order = [[site.layer_id, site.kind] for site in detector.sites]
    assert [site for (site,) in get_expansions(detector, "site")] == order
    assert [layer for layer, _ in order] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def test_phases_of_one_slot_have_its_site_as_label(backbone):
    """Otherwise eight curves of a task would have the same name."""
    detector = make_trained(backbone, 1, **ALWAYS)
    train_task(detector, 1, B)
    phases = [stage for stage in detector.training_stages() if isinstance(stage, Phase) and stage.name == "adapter"]
    assert [phase.label for phase in phases] == [f"layer {layer} ffn" for layer in range(4)]


def test_each_slot_is_trained_before_the_next_site_is_tested(backbone, monkeypatch):
    """Also that new adapters are trained at all: their optimiser is built after them: D1."""
    detector, events = make_trained(backbone, 1, **ALWAYS), []
    original_z_scores, original_update = detector.z_scores, PhaseTrainer._update

    def z_scores(features):
        events.append(("scan", [bool(site.newest.adapter.up.weight.any()) for site in detector.sites]))
        return original_z_scores(features)

    def update(trainer):
        events.append(trainer._phase.name)
        original_update(trainer)

    monkeypatch.setattr(detector, "z_scores", z_scores)
    monkeypatch.setattr(PhaseTrainer, "_update", update)
    train_whole_task(detector, 1, B)
    trained = ["adapter"] * 2 + ["descriptor"] * 2
    assert events == [("scan", [True] * 4), *(4 * [*trained, ("scan", [True] * 4)])]


@pytest.mark.usefixtures("small_batches")
def test_one_site_expands_per_batch_and_the_batch_is_scanned_again(backbone):
    """In the prototype several sites expanded in one forward pass, and their batch was skipped: D8."""
    detector = train_stream(make_small(backbone, **ALWAYS), [A, make_cluster(1, 8)])
    assert get_expansions(detector, "pass", "batch") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    last = [scan for scan in detector.scans if scan["pass"] == 2]
    assert [(scan["batch"], scan["images"]) for scan in last] == [(0, 4), (1, 4)]
    assert all(stage.rows for stage in detector.training_stages() if stage.name == "scan")  # no scan without images


@pytest.mark.usefixtures("small_batches")
def test_a_scan_continues_with_the_remaining_batches_and_ends_with_a_pass_without_expansion(backbone):
    detector = make_small(backbone, **ALWAYS, end_layer=0)
    train_stream(detector, [A, make_cluster(1, 10)])
    scanned = [(scan["pass"], scan["batch"], scan["images"]) for scan in detector.scans]
    assert scanned == [(0, 0, 4), (0, 1, 4), (0, 2, 2), (1, 0, 4), (1, 1, 4), (1, 2, 2)]


def test_a_pass_scans_every_image_once_and_each_pass_in_another_order():
    passes = [scan_rows(0, 1, number, 10) for number in (0, 1)]
    assert all(sorted(rows) == list(range(10)) for rows in passes)
    assert passes[0] != passes[1]
    assert scan_rows(0, 1, 0, 10) == passes[0]


@pytest.mark.usefixtures("small_batches")
def test_a_joint_scan_sees_all_images_and_trains_all_new_slots_together(backbone):
    detector = make_trained(backbone, 1, **ALWAYS, scan_order="joint")
    detector.start_task(1, 12)
    run_scan(detector, B)
    assert len(detector.scans) == 3
    assert count_slots(detector) == [2, 2, 2, 2]
    stages = detector.training_stages()
    assert [stage.name for stage in stages] == ["scan", "adapter", "descriptor", "statistics", "scan"]
    assert len({name.split(".adapter.slots.1.")[0] for name in stages[1].parameters}) == 4


def set_novel_sites(monkeypatch, detector, *sites):
    """Make each scanned batch novel to the next of these sites only, and later batches to none."""
    remaining = iter(sites)

    def z_scores(features):
        novel = next(remaining, None)
        return [torch.full((1, len(features)), 9.0 * (number == novel)) for number in range(len(detector.sites))]

    monkeypatch.setattr(detector, "z_scores", z_scores)


@pytest.mark.parametrize("order", ["sequential", "joint"])
def test_slots_after_a_site_that_expands_later_are_trained_again_without_records(backbone, monkeypatch, order):
    detector = make_trained(backbone, 1, scan_order=order)
    set_novel_sites(monkeypatch, detector, 1, 0)
    detector.start_task(1, len(B))
    run_scan(detector, B)
    detector.sites[1].newest.descriptor.record.push(torch.rand(9))
    run_scan(detector, B)
    assert not len(detector.sites[1].newest.descriptor.record.losses)
    adapter, descriptor, _, _ = detector.training_stages()[-4:]
    for phase, sites in ((adapter, [0, 1] if order == "joint" else [0]), (descriptor, [0, 1])):
        names = [detector.sites[number].name for number in sites]
        assert {name.split(".slots.")[0] for name in phase.parameters} == set(names)


def test_expansions_of_an_earlier_task_do_not_count_for_the_current_one(backbone, monkeypatch):
    """A task without novel batches is scanned once, and with `reuse_finetune` it trains the existing adapters."""
    detector = make_trained(backbone, 1, reuse_finetune=True)
    set_novel_sites(monkeypatch, detector, 0)
    train_whole_task(detector, 1, B)
    detector.start_task(2, len(C))
    run_observation(detector.training_stages()[0], C)
    assert [stage.name for stage in detector.training_stages()] == ["scan", "adapter"]


# ------------------------------------------------------------------------------------------------ records


def test_every_scanned_batch_is_recorded(backbone):
    scans = make_trained(backbone, 3, **ALWAYS).scans
    assert {scan["task"] for scan in scans} == {1, 2}
    for scan in scans:
        assert [min(z) for z in scan["all_z"]] == scan["min_z"]
        assert len(scan["all_z"]) == 4
    assert [len(z) for z in scans[-1]["all_z"]] == [3, 3, 3, 3]


def test_the_z_of_an_expansion_is_the_mean_over_the_batch(backbone):
    detector = make_trained(backbone, 1, **ALWAYS)
    z = detector.z_scores(B)
    detector.start_task(1, 12)
    run_scan(detector, B)
    (event,) = detector.expansions
    assert event["all_z"] == pytest.approx(z[0].mean(1).tolist(), rel=1e-4)
    assert event["min_z"] == min(event["all_z"])


def test_a_scan_is_the_same_in_train_mode_with_noise_and_dropout(backbone):
    """The prototype scanned in train mode, in batches of 8 with noise: D5."""
    scans = []
    for train in (False, True, True):
        uniad = {"dropout": 0.5, "jitter": {"alpha": 50.0}}
        detector = make_trained(backbone, 1, uniad=uniad, adapter_dropout=0.5)
        detector.start_task(1, 12)
        torch.rand(3)  # the state of the generator must not matter
        detector.train(train)
        for parameter in detector.reconstruction.parameters():
            parameter.requires_grad_(train)
        detector.train(train)
        run_scan(detector, B)
        scans.append(detector.scans)
    assert scans[0] == scans[1] == scans[2]


def test_the_seed_determines_new_slots_whatever_was_drawn_before(backbone):
    states = []
    for drawn, seed in ((0, 3), (5, 3), (0, 4)):
        detector = make_trained(backbone, 1, seed=seed, **ALWAYS)
        torch.rand(drawn)
        detector.start_task(1, 12)
        run_scan(detector, B)
        states.append(copy_state(detector))
    assert find_differences(states[0], states[1]) == set()
    assert any(".slots.1." in name for name in find_differences(states[0], states[2]))


def test_all_slots_are_drawn_independently_without_using_torchs_global_generator(backbone):
    detector = make_small(backbone, **ALWAYS, scan_order="joint")
    before = torch.get_rng_state()
    for task in range(3):
        detector.start_task(task, len(B))
        if task:
            run_observation(detector.training_stages()[0], B)
        detector.finish_task()
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [slot.adapter.down.weight for site in detector.sites for slot in site.adapter.all_slots]
    assert len(drawn) == 3 * 4
    assert not any(torch.equal(first, second) for i, first in enumerate(drawn) for second in drawn[:i])


def test_seed_and_task_determine_the_order_of_a_scan(backbone):
    orders = []
    for seed, task in ((0, 1), (0, 1), (1, 1), (0, 2)):
        detector = make_small(backbone, seed=seed)
        for number in range(task):
            detector.start_task(number, 40)
            detector.finish_task()
        detector.start_task(task, 40)
        orders.append(detector.training_stages()[0].rows)
    assert orders[0] == orders[1]
    assert orders[2] != orders[0] != orders[3]


# ------------------------------------------------------------------------------------------------ frozen state


def test_a_later_task_changes_no_existing_tensor(backbone):
    """The prototype retrained the trunk and its routers in every task: D2 and D6."""
    detector = make_trained(backbone, 1, uniad=TWO_LAYERS, **ALWAYS, position="both")
    for task, features in ((1, B), (2, C)):
        before = copy_state(detector)
        train_whole_task(detector, task, features)
        after = copy_state(detector)
        assert {name for name in before if not torch.equal(before[name], after[name])} == {"progress"}
        assert len(after) > len(before)


def test_a_new_slot_is_trained(backbone):
    """D1: it is not zero any more when it is frozen."""
    detector = make_trained(backbone, 1, **ALWAYS)
    detector.start_task(1, 12)
    run_scan(detector, B)
    before = copy_state(detector)
    train_task(detector, 1, B)
    after = copy_state(detector)
    slot = [name for name in before if name.startswith("reconstruction.transformer.encoder.0") and ".slots.1." in name]
    changed = {name.split(".slots.1.")[1] for name in slot if not torch.equal(before[name], after[name])}
    assert changed == {
        *(f"adapter.{layer}.{kind}" for layer in ("down", "up") for kind in ("weight", "bias")),
        *(f"descriptor.{layer}.{kind}" for layer in ("encode", "decode") for kind in ("weight", "bias")),
        "router.weight", "router.bias", "descriptor.record.losses", "descriptor.record.frozen",
    }  # fmt: skip


def test_old_and_new_slots_have_their_own_frozen_statistics(backbone):
    detector = make_trained(backbone, 2, **ALWAYS)
    first, second = (slot.descriptor.record for slot in detector.sites[0].adapter.slots)
    assert first.frozen
    assert second.frozen
    assert not torch.equal(first.losses, second.losses)


# ------------------------------------------------------------------------------------------------ checkpoints


def test_a_checkpoint_with_expanded_sites_loads_into_a_new_detector(backbone, images_of):
    """With its statistics, which the prototype did not save: D7."""
    detector = train_stream(make_small(backbone, **ALWAYS), [A, B])
    loaded = make_small(backbone, **ALWAYS)
    loaded.load_learned_state(copy_state(detector))
    assert find_differences(detector.learned_state(), loaded.learned_state()) == set()
    assert torch.equal(predict_maps(loaded, images_of(0, 3)), predict_maps(detector, images_of(0, 3)))
    for actual, expected in zip(loaded.z_scores(C), detector.z_scores(C), strict=True):
        assert torch.equal(actual, expected)
        assert actual.any()
    assert loaded.summary() == detector.summary()
    assert loaded.scans == detector.scans
    assert not any(parameter.requires_grad for parameter in loaded.reconstruction.parameters())


def test_sites_with_different_numbers_of_slots_load(backbone):
    state = copy_state(make_trained(backbone, 3, **ALWAYS, expand_end=1))
    loaded = make_small(backbone)
    loaded.load_learned_state(state)
    assert count_slots(loaded) == [3, 3, 1, 1]


def test_an_older_state_loads_into_a_detector_that_has_expanded_since(backbone, images_of):
    detector = make_trained(backbone, 1, **ALWAYS)
    older, before = copy_state(detector), predict_maps(detector, images_of(0, 3))
    train_whole_task(detector, 1, B)
    detector.load_learned_state(older)
    assert count_slots(detector) == [1, 1, 1, 1]
    assert torch.equal(predict_maps(detector, images_of(0, 3)), before)


def test_a_checkpoint_with_other_sites_raises_an_error_with_the_keys(backbone):
    state = copy_state(make_small(backbone, position="both"))
    with pytest.raises(AnoframeError, match=r"at 10 sites and this model at 4: set model\.sema\.position, model\.sema"):
        make_small(backbone).load_learned_state(state)


def test_a_damaged_progress_raises_an_error(backbone):
    state = copy_state(make_small(backbone)) | {"progress": torch.tensor([255, 1], dtype=torch.uint8)}
    with pytest.raises(AnoframeError, match="the checkpoint's tensor `progress` is damaged"):
        make_small(backbone).load_learned_state(state)


def test_tasks_must_be_trained_in_order(backbone):
    detector = make_small(backbone)
    detector.start_task(2, 12)
    with pytest.raises(AnoframeError, match="task 2 cannot be trained now, no task has been trained yet"):
        detector.training_stages()


# ------------------------------------------------------------------------------------------------ resuming

SHORT = {**ALWAYS, "adapter_dropout": 0.2}


def make_short(backbone):
    return make_small(backbone, uniad=TWO_LAYERS, **SHORT)


def run_stages(backbone, exchange):
    """Run a stream without the trainer.

    Args:
        exchange: returns the detector that continues after each stage.

    Returns:
        The final state, and after each stage the types and names of the stages done in its task.
    """
    detector, done_stages = make_short(backbone), []
    for task, features in enumerate((A, B, C)):
        detector.start_task(task, len(features))
        done = 0
        while done < len(stages := detector.training_stages()):
            run_stage(detector, stages[done], features, seed=done)
            done += 1
            done_stages.append([(type(stage), stage.name) for stage in detector.training_stages()][:done])
            detector = exchange(detector, task, len(features))
        detector.finish_task()
    return copy_state(detector), done_stages


@pytest.fixture(scope="module")
def uninterrupted():
    """State and stages of a stream that is run by one detector."""
    backbone = torch.nn.Identity()
    backbone.channels = (15,)
    return run_stages(backbone, lambda detector, task, images: detector)


@LOAD_OR_START_FIRST
def test_a_new_detector_continues_between_any_two_stages_with_the_same_result_to_the_bit(
    backbone, uninterrupted, start_first
):
    def exchange(detector, task, images):
        new = make_short(backbone)
        if start_first:
            new.start_task(task, images)
        new.load_learned_state(copy_state(detector))
        if not start_first:
            new.start_task(task, images)
        return new

    expected, expected_stages = uninterrupted
    state, stages = run_stages(backbone, exchange)
    assert find_differences(expected, state) == set()
    assert stages == expected_stages


def test_finished_stages_stay_at_the_front(uninterrupted):
    _, stages = uninterrupted
    for earlier, later in pairwise(stages):
        assert len(later) == 1 or later[: len(earlier)] == earlier
    assert {kind for kind, _ in stages[-1]} == {Observation, Phase}


@LOAD_OR_START_FIRST
def test_the_next_task_starts_from_the_checkpoint_of_the_last(backbone, start_first):
    detector = make_trained(backbone, 1, **ALWAYS)
    new = make_small(backbone, **ALWAYS)
    if start_first:
        new.start_task(1, 12)
    new.load_learned_state(copy_state(detector))
    if start_first:
        assert [stage.name for stage in new.training_stages()] == ["scan"]
    for continued in (detector, new):
        train_whole_task(continued, 1, B)
    assert find_differences(detector.learned_state(), new.learned_state()) == set()


class Kill(BaseException):
    """Stands for a killed process: no code of the run handles it."""


def kill_after(detector, limit):
    """Raise Kill when the stages of a detector have called their functions `limit` times; returns the list of calls."""
    calls, original = [], detector.training_stages

    def counted(function):
        def call(*arguments):
            if len(calls) == limit:
                raise Kill
            calls.append(function)
            return function(*arguments)

        return call

    def training_stages():
        return [
            replace(stage, loss=counted(stage.loss))
            if isinstance(stage, Phase)
            else replace(stage, observe=counted(stage.observe), finish=counted(stage.finish))
            for stage in original()
        ]

    detector.training_stages = training_stages
    return calls


def test_a_killed_task_is_resumed_by_the_trainer_with_the_same_result_to_the_bit(backbone, tmp_path):
    """Killed at every call of a loss, an observation, or the end of one; both orders of load and start alternate."""
    trainer = make_trainer(descriptor=1)
    detector = make_trained(backbone, 1, uniad=TWO_LAYERS, **SHORT)
    start, calls = copy_state(detector), kill_after(detector, -1)
    train_task(detector, 1, B, trainer=trainer)
    expected = copy_state(detector)
    assert len(calls) > 12
    for kill_at in range(len(calls)):
        folder = tmp_path / f"{kill_at}"
        for is_killed in (True, False):
            detector = make_short(backbone)
            if kill_at % 2:
                detector.start_task(1, len(B))
            detector.load_learned_state({name: value.clone() for name, value in start.items()})
            if is_killed:
                kill_after(detector, kill_at)
            with suppress(Kill):
                train_task(detector, 1, B, folder, trainer)
        assert find_differences(expected, detector.learned_state()) == set(), kill_at


def test_frozen_parameters_are_frozen_after_loading_a_checkpoint(backbone):
    """D6 after a resume: only the slot that is trained requires gradients."""
    detector = make_trained(backbone, 1, **ALWAYS)
    detector.start_task(1, 12)
    run_scan(detector, B)
    loaded = make_small(backbone, **ALWAYS)
    randomise(loaded.reconstruction)
    loaded.load_learned_state(copy_state(detector))
    trainable = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("encoder.0" in name and ".slots.1." in name for name in trainable)
