"""Examples in the docstrings of metrics."""

import doctest
import importlib

import pytest

MODULES = ("auroc", "average_precision", "f1", "iou", "aupro", "spro", "category_metrics", "continual", "catalogue")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"anoframe.metrics.{name}"))
    assert (result.attempted > 0, result.failed) == (True, 0)
