"""Streams of tasks: what a text stands for, and how its categories are shuffled."""

from __future__ import annotations

import pytest

from anoframe.data.task_streams import STREAMS, stream
from anoframe.errors import AnoframeError


def test_lists_are_taken_as_they_stand():
    assert stream("mesh, felt;brick") == [("mesh", "felt"), ("brick",)]


def test_spaces_around_a_text_are_no_part_of_it():
    assert stream(" 10-5 ") == stream("10-5")
    assert stream("  ", ["felt"]) == [("felt",)]


def test_without_a_text_each_category_is_a_task():
    assert stream("", ["mesh", "felt"]) == [("mesh",), ("felt",)]


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
    assert stream(name)[task] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_a_named_stream_has_each_category_of_its_dataset_once(name):
    dataset, sizes = STREAMS[name]
    flat = [category for task in stream(name) for category in task]
    assert sorted(flat) == sorted(dataset.official_counts)
    assert [len(task) for task in stream(name)] == list(sizes)


def test_an_order_keeps_sizes_and_categories():
    plain, shuffled = stream("3x5"), stream("3x5", order_seed=1)
    assert shuffled != plain
    assert [len(task) for task in shuffled] == [3] * 5
    assert {c for task in shuffled for c in task} == {c for task in plain for c in task}


def test_zero_is_an_order_as_any_other():
    assert stream("15x1", order_seed=0) != stream("15x1")


def test_one_number_gives_one_order_and_another_another():
    assert stream("15x1", order_seed=1) == stream("15x1", order_seed=1) != stream("15x1", order_seed=2)


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
def test_what_is_no_stream_is_told(text, message):
    with pytest.raises(AnoframeError, match=message):
        stream(text)


def test_an_order_below_zero_is_told():
    with pytest.raises(AnoframeError, match="order_seed is 0 or more"):
        stream("felt;mesh", order_seed=-1)
