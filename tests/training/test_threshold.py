"""Thresholds from held-back images: never from those learned from, the same for the same seed."""

from __future__ import annotations

import json

import pytest

from anoframe.training.threshold import _held_back
from anoframe.types import Sample


def samples(count):
    return [Sample(f"{i}.png", "felt", "train") for i in range(count)]


@pytest.mark.parametrize(("count", "held"), [(9, 0), (10, 2), (100, 20)])
def test_a_share_of_the_images_is_held_back(count, held):
    assert len(_held_back(samples(count), 0.2, 0)) == held


def test_two_images_are_always_left_to_learn_from():
    assert len(_held_back(samples(10), 0.99, 0)) == 8


def test_the_seed_chooses():
    assert _held_back(samples(50), 0.2, 1) == _held_back(samples(50), 0.2, 1) != _held_back(samples(50), 0.2, 2)


@pytest.fixture(scope="module")
def with_threshold(train_tiny, enough_root):
    return lambda **changes: train_tiny(["felt"], data__root=str(enough_root), **changes)


def test_a_run_keeps_its_threshold_in_checkpoint_and_metrics(with_threshold):
    run = with_threshold()
    stored = json.loads((run.folder / "checkpoint/felt/detector.json").read_text())["thresholds"]["felt"]
    assert stored["images"] == 2
    assert run.results.provenance["thresholds"]["felt"] == stored


def test_a_threshold_changes_no_metric(with_threshold):
    assert with_threshold().metrics == with_threshold(threshold__held_back=0.0).metrics


def test_no_share_no_threshold(with_threshold):
    assert with_threshold(threshold__held_back=0.0).results.provenance["thresholds"] == {"felt": None}


def test_too_few_images_are_told(finished):
    log = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    warnings = [one["text"] for one in log if one["event"] == "warning"]
    assert "felt: too few training images for a threshold, scores alone" in warnings
