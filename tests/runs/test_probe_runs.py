"""Evaluation of encoders from the command line: run folder, report, and the encoders it accepts."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from functools import partial
from unittest import mock

import children
import numpy as np
import pytest
import torch

from anoframe.backbones.encoder import Encoder
from anoframe.backbones.exported import write_export
from anoframe.config import flatten, load_config, save_config
from anoframe.evaluate_encoder import main
from anoframe.evaluation.classification import features
from anoframe.evaluation.classification.knn import NearestNeighbours
from anoframe.evaluation.classification.linear_probe import LinearProbe
from anoframe.report.run_record import read_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three classes of flat colours with noise."""
    rng = np.random.default_rng(0)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    arrays = {}
    for split, count in (("train", 30), ("test", 13)):
        labels = np.arange(count) % 3
        noise = rng.integers(-30, 30, (count, 32, 32, 3))
        arrays |= {f"{split}_x": (colours[labels][:, None, None] + noise).astype(np.uint8), f"{split}_y": labels}
    path = tmp_path_factory.mktemp("npz") / "colours.npz"
    np.savez(path, **arrays, classes=["red", "green", "blue"])
    return path


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("export") / "encoder.safetensors"
    write_export(path, Encoder("test_resnet", stem="small"), 32, {"method": "simclr", "epochs": "1", "data": "0"})
    return path


@pytest.fixture
def evaluate(archive, tmp_path, capsys):
    """Function that evaluates an encoder; returns status and output."""

    def run(name, *words):
        base = ["--data.name", "npz", "--data.root", str(archive), "--output", str(tmp_path), "--device", "cpu"]
        status = main([*base, "--encoder.name", name, "--probes.knn.k", "5", *words])
        return status, capsys.readouterr()

    return run


def test_an_exported_encoder_is_evaluated(evaluate, export, tmp_path):
    status, output = evaluate(f"exported:{export}")
    assert status == 0
    assert "knn" in output.out
    (folder,) = (path.parent for path in tmp_path.rglob("probes.json"))
    stored = json.loads((folder / "probes.json").read_text())
    assert set(stored["metrics"]) == {"linear", "knn"}
    assert stored["metrics"]["knn"]["top1"] == 1  # flat colours are easy
    provenance = stored["provenance"]
    assert provenance["data"] == {"name": "npz", "size": 32, "classes": 3}
    assert provenance["backbone"]["method"] == "simclr"
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    page = (folder / "report.html").read_text()
    assert "knn, top1" in page
    assert "No category has been evaluated" not in page
    assert read_run(folder).provenance["backbone"]["tensors"] == provenance["backbone"]["tensors"]


def test_a_timm_model_with_random_weights(evaluate, tmp_path):
    assert evaluate("test_resnet", "--encoder.weights", "random", "--data.size", "32")[0] == 0
    status, output = evaluate("test_resnet", "--encoder.weights", "random", "--data.size", "32")
    assert status == 2
    assert "--overwrite" in output.err


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("exported:/no/file", (), "no weights file"),
        ("resnet_none", ("--encoder.weights", "random"), "timm has no model"),
        ("test_resnet", ("--encoder.weights", "random", "--probes.knn.k", "0"), "k is 1 or more"),
        (
            "test_resnet",
            ("--encoder.weights", "random", "--data.name", "images", "--data.root", "/tmp"),
            "no test split",
        ),
        ("test_resnet", ("--encoder.weights", "random", "--device", "cpu cpu"), "on one device"),
    ],
)
def test_errors_name_the_reason(evaluate, name, words, message):
    status, output = evaluate(name, *words)
    assert status == 2
    assert message in output.err


def test_config_survives_yaml(tmp_path):
    cfg = load_config("probe/probe.py")
    save_config(cfg, tmp_path / "config.yaml")
    assert dict(flatten(load_config(tmp_path))) == dict(flatten(cfg))


RESUMED = ["--data.batch_size", "4", "--probes.linear.epochs", "3", "--probes.knn.k", "5", "--device", "cpu"]
CALLS = {"forward": Encoder, "fit": LinearProbe, "votes": NearestNeighbours}  # what costs time
BATCHES = 8 + 4  # of four of the 30 training and 13 test images; with blocks of eight images


