"""Routing by task anchors (C15 and C16 of the method's checks)."""

import dataclasses

import pytest
import torch
from clap_stream import Stream, classifier, images_of
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.routing import allocate_samples, anchor_weights, mean_direction, route
from anoframe.models.class_incremental.settings import RoutingSettings

TASKS = [(0, 1), (2,), (3, 4)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(2)


def routed(mode, **settings):
    learner = classifier(routing={"mode": mode, **settings})
    return Stream(learner).train(*TASKS)


def test_all_samples_are_allocated_and_every_task_has_one(generator):
    for tasks in (1, 2, 5, 20):
        weights = (4 * torch.randn(50, tasks, generator=generator)).softmax(1)
        counts = allocate_samples(weights, 20)
        assert counts.sum(1).tolist() == [20] * 50
        assert counts.min() >= 1


def test_the_allocation_is_that_of_the_largest_remainder(generator):
    weights = (2 * torch.randn(30, 4, generator=generator)).softmax(1)
    for row, counts in zip(weights.double().tolist(), allocate_samples(weights, 20).tolist(), strict=True):
        shares = [16 * weight for weight in row]
        expected = [1 + int(share) for share in shares]
        by_remainder = sorted(range(4), key=lambda task: int(shares[task]) - shares[task])
        for task in by_remainder[: 20 - sum(expected)]:
            expected[task] += 1
        assert counts == expected


def test_equal_weights_give_equal_numbers_of_samples():
    assert allocate_samples(torch.full((2, 5), 0.2), 20).tolist() == [[4] * 5] * 2
    assert allocate_samples(torch.ones(1, 1), 20).tolist() == [[20]]


def test_fewer_samples_than_tasks_are_an_error():
    with pytest.raises(AnoframeError, match=r"alloc gives each of 5 tasks a sample, and .*samples is 4"):
        allocate_samples(torch.full((1, 5), 0.2), 4)


def test_allocated_logits_are_means_over_the_samples_of_each_task(generator):
    logits = torch.randn(8, 5, 4, generator=generator)
    images, anchors = F.normalize(torch.randn(5, 6, generator=generator)), F.normalize(torch.randn(2, 6))
    task = torch.tensor([0, 0, 1, 1])
    settings = RoutingSettings("alloc", temperature=0.5)
    counts = allocate_samples(anchor_weights(images, anchors, 0.5), 8)
    assert len(counts[:, 0].unique()) > 1
    values = route(logits, images, anchors, task, settings, jointly=False)
    assert values.shape == (1, 5, 4)
    for image in range(5):
        for label in range(4):
            expected = logits[: counts[image, task[label]], image, label].mean()
            torch.testing.assert_close(values[0, image, label], expected)


def test_equal_anchors_change_no_decision(generator):
    logits, images = torch.randn(8, 5, 4, generator=generator), F.normalize(torch.randn(5, 6, generator=generator))
    anchors = F.normalize(torch.randn(1, 6)).expand(2, 6)
    values = route(logits, images, anchors, torch.tensor([0, 0, 1, 1]), RoutingSettings("prior"), jointly=False)
    torch.testing.assert_close(values, logits + torch.tensor(0.5).log())


def test_the_prior_adds_the_logarithms_of_the_weights(generator):
    logits, images = torch.randn(8, 5, 3, generator=generator), F.normalize(torch.randn(5, 6, generator=generator))
    anchors = F.normalize(torch.randn(2, 6, generator=generator))
    values = route(logits, images, anchors, torch.tensor([0, 1, 1]), RoutingSettings("prior", weight=2.0), False)
    expected = 2 * (images @ anchors.T / 0.07).log_softmax(1)
    torch.testing.assert_close(values - logits, expected[:, [0, 1, 1]].expand(8, 5, 3), rtol=1e-4, atol=1e-4)


def test_weights_of_the_batch_are_used_for_images_that_are_computed_together(generator):
    logits, images = torch.zeros(8, 5, 2), F.normalize(torch.randn(5, 6, generator=generator))
    anchors = F.normalize(torch.randn(2, 6, generator=generator))
    settings = RoutingSettings("prior", unit="batch")
    together = route(logits, images, anchors, torch.tensor([0, 1]), settings, jointly=True)
    torch.testing.assert_close(together[0], together[0, :1].expand(5, 2))
    alone = route(logits, images, anchors, torch.tensor([0, 1]), settings, jointly=False)
    assert torch.equal(alone, route(logits, images, anchors, torch.tensor([0, 1]), RoutingSettings("prior"), False))


def test_an_anchor_is_the_direction_of_the_new_images_of_its_task():
    learner = routed("prior")
    assert learner.anchors.shape == (3, 12)
    for anchor, classes in zip(learner.anchors, TASKS, strict=True):
        _, features = images_of(classes, 10)
        torch.testing.assert_close(anchor, mean_direction(F.normalize(features, dim=1)))


@pytest.mark.parametrize("mode", ["alloc", "prior"])
def test_routing_changes_logits_and_neither_the_training_nor_the_anchors(mode):
    plain, learner = Stream(classifier()).train(*TASKS), routed(mode)
    own = {name: value for name, value in learner.learned_state().items() if name != "anchors"}
    assert all(torch.equal(value, plain.learned_state()[name]) for name, value in own.items())
    before, (_, features) = learner.anchors.clone(), images_of(range(5), 4, split="test")
    logits = learner.logits(features)
    assert torch.equal(learner.anchors, before)
    assert logits.shape == ((1 if mode == "alloc" else 5), 20, 5)
    assert not torch.allclose(logits.mean(0), plain.logits(features).mean(0))


@pytest.mark.parametrize("mode", ["none", "alloc", "prior"])
def test_logits_of_an_image_depend_on_no_label_and_no_other_image(mode):
    learner, (samples, features) = routed(mode), images_of(range(5), 4, split="test")
    expected = learner.logits(features)
    learner.class_of = None  # labels of test images cannot be read
    learner._labels = learner._labels.flip(0)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(learner.logits(features[order]), expected[:, order])
    torch.testing.assert_close(learner.logits(features[:1]), expected[:, :1])


def test_settings_out_of_range_are_errors():
    for changes, message in (
        ({"mode": "hard"}, "unknown model.classifier.routing.mode 'hard'"),
        ({"temperature": 0.0}, "routing.temperature must be above 0"),
        ({"unit": "task"}, "unknown model.classifier.routing.unit 'task'"),
    ):
        with pytest.raises(AnoframeError, match=message):
            dataclasses.replace(RoutingSettings(), **changes)
