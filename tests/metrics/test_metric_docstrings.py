import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["ranking", "localisation", "thresholded", "families", "continual"])
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"anoframe.metrics.{name}"))
    assert (result.attempted > 0, result.failed) == (True, 0)