def _counted(calls, limit):
    """Patch what costs time so that its calls are counted, and one call kills this process."""

    def wrap(name, original):
        def counted(*args):
            calls[name] += 1
            if limit and (name, calls[name]) == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        return counted

    patches = [mock.patch.object(kind, name, wrap(name, getattr(kind, name))) for name, kind in CALLS.items()]
    return [*patches, mock.patch.object(features, "BLOCK", 8)]


def _evaluate(words, calls, limit=None):
    patches = _counted(calls, limit)
    for patch in patches:
        patch.start()
    try:
        return main(words)
    finally:
        for patch in patches:
            patch.stop()


@pytest.fixture(scope="module")
def command(archive, export):
    """Function that returns the words of a command that writes below a folder."""

    def make(folder):
        data = ["--data.name", "npz", "--data.root", str(archive), "--encoder.name", f"exported:{export}"]
        return [*data, *RESUMED, "--output", str(folder)]

    return make


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    calls = Counter()
    assert _evaluate(command(folder), calls) == 0
    assert calls == {"forward": BATCHES, "fit": 1, "votes": 1}
    (file,) = folder.rglob("probes.json")
    return file


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (("forward", 1), {"forward": BATCHES, "fit": 1, "votes": 1}),
        (("forward", 6), {"forward": BATCHES - 4, "fit": 1, "votes": 1}),  # in the third block
        (("forward", 11), {"forward": BATCHES - 10, "fit": 1, "votes": 1}),  # in the second block of the test images
        (("votes", 1), {"fit": 1, "votes": 1}),
        (("fit", 1), {"fit": 1}),  # the probes are in alphabetical order
    ],
)
def test_a_killed_evaluation_resumes_to_the_same_bytes(limit, expected, command, uninterrupted, tmp_path):
    child = children.start(partial(_evaluate, command(tmp_path), Counter(), limit))
    child.join(children.SECONDS)
    assert child.exitcode == -signal.SIGKILL
    assert not list(tmp_path.rglob("probes.json"))
    calls = Counter()
    assert _evaluate([*command(tmp_path), "--resume"], calls) == 0
    assert calls == expected
    (file,) = tmp_path.rglob("probes.json")
    assert file.read_bytes() == uninterrupted.read_bytes()
    assert not list(file.parent.rglob("training/*"))  # the features are removed
    assert (file.parent / "report.html").exists()


def test_resuming_a_finished_evaluation_computes_nothing(command, uninterrupted):
    before, calls = uninterrupted.read_bytes(), Counter()
    assert _evaluate([*command(uninterrupted.parents[4]), "--resume"], calls) == 0
    assert not calls
    assert uninterrupted.read_bytes() == before


def test_damaged_features_and_results_are_computed_again(command, uninterrupted, tmp_path):
    child = children.start(partial(_evaluate, command(tmp_path), Counter(), ("fit", 1)))
    child.join(children.SECONDS)
    (state,) = tmp_path.rglob("run.json")
    run = json.loads(state.read_text())
    assert set(run["probes"]) == {"knn"}
    state.write_text(json.dumps({**run, "probes": {"knn": "high"}}))
    blocks = list(state.parent.rglob("training/probe/*/*.safetensors"))
    assert len(blocks) == 6
    blocks[0].write_bytes(blocks[0].read_bytes()[:-1])
    calls = Counter()
    assert _evaluate([*command(tmp_path), "--resume"], calls) == 0
    assert 1 <= calls.pop("forward") <= 2  # the batches of one block
    assert calls == {"fit": 1, "votes": 1}
    assert (state.parent / "probes.json").read_bytes() == uninterrupted.read_bytes()


def test_another_setting_is_not_resumed(command, uninterrupted, capsys):
    words = [*command(uninterrupted.parents[4]), "--resume", "--probes.linear.epochs", "4"]
    assert main(words) == 2
    assert "probes.linear.epochs was 3 and is 4" in capsys.readouterr().err
