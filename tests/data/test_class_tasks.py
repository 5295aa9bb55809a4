"""Tasks of a stream of classes: sizes, lists, the published order, and errors."""

from __future__ import annotations

import numpy as np
import pytest

from anoframe.data.task_streams import parse_class_tasks
from anoframe.errors import AnoframeError

CLASSES = tuple(f"c{number}" for number in range(10))


def test_sizes_divide_the_classes_in_their_order():
    tasks = parse_class_tasks("5x2", CLASSES)
    assert tasks == [("c0", "c1"), ("c2", "c3"), ("c4", "c5"), ("c6", "c7"), ("c8", "c9")]


def test_listed_classes_may_leave_out_others():
    assert parse_class_tasks("c3,c1;c7", CLASSES) == [("c3", "c1"), ("c7",)]


def test_the_order_is_that_of_the_published_code():
    np.random.seed(1993)  # noqa: NPY002
    expected = np.arange(10)
    np.random.shuffle(expected)  # noqa: NPY002
    flat = [name for task in parse_class_tasks("2x5", CLASSES, 1993) for name in task]
    assert flat == [CLASSES[number] for number in expected]
    assert flat != list(CLASSES)


@pytest.mark.parametrize(
    ("text", "seed", "message"),
    [
        ("3x3", None, "the data have 10"),
        ("0x10", None, "the data have 10"),
        ("c0,nothing;c2", None, "'nothing', which the data lack"),
        ("c0;c0", None, "more than once"),
        ("5x2", -1, "order_seed"),
    ],
)
def test_wrong_tasks_are_errors(text, seed, message):
    with pytest.raises(AnoframeError, match=message):
        parse_class_tasks(text, CLASSES, seed)
