"""Thresholds from held-out images: never from images that were trained on, and equal for the same seed."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from anoframe.evaluation.decision import estimate_threshold
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import ObservingDetector
from anoframe.tracking.tracker import Trackers
from anoframe.training.checkpoint import read_thresholds
from anoframe.training.context import FitContext
from anoframe.training.threshold import _hold_out, score_held_back
from anoframe.types import Prediction, Sample


def samples(count):
    return [Sample(f"{i}.png", "felt", "train") for i in range(count)]


@pytest.mark.parametrize(("count", "held_out"), [(9, []), (10, [2]), (100, [20])])
def test_share_of_the_images_is_held_out(count, held_out):
    assert [len(part) for part in _hold_out(samples(count), 0.2, 0)] == held_out


def test_two_images_are_always_left_for_training():
    (part,) = _hold_out(samples(10), 0.99, 0)
    assert len(part) == 8


@pytest.mark.parametrize("count", [10, 13, 99, 341])
@pytest.mark.parametrize(("fits", "share"), [(5, 0.2), (3, 1 / 3), (2, 0.5)])
def test_several_fits_hold_out_every_image_once(count, fits, share):
    parts = _hold_out(samples(count), share, 0, fits)
    assert len(parts) == fits
    assert sorted((sample for part in parts for sample in part), key=samples(count).index) == samples(count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shares_below_one_leave_images_in_every_fit():
    parts = _hold_out(samples(100), 0.2, 0, fits=3)
    assert [len(part) for part in parts] == [20, 20, 20]
    assert len({sample.image for part in parts for sample in part}) == 60
    assert parts[0] == _hold_out(samples(100), 0.2, 0)[0], "the first fit is the only one of threshold.fits 1"


def test_only_normal_images_are_held_out():
    defects = [Sample(f"defect {i}.png", "felt", "train", "cut") for i in range(40)]
    mixed = [sample for pair in zip(samples(40), defects, strict=True) for sample in pair]
    held_out = _hold_out(mixed, 0.2, 0)
    assert held_out == _hold_out(samples(40), 0.2, 0)
    assert _hold_out(samples(9) + defects, 0.2, 0) == []


def test_seed_selects_the_images():
    assert _hold_out(samples(50), 0.2, 1) == _hold_out(samples(50), 0.2, 1) != _hold_out(samples(50), 0.2, 2)


class Observer(ObservingDetector):
    """Remembers its training images. The feature of an image is its score, and a tenth of it its highest pixel."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.register_buffer("unused", torch.zeros(1))  # tells the device
        self.trained = []

    def begin_observation(self, images):
        self.expected = images

    def observe(self, features, samples):
        self.trained += samples

    def finish_observation(self):
        assert len(self.trained) == self.expected

    def compute_prediction(self, features, size):
        maps = torch.zeros(len(features), *size)
        maps[:, 0, 1] = features / 10
        return Prediction(features, maps)


def test_scores_of_several_fits_are_joined():
    detectors, felt = [], samples(20)

    def build():
        detectors.append(Observer())
        return detectors[-1]

    context = FitContext("threshold", 3, None, Trackers())
    held_back = score_held_back(build, extract, lambda _: None, {"felt": felt}, 0.25, 2, context, fits=4)
    parts = _hold_out(felt, 0.25, 3, fits=4)
    for detector, part in zip(detectors, parts, strict=True):
        assert detector.trained == [sample for sample in felt if sample not in part]
    numbers = [int(sample.image.removesuffix(".png")) for part in parts for sample in part]
    assert held_back["felt"].scores == tuple(numbers)
    assert held_back["felt"].peaks == pytest.approx([number / 10 for number in numbers], rel=1e-6)


def extract(detector, chosen):
    """One batch, in which the feature of an image is the number that names it."""
    features = torch.tensor([float(sample.image.removesuffix(".png")) for sample in chosen])
    return [FeatureBatch(features, torch.zeros(len(chosen), 1, 2, 2, dtype=torch.bool), tuple(chosen))]


def test_images_that_were_not_trained_on_are_scored():
    detector, felt = Observer(), samples(20)
    mesh = [Sample(f"{i}.png", "mesh", "train") for i in range(100, 105)]
    context = FitContext("threshold", 3, None, Trackers())
    held_back = score_held_back(
        lambda: detector, extract, lambda _: None, {"felt": felt, "mesh": mesh}, 0.2, 2, context
    )
    (held_out,) = _hold_out(felt, 0.2, 3)
    assert detector.trained == [*(sample for sample in felt if sample not in held_out), *mesh]
    numbers = [int(sample.image.removesuffix(".png")) for sample in held_out]
    assert held_back["mesh"] is None, "too few images"
    assert held_back["felt"].scores == tuple(numbers)
    assert held_back["felt"].peaks == pytest.approx([number / 10 for number in numbers], rel=1e-6)


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


def test_held_back_scores_are_in_the_checkpoint_and_give_its_threshold(with_threshold):
    folder = with_threshold.folder / "checkpoint/felt"
    read = read_thresholds(folder)
    assert read.categories == ("felt",)
    scores = read.held_back["felt"]
    assert len(scores.scores) == len(scores.peaks) == 2
    assert estimate_threshold(scores.scores, scores.peaks, 0.01) == read.thresholds["felt"]


def test_no_held_back_scores_without_held_back_images(without_threshold):
    assert not (without_threshold.folder / "checkpoint/felt/held_back.json").exists()


def test_threshold_changes_no_metric(with_threshold, without_threshold):
    assert with_threshold.metrics == without_threshold.metrics


def test_no_threshold_without_held_out_images(without_threshold):
    assert without_threshold.results.provenance["thresholds"] == {"felt": None}


def test_warning_for_too_few_images(finished):
    log = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    warnings = [event["text"] for event in log if event["event"] == "warning"]
    assert "felt: too few training images for a threshold" in warnings
