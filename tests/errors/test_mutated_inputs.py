"""A short version of `benchmarks/mutated_inputs.py`: inputs spoilt at random."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mutated_inputs.py"
COUNT = 30


@pytest.fixture(scope="module")
def mutated_inputs():
    spec = importlib.util.spec_from_file_location("mutated_inputs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutated_inputs"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutated_inputs"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutation is tried in a forked process")
def test_spoilt_inputs_end_well_or_with_an_error_that_names_them(mutated_inputs, tmp_path, one_thread):
    results = mutated_inputs.spoil(COUNT, seed=1, folder=tmp_path / "world")
    assert len(results) == COUNT
    assert [result for result in results if result.failed] == []


@pytest.mark.parametrize(
    ("status", "said", "kept", "end"),
    [
        (0, "", True, "ok"),
        (2, "error: a.png: zero bytes", True, "clear error"),
        (2, "error: something is wrong", True, "an error that names nothing"),
        (2, "error: a.png: zero bytes", False, "files lost or altered"),
        (1, "Traceback (most recent call last):\n  a.png", True, "traceback"),
        (-7, "", True, "crash (-7)"),
        (None, "", True, "hang"),
    ],
)
def test_how_an_end_is_judged(mutated_inputs, status, said, kept, end):
    assert mutated_inputs.judged(status, said, {"a.png"}, kept) == end


def test_a_mutation_changes_its_file(mutated_inputs, tmp_path):
    path = tmp_path / "run.json"
    for seed in range(50):
        path.write_text('{"id": "3f9a", "stages": {"fit": {"seconds": 1.5}}}')
        before = path.read_bytes()
        mutated_inputs.mutate(path, random.Random(seed))
        assert path.read_bytes() != before
