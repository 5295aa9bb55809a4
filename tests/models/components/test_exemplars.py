"""Exemplar memory: quotas, selectors against loops over images, and the training stage."""

import math
from pathlib import Path

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.components.exemplars import (
    DIRECTIONS,
    SELECTORS,
    MemorySettings,
    exemplar_stage,
    feature_vectors,
    herd,
    quota,
    rank,
    select,
    selector_values,
)
from anoframe.models.learner import TaskData
from anoframe.types import Sample

VALUED = ("entropy", "distance", "variance", "variance_entropy", "energy")


class Owner:
    """Classifier whose logits are linear in the features, with two fixed Monte Carlo samples."""

    def __init__(self, classes, width=4):
        self.classes = tuple(classes)
        self.exemplar_rows = torch.zeros(0, dtype=torch.int64)
        self.weight = torch.randn(2, len(classes), width, generator=torch.Generator().manual_seed(1))

    def logits(self, features):
        return torch.einsum("bd,scd->sbc", features, self.weight)


def samples_of(**counts):
    return [Sample(Path(f"{name}/{i:03d}.png"), name, "train") for name, count in counts.items() for i in range(count)]


def random_case(seed=0, samples=3, images=40, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, images, classes, generator=generator)
    labels = torch.arange(images) % classes
    return torch.randn(images, 6, generator=generator), logits, labels[torch.randperm(images, generator=generator)]


# ------------------------------------------------------------------------------------------------ quota


def test_cifar_quota_shrinks_with_the_classes_and_never_exceeds_the_cap():
    settings = MemorySettings(total=2000)
    assert [quota(settings, classes) for classes in range(10, 110, 10)] == [
        *(200, 100, 66, 50, 40, 33, 28, 25, 22, 20),
    ]
    assert all(classes * quota(settings, classes) <= 2000 for classes in range(1, 500))


def test_quota_per_class_does_not_depend_on_the_classes():
    assert {quota(MemorySettings(per_class=7), classes) for classes in (1, 10, 1000)} == {7}


def test_total_without_room_for_every_class_is_an_error():
    with pytest.raises(AnoframeError, match=r"memory\.total 5 has no room for one exemplar of each of 6 classes"):
        quota(MemorySettings(total=5), 6)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"total": 0}, "memory.total must be 1 or more"),
        ({"per_class": -1}, "memory.per_class must be 0 or more"),
        ({"selector": "herdin"}, "unknown memory.selector 'herdin'.*herding"),
        ({"selector": "energy", "direction": "up"}, "unknown memory.direction 'up'"),
        ({"selector": "random", "direction": "informative"}, "needs a selector that gives each image a value"),
    ],
)
def test_wrong_settings_say_what_is_allowed(values, text):
    with pytest.raises(AnoframeError, match=text):
        MemorySettings(**values)


# ------------------------------------------------------------------------------------------------ selectors


def brute_value(selector, logits, label):
    """Value of one image from plain numbers: `logits[s][c]`."""
    soft = []
    for row in logits:
        total = sum(math.exp(value) for value in row)
        soft.append([math.exp(value) / total for value in row])
    count, classes = len(soft), range(len(soft[0]))
    mean = [sum(row[c] for row in soft) / count for c in classes]
    entropy = -sum(p * math.log(p) for p in mean)
    variance = sum(sum((row[c] - mean[c]) ** 2 for row in soft) / count for c in classes)
    return {
        "entropy": entropy,
        "variance": variance,
        "variance_entropy": math.sqrt(variance * entropy),
        "energy": sum(math.log(sum(math.exp(value) for value in row)) for row in logits) / count,
        "distance": sum(row[label] for row in logits) / count,
    }[selector]


def brute_herding(vectors, count):
    """iCaRL, algorithm 4, by trying every remaining image."""
    unit = [[x / math.sqrt(sum(y * y for y in vector)) for x in vector] for vector in vectors]
    mean = [sum(column) / len(unit) for column in zip(*unit, strict=True)]
    chosen: list[int] = []
    while len(chosen) < count:
        rest = [i for i in range(len(unit)) if i not in chosen]
        distance = {
            i: sum((m - sum(unit[j][d] for j in [*chosen, i]) / (len(chosen) + 1)) ** 2 for d, m in enumerate(mean))
            for i in rest
        }
        chosen.append(min(rest, key=distance.__getitem__))
    return chosen


@pytest.mark.parametrize("selector", VALUED)
def test_values_equal_a_loop_over_samples_and_classes(selector):
    _, logits, labels = random_case()
    values = selector_values(selector, logits.double(), labels)
    expected = [brute_value(selector, logits[:, i].tolist(), int(labels[i])) for i in range(len(labels))]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("selector", VALUED)
