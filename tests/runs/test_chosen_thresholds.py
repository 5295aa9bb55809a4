"""Thresholds as a decision of the user: in tests, predictions and the checkpoint, from Python and the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import anoframe
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import estimate_threshold
from anoframe.training.checkpoint import read_thresholds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def trained(train_tiny, enough_root):
    """A run on one category with two held-back images. Read-only."""
    return train_tiny(["felt"], data__root=str(enough_root), report__pictures=0)


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the run, to store thresholds in."""
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


@pytest.fixture
def old(copy):
    """A checkpoint as an earlier version wrote it: with a threshold, without held-back scores."""
    (copy / "checkpoint/felt/held_back.json").unlink()
    return copy


def expected(run, rate):
    held_back = read_thresholds(run / "checkpoint/felt").held_back["felt"]
    return estimate_threshold(held_back.scores, held_back.peaks, rate)


def stored(run):
    return json.loads((run / "checkpoint/felt/detector.json").read_text())["thresholds"]["felt"]


def result(run):
    return json.loads((Path(run) / "results/felt.json").read_text())


# ------------------------------------------------------------------------------------------------ test


def test_a_test_uses_the_rate_that_is_asked_for_and_changes_no_metric(trained, tmp_path):
    run = anoframe.test(trained.folder, output=tmp_path, threshold={"false_positive_rate": 0.5})
    threshold = expected(trained.folder, 0.5)
    assert result(run.folder)["threshold"] == threshold.to_json()
    assert run.metrics == trained.metrics
    assert run.results.provenance["threshold"] == {"false_positive_rate": 0.5}
    scores = [(i["score"], i["defect"] == "good") for i in result(run.folder)["images"]]
    counts = run.results.decisions["felt"].counts
    assert counts.misses == sum(np.float32(s) < np.float32(threshold.image) for s, good in scores if not good)
    assert counts.false_alarms == sum(np.float32(s) >= np.float32(threshold.image) for s, good in scores if good)


def test_a_test_without_options_is_as_before(trained, tmp_path):
    run = anoframe.test(trained.folder, output=tmp_path)
    assert result(run.folder)["threshold"] == result(trained.folder)["threshold"]
    assert "threshold" not in run.results.provenance


def test_a_given_value_decides(trained, tmp_path, cli):
    words = ("--mode", "test", "--checkpoint", trained.folder, "--output", tmp_path)
    done = cli(*words, "--threshold.value", "1000", "--threshold.pixel_value=7")
    assert done.status == 0, done.err
    (folder,) = tmp_path.glob("tiny/separate/felt/0-test")
    assert result(folder)["threshold"]["image"] == 1000
    assert result(folder)["threshold"]["given"] == ["image", "pixel"]
    assert "4 of 4" in done.out
    (row, _) = csv.DictReader((folder / "metrics.csv").open())
    assert (row["misses"], row["miss_rate"], row["false_alarms"]) == ("4", "1.0", "0")


def test_a_test_with_another_threshold_does_not_continue_an_earlier_one(trained, tmp_path):
    anoframe.test(trained.folder, output=tmp_path, threshold={"value": 1.0})
    with pytest.raises(AnoframeError, match=r"threshold\.value was 1\.0 and is 2\.0"):
        anoframe.test(trained.folder, output=tmp_path, start="resume", threshold={"value": 2.0})


def test_a_rate_that_two_images_cannot_support_is_a_warning(trained, tmp_path, cli):
    words = ("--mode", "test", "--checkpoint", trained.folder, "--output", tmp_path)
    done = cli(*words, "--threshold.false_positive_rate", "0.001")
    assert "warning: felt: 2 held-back images guarantee no false-alarm rate below 0.33" in done.out


def test_a_value_for_several_detectors_is_refused(finished, tmp_path):
    with pytest.raises(AnoframeError, match="felt, mesh have one each: choose a category"):
        anoframe.test(finished.folder, output=tmp_path, threshold={"value": 1.0})


# ------------------------------------------------------------------------------------------------ predict


def predict(run, tmp_path, **asked):
    source = Path(run.config.data.root) / "felt/test"
    summary = anoframe.predict(run.folder, source, tmp_path / "out", overlays=False, maps="none", threshold=asked)
    lines = (tmp_path / "out/scores.jsonl").read_text().splitlines()
    return summary, [json.loads(line) for line in lines]


