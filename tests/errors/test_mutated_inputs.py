"""A short run of `benchmarks/mutated_inputs.py`, which damages inputs at random."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mutated_inputs.py"
COUNT = 30


@pytest.fixture(scope="module")
def mutated_inputs():
    spec = importlib.util.spec_from_file_location("mutated_inputs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutated_inputs"] = module  # dataclasses look up annotations in this module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutated_inputs"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutation runs in a forked process")
def test_damaged_inputs_are_accepted_or_errors_that_name_them(mutated_inputs, tmp_path, one_thread):
    results = mutated_inputs.run_mutations(COUNT, seed=1, folder=tmp_path / "workspace")
    assert len(results) == COUNT
    assert [result for result in results if result.failed] == []


@pytest.mark.parametrize(
    ("status", "output", "unchanged", "outcome"),
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
def test_outcomes_are_classified(mutated_inputs, status, output, unchanged, outcome):
    assert mutated_inputs.classify(status, output, {"a.png"}, unchanged) == outcome


def test_left_out_files_that_the_output_does_not_name_are_a_silent_loss(mutated_inputs):
    outcomes = [
        mutated_inputs.classify(status, output, {"a.png"}, True, {"zz.png"})
        for status, output in ((0, ""), (0, "1 broken link: zz.png"), (1, "not scored: zz.png"), (1, "other"))
    ]
    assert outcomes == ["silent loss", "ok", "ok", "silent loss"]


def test_every_fault_changes_the_folder(mutated_inputs, tmp_path):
    for number, fault in enumerate(mutated_inputs.FAULTS):
        image = tmp_path / str(number) / "000.png"
        image.parent.mkdir()
        image.write_bytes(b"image")
        fault.apply(image)
        assert sorted(os.listdir(image.parent)) != ["000.png"]


def test_a_mutation_changes_its_file(mutated_inputs, tmp_path):
    path = tmp_path / "run.json"
    for seed in range(50):
        path.write_text('{"id": "3f9a", "stages": {"fit": {"seconds": 1.5}}}')
        before = path.read_bytes()
        mutated_inputs.mutate(path, random.Random(seed))
        assert path.read_bytes() != before
