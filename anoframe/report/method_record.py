"""Method summaries read from result files, with every value checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.report.number_checks import finite


def read_summary(tree: Mapping[str, Any]) -> MethodSummary:
    """Read the scalars, tables and series of a summary.

    Args:
        tree: `method_summary` of `results/<category>.json`, or an entry of `method_summaries` of
            `results/continual.json`.

    Raises:
        KeyError, TypeError, ValueError or AttributeError if the tree is damaged.
    """
    return MethodSummary(
        scalars={str(name): finite(value) for name, value in tree.get("scalars", {}).items()},
        tables=[_table(table) for table in tree.get("tables", [])],
        series=[_series(line) for line in tree.get("series", [])],
    )


def _table(tree: Mapping[str, Any]) -> Table:
    columns = [str(column) for column in tree["columns"]]
    rows = [[_cell(value) for value in row] for row in tree["rows"]]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"table {tree['name']}: a row has {len(row)} values, for {len(columns)} columns")
    note, shaded = str(tree.get("note", "")), bool(tree.get("shaded", False))
    return Table(str(tree["name"]), str(tree["title"]), columns, rows, note, shaded)


def _cell(value: Any) -> str | float | int | None:
    return value if value is None or isinstance(value, (str, int)) else finite(value)


def _series(tree: Mapping[str, Any]) -> Series:
    points = [(finite(x), finite(y)) for x, y in tree["points"]]
    xs = [x for x, _ in points]
    if xs != sorted(set(xs)):
        raise ValueError(f"series {tree['name']}: x does not rise")
    return Series(str(tree["name"]), points, str(tree.get("x_label", "task")))
