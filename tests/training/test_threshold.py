"""Thresholds from held-out images: never from images that were trained on, and equal for the same seed."""

from __future__ import annotations

import json

import pytest

from anoframe.training.threshold import _hold_out
from anoframe.types import Sample


def samples(count):
    return [Sample(f"{i}.png", "felt", "train") for i in range(count)]


@pytest.mark.parametrize(("count", "held_out"), [(9, 0), (10, 2), (100, 20)])
def test_share_of_the_images_is_held_out(count, held_out):
    assert len(_hold_out(samples(count), 0.2, 0)) == held_out


def test_two_images_are_always_left_for_training():
    assert len(_hold_out(samples(10), 0.99, 0)) == 8


def test_seed_selects_the_images():
    assert _hold_out(samples(50), 0.2, 1) == _hold_out(samples(50), 0.2, 1) != _hold_out(samples(50), 0.2, 2)


@pytest.fixture(scope="module")
def with_threshold(train_tiny, enough_root):
    return train_tiny(["felt"], data__root=str(enough_root))


@pytest.fixture(scope="module")
def without_threshold(train_tiny, enough_root):
    return train_tiny(["felt"], data__root=str(enough_root), threshold__held_back=0.0)


def test_threshold_is_in_checkpoint_and_metrics(with_threshold):
    description = json.loads((with_threshold.folder / "checkpoint/felt/detector.json").read_text())
    threshold = description["thresholds"]["felt"]
    assert threshold["images"] == 2
    assert with_threshold.results.provenance["thresholds"]["felt"] == threshold


def test_threshold_changes_no_metric(with_threshold, without_threshold):
    assert with_threshold.metrics == without_threshold.metrics


def test_no_threshold_without_held_out_images(without_threshold):
    assert without_threshold.results.provenance["thresholds"] == {"felt": None}


def test_warning_for_too_few_images(finished):
    log = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    warnings = [event["text"] for event in log if event["event"] == "warning"]
    assert "felt: too few training images for a threshold" in warnings
