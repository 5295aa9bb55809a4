"""Task streams: parsing of tasks, named streams, and shuffling of categories."""

from __future__ import annotations

import pytest

from anoframe.data.task_streams import STREAMS, parse_tasks
from anoframe.errors import AnoframeError


def test_listed_tasks_keep_their_order():
    assert parse_tasks("mesh, felt;brick") == [("mesh", "felt"), ("brick",)]


def test_spaces_around_the_text_are_ignored():
    assert parse_tasks(" 10-5 ") == parse_tasks("10-5")
    assert parse_tasks("  ", ["felt"]) == [("felt",)]


def test_without_text_each_category_is_a_task():
    assert parse_tasks("", ["mesh", "felt"]) == [("mesh",), ("felt",)]


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("10-1x5", 1, ("tile",)),
        ("10-5", 1, ("tile", "toothbrush", "transistor", "wood", "zipper")),
        ("3x5", 2, ("leather", "metal_nut", "pill")),
        ("14-1", 1, ("zipper",)),
        ("8-1x4", 0, ("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1")),
    ],
)
def test_named_streams_are_those_of_the_literature(name, task, expected):
    assert parse_tasks(name)[task] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_a_named_stream_contains_each_category_of_its_dataset_once(name):
    dataset, sizes = STREAMS[name]
    flat = [category for task in parse_tasks(name) for category in task]
    assert sorted(flat) == sorted(dataset.official_counts)
    assert [len(task) for task in parse_tasks(name)] == list(sizes)


def test_shuffling_keeps_task_sizes_and_categories():
    plain, shuffled = parse_tasks("3x5"), parse_tasks("3x5", order_seed=1)
    assert shuffled != plain
    assert [len(task) for task in shuffled] == [3] * 5
    assert {c for task in shuffled for c in task} == {c for task in plain for c in task}


def test_seed_zero_shuffles_as_well():
    assert parse_tasks("15x1", order_seed=0) != parse_tasks("15x1")


def test_the_order_depends_on_the_seed_only():
    assert parse_tasks("15x1", order_seed=1) == parse_tasks("15x1", order_seed=1) != parse_tasks("15x1", order_seed=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("felt;felt", "felt more than once"),
        ("felt;;mesh", "empty place"),
        ("felt,", "empty place"),
        ("10-1x4", "did you mean '10-1x5'"),
        ("", "--cls_names in the order"),
    ],
)
def test_invalid_tasks_are_errors(text, message):
    with pytest.raises(AnoframeError, match=message):
        parse_tasks(text)


def test_a_negative_order_seed_is_an_error():
    with pytest.raises(AnoframeError, match="order_seed is 0 or more"):
        parse_tasks("felt;mesh", order_seed=-1)