def test_a_prediction_uses_the_rate_that_is_asked_for(trained, tmp_path):
    summary, entries = predict(trained, tmp_path, false_positive_rate=0.5)
    assert {entry["threshold"] for entry in entries} == {expected(trained.folder, 0.5).image}
    assert summary.remarks == []


def test_a_prediction_uses_a_given_value(trained, tmp_path):
    score = sorted(image["score"] for image in result(trained.folder)["images"])[2]
    summary, entries = predict(trained, tmp_path, value=score)
    assert summary.defects == len(entries) - 2


# ------------------------------------------------------------------------------------------------ stored


def test_a_stored_threshold_is_used_from_then_on_and_old_results_keep_theirs(copy, tmp_path, cli):
    before, results = stored(copy), (copy / "results/felt.json").read_bytes()
    done = cli("--mode", "threshold", "--checkpoint", copy, "--false_positive_rate", "0.5", "--cls_names", "felt")
    assert done.status == 0, done.err
    assert stored(copy) == expected(copy, 0.5).to_json() != before
    assert f"felt: threshold {before['image']:.6g} -> {stored(copy)['image']:.6g}" in done.out
    assert (copy / "results/felt.json").read_bytes() == results
    run = anoframe.test(copy, output=tmp_path)
    assert run.results.provenance["thresholds"]["felt"] == stored(copy)


def test_storing_changes_nothing_else_in_the_checkpoint(copy):
    path = copy / "checkpoint/felt/detector.json"
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    anoframe.set_threshold(copy, threshold={"false_positive_rate": 0.5})
    anoframe.set_threshold(copy, threshold={"false_positive_rate": 0.01})
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == files


def test_nothing_is_stored_if_a_category_cannot_have_the_rate(run_copy, tmp_path):
    before = [path.read_bytes() for path in sorted(run_copy.glob("checkpoint/*/detector.json"))]
    with pytest.raises(AnoframeError, match="'felt' has no scores of held-back"):
        anoframe.set_threshold(run_copy, threshold={"false_positive_rate": 0.1})
    assert [path.read_bytes() for path in sorted(run_copy.glob("checkpoint/*/detector.json"))] == before


def test_a_category_without_threshold_gets_one_by_its_value(run_copy, tiny_root, tmp_path):
    anoframe.set_threshold(run_copy, ["mesh"], {"value": 0.0})
    summary = anoframe.predict(run_copy, tiny_root / "mesh/test/good", tmp_path / "out", category="mesh")
    assert summary.defects == summary.images == 3


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ((), "no threshold is given"),
        (("--false_positive_rate", "2"), "share in (0, 1), got 2.0"),
        (("--false_positive_rate", "high"), "threshold.false_positive_rate takes a number, got 'high'"),
        (("--false_positive_rate", "0.1", "--cls_names", "flet"), "did you mean 'felt'"),
        (("--false_positive_rate", "0.1", "--threshold.value", "1"), "give one of them"),
        (("--false_positive_rate", "0.1", "--threshold.false_positive_rate", "0.1"), "are the same"),
    ],
)
def test_wrong_options_are_refused(copy, cli, words, phrase):
    done = cli("--mode", "threshold", "--checkpoint", copy, *words)
    assert done.status == 2
    assert phrase in done.err


# ------------------------------------------------------------------------------------------------ earlier versions


def test_an_old_checkpoint_keeps_its_threshold_and_takes_a_value(old, tmp_path):
    assert result(anoframe.test(old, output=tmp_path / "a").folder)["threshold"] == stored(old)
    run = anoframe.test(old, output=tmp_path / "b", threshold={"value": 1.0})
    assert result(run.folder)["threshold"]["image"] == 1.0


def test_an_old_checkpoint_refuses_a_rate_with_the_way_out(old, tmp_path, cli):
    done = cli("--mode", "test", "--checkpoint", old, "--output", tmp_path, "--threshold.false_positive_rate", "0.1")
    assert done.status == 2
    assert "an earlier version wrote it" in done.err
    assert "--threshold.value, or train again with --threshold.held_back 0.2" in done.err
    assert not list(tmp_path.glob("tiny"))


@pytest.mark.parametrize("text", ["[]", '{"categories": {"felt": {}}}', '{"learned_sha256": "0", "categories": {}}'])
def test_damaged_held_back_scores_are_an_error_that_names_the_file(copy, text):
    (copy / "checkpoint/felt/held_back.json").write_text(text)
    with pytest.raises(AnoframeError, match=r"held_back\.json is damaged"):
        anoframe.set_threshold(copy, threshold={"false_positive_rate": 0.1})
