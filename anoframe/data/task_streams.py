"""Task streams of continual learning: the categories of each task, and their order.

The named streams are those of the literature on MVTec AD (IUF, CDAD, UCAD) and VisA, with categories in alphabetical
order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from anoframe.data.mvtec import MVTec
from anoframe.data.visa import VisA
from anoframe.errors import AnoframeError, suggest

Task = tuple[str, ...]

# Name -> dataset, and number of categories of each task.
STREAMS: dict[str, tuple[type[MVTec] | type[VisA], tuple[int, ...]]] = {
    "15x1": (MVTec, (1,) * 15),
    "14-1": (MVTec, (14, 1)),
    "10-5": (MVTec, (10, 5)),
    "3x5": (MVTec, (3,) * 5),
    "10-1x5": (MVTec, (10, 1, 1, 1, 1, 1)),
    "11-1": (VisA, (11, 1)),
    "8-4": (VisA, (8, 4)),
    "3x4": (VisA, (3,) * 4),
    "8-1x4": (VisA, (8, 1, 1, 1, 1)),
}


def parse_tasks(text: str, categories: Sequence[str] = (), order_seed: int | None = None) -> list[Task]:
    """Build the tasks of a stream from config values.

    Args:
        text: `"a,b;c;d"`, the categories of each task; or the name of a stream in `STREAMS`; or empty, for one task
            per item of `categories`.
        categories: categories of the run.
        order_seed: shuffles the categories over the tasks without changing the task sizes; None keeps the order.

    Raises:
        AnoframeError: no category, an empty task, a category in two tasks, or a negative seed.

    >>> parse_tasks("brick,grass; gravel")
    [('brick', 'grass'), ('gravel',)]
    """
    if order_seed is not None and order_seed < 0:
        raise AnoframeError(f"protocol.order_seed is 0 or more, or None to keep the order, got {order_seed}")
    text = text.strip()
    single: list[Task] = [(name,) for name in categories]
    tasks = _named_tasks(text) if text in STREAMS else _listed_tasks(text) if text else single
    flat = [name for task in tasks for name in task]
    if not flat:
        raise AnoframeError(
            "a stream needs tasks: --protocol.tasks 'a,b;c;d', one of "
            f"{', '.join(STREAMS)}, or --cls_names in the order of the tasks"
        )
    if repeated := sorted({name for name in flat if flat.count(name) > 1}):
        raise AnoframeError(f"protocol.tasks has {', '.join(repeated)} more than once: a category belongs to one task")
    if order_seed is None:
        return tasks
    shuffled = iter(np.random.default_rng(order_seed).permutation(flat).tolist())
    return [tuple(next(shuffled) for _ in task) for task in tasks]


def parse_class_tasks(text: str, classes: Sequence[str], order_seed: int | None = None) -> list[Task]:
    """Build the tasks of a stream of classes of labelled images.

    Args:
        text: `"5x2"`: 5 tasks of 2 classes each, in the order of `classes`; or `"a,b;c,d"`: the classes of each task,
            which may leave out others.
        classes: names of all classes.
        order_seed: shuffles the classes over the tasks as the published code does, with NumPy's legacy generator; None
            keeps the order.

    Raises:
        AnoframeError: sizes that do not fit the number of classes, an unknown class, or as `parse_tasks`.

    >>> parse_class_tasks("2x2", ["cat", "deer", "dog", "frog"])
    [('cat', 'deer'), ('dog', 'frog')]
    """
    if order_seed is not None and not 0 <= order_seed < 2**32:
        raise AnoframeError(f"protocol.order_seed is 0 to 2**32 - 1, or None to keep the order, got {order_seed}")
    if sizes := re.fullmatch(r"(\d+)x(\d+)", text.strip()):
        count, size = int(sizes[1]), int(sizes[2])
        if count * size != len(classes) or not count:
            raise AnoframeError(
                f"protocol.tasks {text} has {count * size} classes, and the data have {len(classes)}: choose numbers "
                "whose product is that, or list the classes of each task, as in 'a,b;c,d'"
            )
        tasks = [tuple(classes[i * size : (i + 1) * size]) for i in range(count)]
    else:
        tasks = parse_tasks(text)
    names = [name for task in tasks for name in task]
    for name in names:
        if name not in classes:
            raise AnoframeError(f"protocol.tasks has the class {name!r}, which the data lack: {suggest(name, classes)}")
    if order_seed is None:
        return tasks
    shuffled = iter(np.random.RandomState(order_seed).permutation(len(names)).tolist())
    return [tuple(names[next(shuffled)] for _ in task) for task in tasks]


def _named_tasks(name: str) -> list[Task]:
    dataset, sizes = STREAMS[name]
    names = iter(sorted(dataset.official_counts))
    return [tuple(next(names) for _ in range(size)) for size in sizes]


def _listed_tasks(text: str) -> list[Task]:
    tasks = [tuple(name.strip() for name in task.split(",")) for task in text.split(";")]
    if ";" not in text and "," not in text:
        raise AnoframeError(
            f"protocol.tasks {text!r} is neither a list such as 'a,b;c;d' nor a stream: {suggest(text, STREAMS)}"
        )
    if any(not name for task in tasks for name in task):
        raise AnoframeError(f"protocol.tasks has an empty place, got {text!r}: 'a,b;c;d' are three tasks")
    return tasks
