"""Evaluation of encoders from the command line: run folder, report, and the encoders it accepts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from anoframe.backbones.encoder import Encoder
from anoframe.backbones.exported import write_export
from anoframe.config import flatten, load_config, save_config
from anoframe.evaluate_encoder import main
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