def test_selection_equals_sorting_each_class(selector, direction):
    features, logits, labels = random_case(1)
    rows = select(
        MemorySettings(per_class=3, selector=selector, direction=direction), features, logits, labels, 4, None
    )
    highest = {"informative": True, "representative": False, "default": selector == "entropy"}[direction]
    expected = []
    for label in range(4):
        own = [i for i in range(len(labels)) if labels[i] == label]
        own.sort(key=lambda i: brute_value(selector, logits[:, i].tolist(), int(labels[i])), reverse=highest)
        expected += sorted(own[:3])
    assert rows == expected


def test_herding_equals_trying_every_image():
    features, _, _ = random_case(2, images=12)
    assert herd(features, 7) == brute_herding(features.tolist(), 7)


def test_herding_does_not_depend_on_the_length_of_a_feature_vector():
    features, _, _ = random_case(3, images=12)
    assert herd(features * torch.rand(12, 1).add(0.1), 5) == herd(features, 5)


def test_a_wrong_axis_order_of_the_logits_is_an_error():
    _, logits, labels = random_case()
    with pytest.raises(AnoframeError, match=r"must be \[S, 40, C\], got \[40, 3, 4\]"):
        selector_values("energy", logits.transpose(0, 1), labels)


def test_random_follows_its_seed_and_first_takes_the_first():
    features, _, labels = random_case()

    def draw(seed):
        return select(MemorySettings(per_class=3), features, None, labels, 4, torch.Generator().manual_seed(seed))

    assert draw(1) == draw(1) != draw(2)
    first = select(MemorySettings(per_class=2, selector="first"), features, None, labels, 4, torch.Generator())
    assert first == [i for label in range(4) for i in (labels == label).nonzero().flatten().tolist()[:2]]


@pytest.mark.parametrize("selector", SELECTORS)
def test_all_images_are_kept_if_the_quota_is_their_number_or_more(selector):
    features, logits, labels = random_case()
    for per_class in (10, 11):
        rows = select(
            MemorySettings(per_class=per_class, selector=selector), features, logits, labels, 4, torch.Generator()
        )
        assert sorted(rows) == list(range(40))


def test_more_exemplars_than_images_are_an_error():
    for pick in (lambda: herd(torch.ones(3, 2), 4), lambda: rank(torch.ones(3), 4, True)):
        with pytest.raises(AnoframeError, match="4 exemplars of a class with 3 images"):
            pick()


def test_ties_take_the_first_images():
    assert rank(torch.tensor([1.0, 2.0, 2.0, 1.0]), 3, True) == [1, 2, 0]
    assert rank(torch.tensor([1.0, 2.0, 2.0, 1.0]), 3, False) == [0, 3, 1]


# ------------------------------------------------------------------------------------------------ stage


def run(owner, settings, data, features, seed=0):
    stage = exemplar_stage(owner, settings, data, lambda sample: sample.category, seed)
    stage.begin(len(data.samples))
    for start in range(0, len(data.samples), 4):
        if stage.observe(features[start : start + 4], data.samples[start : start + 4]):
            break
    stage.finish()
    return [data.samples[row] for row in owner.exemplar_rows.tolist()]


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_stream_keeps_old_exemplars_a_balanced_subset_within_the_cap(selector):
    generator = torch.Generator().manual_seed(0)
    vector = {}
    memory, classes = [], []
    for names in (["a", "b"], ["c"], ["d", "e"]):
        new = samples_of(**dict.fromkeys(names, 9))
        classes += names
        data = TaskData((*new, *memory), len(new))
        for sample in new:
            vector[sample] = torch.randn(4, generator=generator)
        features = torch.stack([vector[sample] for sample in data.samples])
        kept = run(Owner(classes), MemorySettings(total=13, selector=selector), data, features)
        counts = [sum(sample.category == name for sample in kept) for name in classes]
        assert len(kept) == len(set(kept)) <= 13
        assert max(counts) - min(counts) <= 1
        assert {sample for sample in kept if sample.category not in names} <= set(memory)
        memory = kept
    assert counts == [2] * 5


def test_an_empty_memory_keeps_nothing_and_asks_for_no_logits():
    owner = Owner(["a"])
    owner.logits = None
    data = TaskData(tuple(samples_of(a=5)), 5)
    assert run(owner, MemorySettings(per_class=0, selector="energy"), data, torch.randn(5, 4)) == []
    assert owner.exemplar_rows.dtype == torch.int64


def test_the_draw_depends_on_the_seed_alone():
    data = TaskData(tuple(samples_of(a=30, b=30)), 60)
    draws = [run(Owner(["a", "b"]), MemorySettings(per_class=5), data, torch.randn(60, 4), seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_features_of_any_form_become_one_vector_per_image():
    maps = torch.arange(16.0).reshape(1, 2, 2, 4)
    expected = [[3.5, 11.5, 1.0]]
    assert feature_vectors([maps, torch.ones(1, 1)]).tolist() == expected
    assert feature_vectors({"a": maps, "b": torch.ones(1, 1, 3)}).tolist() == expected
