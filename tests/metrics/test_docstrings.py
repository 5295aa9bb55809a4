"""Examples in the docstrings of metrics."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name", ["auroc", "average_precision", "f1", "iou", "aupro", "category_metrics", "continual", "catalogue"]
)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"anoframe.metrics.{name}"))
    assert (result.attempted > 0, result.failed) == (True, 0)
