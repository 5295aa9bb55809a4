"""SEMA-UniAD on streams of tasks: when it expands, in which order, what it never changes, and how it goes on."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
import torch
from sema_stream import (
    cluster,
    differing,
    disturb,
    learn_stream,
    learn_task,
    section,
    show,
    small,
    state_of,
    take_step,
)

from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, Phase
from anoframe.models.sema_uniad import model as sema_uniad
from anoframe.training.loop import PhaseTrainer

A, B, C = cluster(0), cluster(1), cluster(2)
ALWAYS = {"expansion_threshold": -1.0}
BOTH_ORDERS = pytest.mark.parametrize("task_first", [False, True], ids=["load then start", "start then load"])


@pytest.fixture
def in_fours(monkeypatch):
    """Batches of a scan are small, so that a task has several."""
    monkeypatch.setattr(sema_uniad, "TOGETHER", 4)


def slots(detector):
    return [len(place.site.slots) for place in detector.places]


def expansions(detector, *keys):
    return [tuple(one[key] for key in keys) for one in detector.growth()["expansions"]]


def maps(detector, images):
    return detector.predict(images).anomaly_map


# ------------------------------------------------------------------------------------------------ when it expands


@pytest.fixture(scope="module")
def longer():
    """So many steps that a descriptor knows its task."""
    how = section(reconstruction=5, adapter=5, descriptor=100)
    how["phases"]["descriptor"]["optimizer"]["lr"] = 0.02
    return how


@pytest.mark.parametrize("options", [
    {"sema_end_layer": 0},  # one site: what reaches it is changed by no adapter
    {"routing": "rd", "sema_start_layer": 1, "sema_end_layer": 3},  # old images pass as they did before
], ids=["one site", "three sites, routing by descriptors"])  # fmt: skip
def test_it_expands_for_what_is_new_and_not_for_what_it_knows(backbone, longer, options):
    known, new, known_again = cluster(0, 30), cluster(1, 30), cluster(0, 30, draw=1)
    detector = learn_stream(small(backbone, width=32, **options), [known, new, known_again], longer)
    found = expansions(detector, "task", "min_z")
    assert len(found) == len(detector.places)
    assert all(task == 1 and z > 9 for task, z in found)


def test_by_reconstruction_no_image_is_rebuilt_worse_after_a_later_task(backbone):
    """Its old path is still there, and frozen. It may find a better one."""
    detector = learn_stream(small(backbone, routing="reconstruction", **ALWAYS), [A])
    missed = [_missed(detector, cluster(0, 6, draw=1))]
    for task, features in ((1, B), (2, C), (3, A)):
        learn_task(detector, task, features)
        detector.finish_task()
        missed.append(_missed(detector, cluster(0, 6, draw=1)))
    assert all(bool((after <= before).all()) for before, after in pairwise(missed))
    assert bool((missed[-1] < missed[0]).any())


@torch.no_grad()
def _missed(detector, features):
    """Mean square of what is missed of each image."""
    return detector.distance(features, detector.reconstruct(features)).square().mean((1, 2))


def test_no_threshold_is_passed_where_there_is_none_and_no_result_changes_to_the_bit(backbone, images_of):
    detector = learn_stream(small(backbone, expansion_threshold=None), [A])
    before, state = maps(detector, images_of(0, 4)), state_of(detector)
    for task, features in ((1, B), (2, C)):
        learn_task(detector, task, features)
        detector.finish_task()
        assert torch.equal(maps(detector, images_of(0, 4)), before)
    assert differing(state, state_of(detector)) == {"progress"}
    assert slots(detector) == [1, 1, 1, 1]


def test_where_everything_is_strange_each_site_gets_one_slot_a_task(backbone):
    detector = learn_stream(small(backbone, **ALWAYS), [A, B, C])
    assert slots(detector) == [3, 3, 3, 3]
    assert [task for (task,) in expansions(detector, "task")] == [1] * 4 + [2] * 4


def test_the_first_task_never_expands(backbone):
    assert slots(learn_stream(small(backbone, **ALWAYS), [A])) == [1, 1, 1, 1]


@pytest.mark.usefixtures("in_fours")
def test_a_site_grows_once_a_task_however_many_batches_are_strange(backbone):
    detector = small(backbone, **ALWAYS, sema_end_layer=0)
    learn_stream(detector, [A, B])
    assert slots(detector) == [2]
    assert len(detector.growth()["scans"]) == 2 * 3  # a pass that found something, and one that did not
    learn_task(detector, 2, C)
    assert slots(detector) == [3]


def test_a_task_that_any_slot_knows_is_not_strange(backbone, longer):
    detector = small(backbone, width=32, sema_end_layer=0)
    learn_stream(detector, [cluster(0, 30), cluster(1, 30)], longer)
    z = [one.mean(1) for one in detector.strangeness(cluster(1, 30, draw=1))]
    assert z[0][0] > 9  # the first slot does not know it
    assert z[0][1] < 3


# ------------------------------------------------------------------------------------------------ the order


def test_sites_grow_from_the_first_layer_to_the_last(backbone):
    detector = small(backbone, **ALWAYS, sema_position="both")
    order = [[place.layer_id, place.kind] for place in detector.places]
    learn_stream(detector, [A, B])
    assert [site for (site,) in expansions(detector, "site")] == order
    assert [layer for layer, _ in order] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def test_phases_of_one_slot_say_which_site_it_is_of(backbone):
    """Or eight curves of a task would have one name."""
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    learn_task(detector, 1, B)
    labels = [step.label for step in detector.training_stages() if isinstance(step, Phase) and step.name == "adapter"]
    assert labels == [f"layer {layer} ffn" for layer in range(4)]


def test_each_slot_is_trained_before_the_next_site_is_judged(backbone, monkeypatch):
    """Also that adapters are trained at all, by an optimiser that was built after they were: D1."""
    detector, events = small(backbone, **ALWAYS), []
    scan, update = detector._scan, PhaseTrainer._update

    def judged(features, samples):
        events.append(("scan", [bool(place.site.newest.adapter.up.weight.any()) for place in detector.places]))
        return scan(features, samples)

    def updated(trainer):
        events.append(trainer._phase.name)
        update(trainer)

    learn_stream(detector, [A])
    monkeypatch.setattr(detector, "_scan", judged)
    monkeypatch.setattr(PhaseTrainer, "_update", updated)
    learn_stream_on(detector, 1, B)
    trained = ["adapter"] * 2 + ["descriptor"] * 2
    assert events == [("scan", [True] * 4), *(4 * [*trained, ("scan", [True] * 4)])]


def learn_stream_on(detector, task, features):
    learn_task(detector, task, features)
    detector.finish_task()


@pytest.mark.usefixtures("in_fours")
def test_one_site_grows_a_batch_and_the_batch_is_seen_again(backbone):
    """In the prototype several grew in one forward, and the batch that they grew for was skipped: D8."""
    detector = learn_stream(small(backbone, **ALWAYS), [A, cluster(1, 8)])
    assert expansions(detector, "pass", "batch") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    last = [one for one in detector.growth()["scans"] if one["pass"] == 2]
    assert [(one["batch"], one["images"]) for one in last] == [(0, 4), (1, 4)]
    assert all(step.rows for step in detector.training_stages() if step.name == "scan")  # none looks at nothing


@pytest.mark.usefixtures("in_fours")
def test_a_scan_goes_on_with_the_batches_that_are_left_and_ends_with_a_clean_pass(backbone):
    detector = small(backbone, **ALWAYS, sema_end_layer=0)
    learn_stream(detector, [A, cluster(1, 10)])
    seen = [(one["pass"], one["batch"], one["images"]) for one in detector.growth()["scans"]]
    assert seen == [(0, 0, 4), (0, 1, 4), (0, 2, 2), (1, 0, 4), (1, 1, 4), (1, 2, 2)]


@pytest.mark.usefixtures("in_fours")
def test_a_pass_sees_every_image_once_and_each_pass_in_another_order(backbone):
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    detector.start_task(1, 10)
    passes = [detector._order(number) for number in (0, 1)]
    assert all(sorted(rows) == list(range(10)) for rows in passes)
    assert passes[0] != passes[1]
    assert detector._order(0) == passes[0]


@pytest.mark.usefixtures("in_fours")
def test_a_joint_scan_looks_at_all_images_and_trains_all_new_slots_together(backbone):
    detector = learn_stream(small(backbone, **ALWAYS, scan_order="joint"), [A])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], B)
    assert len(detector.growth()["scans"]) == 3
    assert slots(detector) == [2, 2, 2, 2]
    steps = detector.training_stages()
    assert [step.name for step in steps] == ["scan", "adapter", "descriptor", "statistics", "scan"]
    assert len({name.split(".adapter.slots.1.")[0] for name in steps[1].parameters}) == 4


def strange_at(monkeypatch, detector, *sites):
    """Has each scanned batch find one more of the sites strange, in this order, and no other one after them."""
    at = iter(sites)

    def strangeness(features):
        one = next(at, None)
        return [torch.full((1, len(features)), 9.0 * (number == one)) for number in range(len(detector.places))]

    monkeypatch.setattr(detector, "strangeness", strangeness)


@pytest.mark.parametrize("order", ["sequential", "joint"])
def test_sites_behind_one_that_grew_forget_their_records_and_are_trained_together_again(backbone, monkeypatch, order):
    detector = learn_stream(small(backbone, scan_order=order), [A])
    strange_at(monkeypatch, detector, 1, 0)
    detector.start_task(1, len(B))
    show(detector.training_stages()[0], B)
    detector.places[1].site.newest.descriptor.record.push(torch.rand(9))
    show(detector.training_stages()[-1], B)
    assert not len(detector.places[1].site.newest.descriptor.record.losses)
    adapter, descriptor, _, _ = detector.training_stages()[-4:]
    for phase, sites in ((adapter, [0, 1] if order == "joint" else [0]), (descriptor, [0, 1])):
        names = [detector.places[number].name for number in sites]
        assert {name.split(".slots.")[0] for name in phase.parameters} == set(names)


def test_what_an_earlier_task_grew_is_not_taken_for_this_ones(backbone, monkeypatch):
    """A task in which nothing is strange is looked through once, and reuses what there is, where that is asked for."""
    detector = learn_stream(small(backbone, reuse_finetune=True), [A])
    strange_at(monkeypatch, detector, 0)
    learn_stream_on(detector, 1, B)
    detector.start_task(2, len(C))
    show(detector.training_stages()[0], C)
    assert [step.name for step in detector.training_stages()] == ["scan", "adapter"]


# ------------------------------------------------------------------------------------------------ what it sees


def test_every_batch_that_was_judged_is_told_of(backbone):
    detector = learn_stream(small(backbone, **ALWAYS), [A, B, C])
    scans = detector.growth()["scans"]
    assert {one["task"] for one in scans} == {1, 2}
    for one in scans:
        assert [min(z) for z in one["all_z"]] == one["min_z"]
        assert len(one["all_z"]) == 4
    assert [len(z) for z in scans[-1]["all_z"]] == [3, 3, 3, 3]


def test_z_of_an_event_is_the_mean_over_the_batch_by_hand(backbone):
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    z = detector.strangeness(B)
    detector.start_task(1, 12)
    show(detector.training_stages()[0], B)
    (event,) = detector.growth()["expansions"]
    assert event["all_z"] == pytest.approx(z[0].mean(1).tolist(), rel=1e-4)
    assert event["min_z"] == min(event["all_z"])


def test_scanning_is_the_same_in_train_mode_with_noise_and_dropout_on(backbone):
    """The prototype judged in train mode, batches of 8 with noise on them: D5."""
    found = []
    for train in (False, True, True):
        detector = learn_stream(small(backbone, dropout=0.5, adapter_dropout=0.5, jitter={"alpha": 50.0}), [A])
        detector.start_task(1, 12)
        torch.rand(3)  # whatever was drawn before
        detector.train(train)
        for parameter in detector.reconstruction.parameters():
            parameter.requires_grad_(train)
        detector.train(train)
        show(detector.training_stages()[0], B)
        found.append(detector.growth()["scans"])
    assert found[0] == found[1] == found[2]


def test_a_seed_decides_what_is_grown_whatever_was_drawn_before(backbone):
    states = []
    for drawn, seed in ((0, 3), (5, 3), (0, 4)):
        detector = learn_stream(small(backbone, **ALWAYS, seed=seed), [A])
        torch.rand(drawn)
        detector.start_task(1, 12)
        show(detector.training_stages()[0], B)
        states.append(state_of(detector))
    assert differing(states[0], states[1]) == set()
    assert any(".slots.1." in name for name in differing(states[0], states[2]))


def test_every_slot_is_drawn_apart_and_leaves_torchs_generator_alone(backbone):
    detector = small(backbone, **ALWAYS, scan_order="joint")
    before = torch.get_rng_state()
    for task in range(3):
        detector.start_task(task, len(B))
        if task:
            show(detector.training_stages()[0], B)
        detector.finish_task()
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [slot.adapter.down.weight for place in detector.places for slot in place.site.all_slots]
    assert len(drawn) == 3 * 4
    assert not any(torch.equal(one, other) for i, one in enumerate(drawn) for other in drawn[:i])


def test_the_seed_and_the_task_decide_in_which_order_images_are_scanned(backbone):
    orders = []
    for seed, task in ((0, 0), (0, 0), (1, 0), (0, 1)):
        detector = small(backbone, seed=seed)
        for earlier in range(task + 1):
            detector.start_task(earlier, 40)
            detector.finish_task()
        orders.append(detector._order(0))
    assert orders[0] == orders[1]
    assert orders[2] != orders[0] != orders[3]


# ------------------------------------------------------------------------------------------------ what it keeps


def test_a_later_task_changes_nothing_that_was_there(backbone):
    """The prototype retrained the trunk in every task, and its routers: D2 and D6."""
    detector = learn_stream(small(backbone, **ALWAYS, sema_position="both"), [A])
    for task, features in ((1, B), (2, C)):
        before = state_of(detector)
        learn_stream_on(detector, task, features)
        after = state_of(detector)
        assert {name for name in before if not torch.equal(before[name], after[name])} == {"progress"}
        assert len(after) > len(before)


def test_a_new_slot_is_trained(backbone):
    """D1: it is not at zero, as it was born, when it is frozen."""
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], B)
    born = state_of(detector)
    learn_task(detector, 1, B)
    grown = state_of(detector)
    mine = [name for name in born if name.startswith("reconstruction.transformer.encoder.0") and ".slots.1." in name]
    moved = {name.split(".slots.1.")[1] for name in mine if not torch.equal(born[name], grown[name])}
    assert moved == {
        *(f"adapter.{layer}.{what}" for layer in ("down", "up") for what in ("weight", "bias")),
        *(f"descriptor.{layer}.{what}" for layer in ("encode", "decode") for what in ("weight", "bias")),
        "router.weight", "router.bias", "descriptor.record.losses", "descriptor.record.frozen",
    }  # fmt: skip


def test_statistics_of_old_slots_are_frozen_and_those_of_new_ones_their_own(backbone):
    detector = learn_stream(small(backbone, **ALWAYS), [A, B])
    first, second = (slot.descriptor.record for slot in detector.places[0].site.slots)
    assert first.frozen
    assert second.frozen
    assert not torch.equal(first.losses, second.losses)


# ------------------------------------------------------------------------------------------------ checkpoints


def test_a_grown_checkpoint_loads_by_itself(backbone, images_of):
    """With its statistics, which the prototype did not save: D7."""
    detector = learn_stream(small(backbone, **ALWAYS), [A, B])
    fresh = small(backbone, **ALWAYS)
    fresh.load_learned_state(state_of(detector))
    assert differing(detector.learned_state(), fresh.learned_state()) == set()
    assert torch.equal(maps(fresh, images_of(0, 3)), maps(detector, images_of(0, 3)))
    for one, other in zip(fresh.strangeness(C), detector.strangeness(C), strict=True):
        assert torch.equal(one, other)
        assert one.any()
    assert fresh.growth() == detector.growth()
    assert not any(parameter.requires_grad for parameter in fresh.reconstruction.parameters())


def test_sites_with_different_numbers_of_slots_load(backbone):
    detector = learn_stream(small(backbone, **ALWAYS, expand_end=1), [A, B, C])
    fresh = small(backbone)
    fresh.load_learned_state(state_of(detector))
    assert slots(fresh) == [3, 3, 1, 1]


def test_an_older_state_loads_into_what_has_grown_since(backbone, images_of):
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    older, before = state_of(detector), maps(detector, images_of(0, 3))
    learn_stream_on(detector, 1, B)
    detector.load_learned_state(older)
    assert slots(detector) == [1, 1, 1, 1]
    assert torch.equal(maps(detector, images_of(0, 3)), before)


def test_a_checkpoint_of_other_places_is_an_error_that_names_the_keys(backbone):
    state = state_of(small(backbone, sema_position="both"))
    with pytest.raises(
        AnoframeError, match=r"at 10 places and this model at 4: model\.sema_position, sema_start_layer"
    ):
        small(backbone).load_learned_state(state)


def test_a_damaged_progress_is_an_error(backbone):
    state = state_of(small(backbone)) | {"progress": torch.tensor([255, 1], dtype=torch.uint8)}
    with pytest.raises(AnoframeError, match="the checkpoint's progress is damaged"):
        small(backbone).load_learned_state(state)


def test_tasks_come_one_after_another(backbone):
    detector = small(backbone)
    detector.start_task(2, 12)
    with pytest.raises(AnoframeError, match=r"task 2 cannot be learned now, none has been"):
        detector.training_stages()


# ------------------------------------------------------------------------------------------------ going on


def by_hand(backbone, exchange):
    """A stream by hand, a step at a time; `exchange` gives the detector to go on with between any two steps.

    Returns the last state, and names and kinds of the steps of each task.
    """
    detector, listed = small(backbone, **ALWAYS, adapter_dropout=0.2), []
    for task, features in enumerate((A, B, C)):
        detector.start_task(task, len(features))
        done = 0
        while done < len(steps := detector.training_stages()):
            take_step(detector, steps[done], features, seed=done)
            done += 1
            listed.append([(type(step), step.name) for step in detector.training_stages()][:done])
            detector = exchange(detector, task, len(features))
        detector.finish_task()
    return detector.learned_state(), listed


@BOTH_ORDERS
def test_a_new_object_goes_on_to_the_same_bits_between_any_two_steps(backbone, task_first):
    def exchange(detector, task, images):
        fresh = small(backbone, **ALWAYS, adapter_dropout=0.2)
        if task_first:
            fresh.start_task(task, images)
        fresh.load_learned_state(state_of(detector))
        if not task_first:
            fresh.start_task(task, images)
        return fresh

    expected, steps = by_hand(backbone, lambda detector, task, images: detector)
    found, same_steps = by_hand(backbone, exchange)
    assert differing(expected, found) == set()
    assert steps == same_steps


def test_steps_that_are_done_stay_in_front(backbone):
    _, listed = by_hand(backbone, lambda detector, task, images: detector)
    for earlier, later in pairwise(listed):
        assert len(later) == 1 or later[: len(earlier)] == earlier
    assert {kind for kind, _ in listed[-1]} == {Observation, Phase}


@BOTH_ORDERS
def test_the_next_task_begins_from_the_checkpoint_of_the_last(backbone, task_first):
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    fresh = small(backbone, **ALWAYS)
    if task_first:
        fresh.start_task(1, 12)
    fresh.load_learned_state(state_of(detector))
    if task_first:
        assert [step.name for step in fresh.training_stages()] == ["scan"]
    for one in (detector, fresh):
        learn_stream_on(one, 1, B)
    assert differing(detector.learned_state(), fresh.learned_state()) == set()


class Kill(BaseException):
    """Stands for a kill: nothing of the run gets to handle it."""


def killed_after(detector, calls):
    """It dies at so many calls of what a step of learning calls; returns how many there were."""
    made = []
    for name in ("losses", "_missed", "_scan", "_take_statistics", "_conclude_scan", "_conclude_statistics"):
        setattr(detector, name, _dying(getattr(detector, name), made, calls))
    return made


def _dying(original, made, calls):
    def call(*arguments):
        if len(made) == calls:
            raise Kill
        made.append(original)
        return original(*arguments)

    return call


SHORT = {"expansion_threshold": -1.0, "expand_start": 1, "expand_end": 2, "adapter_dropout": 0.2}
BRIEF = section(descriptor=1)


def test_a_killed_task_goes_on_to_the_same_bits_by_the_trainer(backbone, tmp_path):
    """At every call of what its steps call, one after another, with both orders in turn."""
    undisturbed = learn_stream(small(backbone, **SHORT), [A])
    first, made = state_of(undisturbed), killed_after(undisturbed, -1)
    learn_task(undisturbed, 1, B, how=BRIEF)
    expected = state_of(undisturbed)
    assert len(made) > 12
    for kill_at in range(len(made)):
        home = tmp_path / f"{kill_at}"
        for fatal in (True, False):
            detector = small(backbone, **SHORT)
            if kill_at % 2:
                detector.start_task(1, len(B))
            detector.load_learned_state({name: value.clone() for name, value in first.items()})
            if fatal:
                killed_after(detector, kill_at)
            with suppress(Kill):
                learn_task(detector, 1, B, home, BRIEF)
        assert differing(expected, detector.learned_state()) == set(), kill_at


def test_what_was_frozen_is_frozen_after_a_checkpoint_too(backbone):
    """D6 after a resume: only the slot that is trained wants gradients, whoever loaded what."""
    detector = learn_stream(small(backbone, **ALWAYS), [A])
    detector.start_task(1, 12)
    show(detector.training_stages()[0], B)
    fresh = small(backbone, **ALWAYS)
    disturb(fresh.reconstruction)
    fresh.load_learned_state(state_of(detector))
    wanted = {name for name, one in fresh.named_parameters() if one.requires_grad}
    assert wanted == {name for name, one in detector.named_parameters() if one.requires_grad}
    assert wanted
    assert all("encoder.0" in name and ".slots.1." in name for name in wanted)
