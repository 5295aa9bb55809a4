"""Misses and false alarms, against a count by hand, in results, CSV and console table."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from anoframe.evaluation.outcomes import count_outcomes, mean_rates
from anoframe.evaluation.results import Results
from anoframe.metrics.catalogue import DECISIONS

RNG = np.random.default_rng(0)


def result(threshold=0.5, good=20, defects=30):
    """A result file with random scores."""
    kinds = ["good"] * good + ["cut", "dent"] * (defects // 2)
    images = [
        {"name": f"{i}.png", "defect": kind, "score": float(np.float32(RNG.random()))} for i, kind in enumerate(kinds)
    ]
    limits = None if threshold is None else {"image": threshold, "pixel": None, "false_positive_rate": 0.1, "images": 9}
    return {"metrics": {"image_auroc": 0.5}, "backbone": {}, "counts": {}, "threshold": limits, "images": images}


def test_decisions_are_those_of_a_count_by_hand():
    tested = result()
    outcomes = count_outcomes(tested)
    scores = {kind: [i["score"] for i in tested["images"] if (i["defect"] == "good") is kind] for kind in (True, False)}
    misses, alarms = sum(s < 0.5 for s in scores[False]), sum(s >= 0.5 for s in scores[True])
    assert 0 < misses < 30
    assert outcomes.to_json() == {
        "misses": misses,
        "miss_rate": misses / 30,
        "false_alarms": alarms,
        "false_alarm_rate": alarms / 20,
    }
    assert tuple(outcomes.to_json()) == DECISIONS


def test_a_score_equal_to_the_threshold_is_a_defect():
    tested = result(threshold=0.1)  # not a float32
    tested["images"] = [{"name": "a", "defect": "cut", "score": float(np.float32(0.1))}]
    assert count_outcomes(tested).counts.misses == 0


def test_no_threshold_no_decisions():
    assert count_outcomes(result(threshold=None)) is None


@pytest.mark.parametrize(("sizes", "missing"), [({"good": 0}, "false_alarm_rate"), ({"defects": 0}, "miss_rate")])
def test_rate_of_no_images_is_not_available(sizes, missing):
    assert [name for name, value in count_outcomes(result(**sizes)).to_json().items() if value is None] == [missing]


def test_mean_is_that_of_the_rates():
    outcomes = {name: count_outcomes(result()) for name in "ab"} | {"c": count_outcomes(result(good=0))}
    alarms = [outcomes[name].to_json()["false_alarm_rate"] for name in "ab"]
    assert mean_rates(outcomes)["false_alarm_rate"] == pytest.approx(sum(alarms) / 2)


@pytest.fixture
def results():
    evaluated = {"felt": result(), "mesh": result(threshold=None), "rope": result(threshold=0.3)}
    return Results.from_categories({}, evaluated, {})


def test_csv_has_decisions_and_means_of_the_rates_alone(results):
    rows = {row["category"]: row for row in csv.DictReader(io.StringIO(results.csv()))}
    assert float(rows["felt"]["miss_rate"]) == results.decisions["felt"].to_json()["miss_rate"]
    assert rows["felt"]["misses"] == str(results.decisions["felt"].counts.misses)
    assert [rows["mesh"][name] for name in (*DECISIONS, "threshold")] == [""] * 5
    assert (rows["mean"]["misses"], rows["mean"]["false_alarms"], rows["mean"]["threshold"]) == ("", "", "")
    assert float(rows["mean"]["miss_rate"]) == results.mean_decisions["miss_rate"]


def test_metrics_json_is_the_same_with_decisions(results, tmp_path):
    results.write(tmp_path)
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"categories", "mean", "provenance"}
    assert results.categories["felt"] == {"image_auroc": 0.5}


def test_runs_without_thresholds_have_no_further_columns():
    alone = Results.from_categories({}, {"mesh": result(threshold=None)}, {})
    assert alone.csv().splitlines()[0] == "category,image_auroc"
    assert "threshold" not in alone.table()


def test_console_table_says_misses_and_false_alarms(results):
    lines = results.table().splitlines()
    row = next(line for line in lines[5:] if line.startswith("felt"))
    outcomes = results.decisions["felt"]
    assert f"{outcomes.counts.misses} of 30" in row
    assert f"{outcomes.counts.false_alarms} of 20" in row


def test_decisions_are_read_back_from_the_results_of_a_run(results, tmp_path):
    results.write(tmp_path)
    (tmp_path / "results").mkdir()
    tested = result()
    (tmp_path / "results/felt.json").write_text(json.dumps(tested))
    (tmp_path / "results/rope.json").write_text(json.dumps({"threshold": {"image": 1.0}, "images": "damaged"}))
    assert Results.read(tmp_path).decisions == {"felt": count_outcomes(tested)}
