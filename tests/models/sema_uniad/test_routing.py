"""Paths of images: routing by reconstruction, in training and prediction."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from sema_stream import (
    ALWAYS,
    TWO_LAYERS,
    make_batch,
    make_cluster,
    make_small,
    make_trained,
    randomise,
    run_scan,
    train_stream,
    train_whole_task,
)

from anoframe.models.components.anomaly_map import upsample
from anoframe.models.sema_uniad.adapters import AdapterContext
from anoframe.models.sema_uniad.progress import Progress
from anoframe.models.sema_uniad.routing import best_path, task_path, task_paths, training_paths

SLOT_TASKS = [[0], [0, 1], [0, 2], [0, 1, 2]]


def test_the_path_of_a_task_has_the_slots_that_were_created_in_it():
    assert task_path(SLOT_TASKS, 1) == {1: 1, 3: 1}
    assert task_paths(SLOT_TASKS) == [{0: 0, 1: 0, 2: 0, 3: 0}, {1: 1, 3: 1}, {2: 1, 3: 2}]


@pytest.mark.parametrize(("task", "finished", "expected"), [(2, False, "own"), (2, True, "all"), (3, False, "all")])
def test_images_of_a_task_in_training_use_its_own_slots_if_there_are_any(task, finished, expected):
    paths = task_paths(SLOT_TASKS)
    progress = Progress(SLOT_TASKS, [], task=task, finished=finished)
    assert training_paths(paths, progress) == (paths[-1:] if expected == "own" else paths)


def test_each_image_takes_the_path_with_the_smallest_mean_square_and_the_oldest_of_equal_ones():
    errors = torch.tensor([[1.0, 3.0, 2.0], [2.0, 1.0, 2.0]])[:, :, None, None].expand(2, 3, 4, 4)
    paths, images = best_path(list(errors))
    assert (paths.tolist(), images.tolist()) == ([0, 1, 0], [0, 1, 2])


@pytest.fixture(scope="module")
def three_tasks():
    """Sites 1 and 2 have slots of three tasks that are far apart; sites 0 and 3 have one slot. Read only."""
    options = {**ALWAYS, "scan_order": "joint", "expand_start": 1, "expand_end": 2, "routing": "reconstruction"}
    backbone = torch.nn.Identity()
    backbone.channels = (15,)
    detector = train_stream(make_small(backbone, **options), [make_cluster(task) for task in range(3)])
    for number in (1, 2):
        for slot, module in enumerate(detector.sites[number].adapter.all_slots):
            randomise(module.adapter, 10 * number + slot)
    return detector


@torch.no_grad()
def test_an_image_uses_the_slots_of_the_task_that_reconstructs_it_best(three_tasks):
    images = torch.cat([make_cluster(seed, 4, draw=1) for seed in range(6)])
    by_slot = [three_tasks.reconstruct(images, AdapterContext({1: slot, 2: slot})) for slot in range(3)]
    errors = torch.stack([(f_hat - images).square().mean((1, 2, 3)) for f_hat in by_slot])
    best = errors.argmin(0)
    assert len(best.unique()) > 1
    reconstructed = three_tasks.reconstruct(images)
    assert all(torch.equal(reconstructed[i], by_slot[slot][i]) for i, slot in enumerate(best.tolist()))


def test_predictions_do_not_depend_on_the_number_of_threads(three_tasks, request):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    images = torch.cat([make_cluster(seed, 4, draw=1) for seed in range(6)])
    torch.set_num_threads(1)
    expected = three_tasks.detect(images, (32, 32))
    with torch.no_grad():
        errors = three_tasks.distance(images, three_tasks.reconstruct(images))
    torch.testing.assert_close(upsample(errors, (32, 32), align_corners=True), expected.anomaly_map)
    torch.set_num_threads(8)
    for _ in range(2):
        assert torch.equal(three_tasks.detect(images, (32, 32)).anomaly_map, expected.anomaly_map)


@torch.no_grad()
def test_the_path_of_an_image_does_not_depend_on_other_images(three_tasks):
    images = torch.cat([make_cluster(seed, 2, draw=1) for seed in range(6)])
    together = three_tasks.z_scores(images)
    for number, image in enumerate(images):
        for site, alone in zip(together, three_tasks.z_scores(image[None]), strict=True):
            torch.testing.assert_close(site[:, number], alone[:, 0], rtol=1e-4, atol=1e-4)


def test_a_task_is_trained_only_with_its_own_slots(backbone):
    """Adapters of earlier tasks change neither its loss nor the inputs of its descriptors."""
    detector = make_trained(backbone, 1, **ALWAYS, scan_order="joint", routing="reconstruction")
    detector.start_task(1, 12)
    run_scan(detector, make_cluster(1))
    _, adapter, descriptor, *_ = detector.training_stages()
    before = [phase.loss(make_batch(make_cluster(1))) for phase in (adapter, descriptor)]
    for site in detector.sites:
        randomise(site.adapter.all_slots[0].adapter)
    assert [phase.loss(make_batch(make_cluster(1))) for phase in (adapter, descriptor)] == before


@torch.no_grad()
def measure_errors(detector, features):
    """Mean squared reconstruction error of each image."""
    return detector.distance(features, detector.reconstruct(features)).square().mean((1, 2))


def test_by_reconstruction_no_image_is_reconstructed_worse_after_a_later_task(backbone):
    """Its old path remains and is frozen; a later path may be better."""
    detector = make_trained(backbone, 1, uniad=TWO_LAYERS, **ALWAYS, routing="reconstruction")
    images = make_cluster(0, 6, draw=1)
    errors = [measure_errors(detector, images)]
    for task, cluster in ((1, 1), (2, 2), (3, 0)):
        train_whole_task(detector, task, make_cluster(cluster))
        errors.append(measure_errors(detector, images))
    assert all(bool((after <= before).all()) for before, after in pairwise(errors))
    assert bool((errors[-1] < errors[0]).any())
