"""Runs on MVTec LOCO have sPRO and the AUROC of each kind of defects; runs on other datasets have neither."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loco_tree import write_loco

from anoframe.data.dataset import open_dataset
from anoframe.evaluation.full_size import restore_size
from anoframe.metrics import auroc, auspro

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

NAMES = {"image_auroc_logical", "image_auroc_structural"}
SPRO = {"auspro_0.05", "auspro_0.05_logical", "auspro_0.05_structural", "auspro_0.3"}


@pytest.fixture
def root(tmp_path):
    return write_loco(tmp_path / "loco")


@pytest.fixture
def train(train_tiny, root):
    def run(**overrides):
        data = {"data__name": "loco", "data__root": str(root), "model__coreset__ratio": 0.5, **overrides}
        return train_tiny(["pushpins"], **data)

    return run


def test_the_values_are_those_of_the_predictions(train, root):
    run = train(data__keep_aspect=False)
    metrics = run.metrics["pushpins"]
    dataset = open_dataset("loco", root)
    samples = [sample for sample in dataset.samples("pushpins") if sample.split == "test"]
    predicted = [run.predict(sample.image) for sample in samples]
    preprocessing = run._checkpoint(None).preprocessing
    maps = np.stack([restore_size(p.anomaly_map.numpy(), (40, 56), preprocessing) for p in predicted])
    values = []
    for kind in ("logical", "structural"):
        rows = [i for i, sample in enumerate(samples) if sample.defect in ("good", f"{kind}_anomalies")]
        labels = [samples[i].is_defect for i in rows]
        assert metrics[f"image_auroc_{kind}"] == auroc(labels, [float(predicted[i].score) for i in rows])
        values.append(auspro([dataset.regions(samples[i]) for i in rows], maps[rows]))
        assert metrics[f"auspro_0.05_{kind}"] == pytest.approx(values[-1], abs=2e-3)
    assert metrics["auspro_0.05"] == pytest.approx(np.mean(values), abs=2e-3)
    stored = json.loads((run.folder / "metrics.json").read_text())
    assert set(stored["categories"]["pushpins"]) >= NAMES | SPRO
    report = (run.folder / "report.html").read_text()
    assert "AU-sPRO 0.05, logical" in report
    assert "Image AUROC, structural" in report


def test_other_datasets_have_no_such_column(finished):
    assert not (NAMES | SPRO) & set(finished.metrics["felt"])


def test_an_unreadable_saturation_area_costs_spro_alone(train, root):
    (root / "pushpins/defects_config.json").write_text("[]")
    run = train()
    metrics = run.metrics["pushpins"]
    assert run.failed == {}
    assert {metrics[name] for name in SPRO} == {None}
    assert all(metrics[name] is not None for name in NAMES | {"aupro"})
    events = map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())
    assert any("pushpins: no sPRO: " in event["text"] for event in events if event["event"] == "warning")
    assert json.loads((run.folder / "metrics.json").read_text())["provenance"]["not_available"] == {
        "pushpins": sorted(SPRO)
    }


def test_a_missing_config_is_told_before_the_fit(train, root):
    (root / "pushpins/defects_config.json").unlink()
    run = train()
    events = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    told = [i for i, event in enumerate(events) if "sPRO is not available" in event.get("text", "")]
    assert told
    assert told[0] < names.index("fit")
