"""Base classes of all methods: encoding, detection and checkpoints."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, ObservingDetector
from anoframe.models.summary import MethodSummary
from anoframe.types import Prediction


class ToyDetector(Detector):
    """A frozen encoder with weights, a parameter, a buffer, and a submodule that has both."""

    def __init__(self, width: int = 3):
        super().__init__(nn.Conv2d(3, 4, 1))
        self.scale = nn.Parameter(torch.rand(width))
        self.register_buffer("bank", torch.empty(0))
        self.norm = nn.BatchNorm1d(2)

    def compute_prediction(self, features, size):
        maps = features.mean(1) * self.scale.sum()
        return Prediction(maps.flatten(1).max(1).values, maps.new_zeros(len(maps), *size))


class RecordingDetector(ToyDetector):
    """Remembers how `compute_prediction` and `prepare_detection` were called; features are a list and a dict."""

    def __init__(self):
        super().__init__()
        self.calls, self.preparations = [], []

    def extract_features(self, images):
        fine = images.float().to(memory_format=torch.channels_last)
        return {"levels": [fine, fine[..., ::2]], "tokens": images.float().flatten(1)}

    def prepare_detection(self):
        self.preparations.append(threading.get_ident())

    def compute_prediction(self, features, size):
        tokens = features["tokens"]
        self.calls.append((len(tokens), self.training, torch.is_grad_enabled(), torch.get_num_threads()))
        maps = features["levels"][0].mean(1)
        return Prediction(tokens.sum(1), maps, {"max": features["levels"][1].amax(1)})


class NamedDetector(ToyDetector):
    """Scores an image by the length of its category name; it has no map."""

    uses_category = True

    def add_category(self, features, categories):
        return {"image": features, "letters": torch.tensor([float(len(name)) for name in categories])}

    def compute_prediction(self, features, size):
        return Prediction(features["letters"], extra_scores={"half": features["letters"] / 2})


def clone(state):
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.fixture
def toy():
    detector = ToyDetector()
    detector.bank = torch.rand(5, 2)
    detector.norm.running_mean.fill_(0.25)
    return detector


# ------------------------------------------------------------------------------------------------ encode and detect


def test_predict_detects_on_the_output_of_encode(toy):
    images = torch.rand(2, 3, 6, 8)
    expected = toy.detect(toy.encode(images), (6, 8))
    assert torch.equal(toy.predict(images).score, expected.score)


def test_predict_returns_maps_of_the_image_size(toy):
    assert toy.predict(torch.rand(2, 3, 6, 8)).anomaly_map.shape == (2, 6, 8)


def test_predict_records_no_graph(toy):
    assert not toy.predict(torch.rand(2, 3, 6, 8)).score.requires_grad


def test_features_can_be_nested_lists_and_dicts_of_tensors():
    images = torch.rand(3, 3, 6, 8)
    features = RecordingDetector().encode(images)
    assert features.keys() == {"levels", "tokens"}
    assert [level.shape for level in features["levels"]] == [(3, 3, 6, 8), (3, 3, 6, 4)]
    assert torch.equal(features["levels"][0], images)
    assert torch.equal(features["levels"][1], images[..., ::2])
    assert torch.equal(features["tokens"], images.flatten(1))


def test_features_are_contiguous_whatever_the_layout_of_the_encoder():
    features = RecordingDetector().encode(torch.rand(3, 3, 6, 8))
    assert all(value.is_contiguous() for value in [*features["levels"], features["tokens"]])


def test_detection_gets_one_image_at_a_time_in_eval_mode_without_gradients_on_one_thread():
    detector = RecordingDetector().train()
    detector.predict(torch.rand(4, 3, 6, 8))
    assert detector.calls == [(1, False, False, 1)] * 4


def test_detection_joins_scores_maps_and_extra_maps_in_order():
    detector, images = RecordingDetector(), torch.rand(4, 3, 6, 8)
    prediction = detector.predict(images)
    torch.testing.assert_close(prediction.score, images.flatten(1).sum(1))
    assert torch.equal(prediction.anomaly_map, images.mean(1))
    assert torch.equal(prediction.extra_maps["max"], images[..., ::2].amax(1))


def test_a_detector_that_declares_it_gets_the_category_of_each_image():
    prediction = NamedDetector().predict(torch.rand(3, 3, 6, 8), ["screw", "pcb1", "bottle"])
    assert prediction.score.tolist() == [5, 4, 6]


def test_an_unknown_category_is_called_object():
    assert NamedDetector().predict(torch.rand(2, 3, 6, 8)).score.tolist() == [len("object")] * 2


def test_a_detector_that_does_not_declare_it_never_gets_a_category(toy, monkeypatch):
    def fail(*_):
        raise AssertionError("the category was passed on")

    images = torch.rand(2, 3, 6, 8)
    expected = toy.predict(images)
    monkeypatch.setattr(toy, "add_category", fail)
    assert torch.equal(toy.predict(images, ["screw", "bottle"]).score, expected.score)


def test_a_prediction_without_maps_joins_its_extra_scores_in_order():
    prediction = NamedDetector().predict(torch.rand(3, 3, 6, 8), ["a", "bb", "ccc"])
    assert prediction.anomaly_map is None
    assert prediction.extra_scores["half"].tolist() == [0.5, 1, 1.5]


def test_detection_is_prepared_once_in_the_calling_thread():
    detector = RecordingDetector()
    detector.predict(torch.rand(4, 3, 6, 8))
    assert detector.preparations == [threading.get_ident()]


@pytest.mark.parametrize("training", [True, False])
def test_detection_restores_the_mode(toy, training):
    toy.train(training).predict(torch.rand(2, 3, 6, 8))
    assert [toy.training, toy.norm.training] == [training] * 2


def test_the_mode_is_restored_after_an_error(toy, monkeypatch):
    def fail(features, size):
        raise KeyError("detection")

    monkeypatch.setattr(toy, "compute_prediction", fail)
    with pytest.raises(KeyError, match="detection"):
        toy.train().predict(torch.rand(2, 3, 6, 8))
    assert toy.training


# ------------------------------------------------------------------------------------------------ reports


def test_a_detector_reports_nothing_by_default(toy):
    assert toy.summary() == MethodSummary()
    assert list(toy.messages()) == []


# ------------------------------------------------------------------------------------------------ learned state


def test_the_learned_state_leaves_out_the_frozen_encoder(toy):
    names = {"scale", "bank", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert toy.learned_state().keys() == names | {"norm.num_batches_tracked"}


def test_the_learned_state_can_be_loaded(toy):
    fresh = ToyDetector()
    fresh.load_learned_state(clone(toy.learned_state()))
    for name, value in toy.learned_state().items():
        assert torch.equal(fresh.learned_state()[name], value), name


def test_a_loaded_buffer_takes_the_saved_shape(toy):
    fresh = ToyDetector()
    fresh.load_learned_state(clone(toy.learned_state()))
    assert dict(fresh.named_buffers())["bank"].shape == (5, 2)


def test_a_loaded_parameter_stays_the_same_object(toy):
    # an optimiser built earlier may refer to it
    fresh = ToyDetector()
    before = fresh.scale
    fresh.load_learned_state(clone(toy.learned_state()))
    assert fresh.scale is before
    assert fresh.scale.requires_grad


def test_loading_does_not_change_the_encoder(toy):
    fresh = ToyDetector()
    before = fresh.backbone.weight.detach().clone()
    fresh.load_learned_state(clone(toy.learned_state()))
    assert torch.equal(fresh.backbone.weight, before)


def test_a_missing_tensor_is_an_error_that_names_it(toy):
    state = clone(toy.learned_state())
    del state["bank"]
    with pytest.raises(AnoframeError, match="of another method or version: bank do not match"):
        ToyDetector().load_learned_state(state)


def test_an_additional_tensor_is_an_error_that_names_it(toy):
    with pytest.raises(AnoframeError, match="of another method or version: covariance do not match"):
        ToyDetector().load_learned_state({**clone(toy.learned_state()), "covariance": torch.zeros(2)})


def test_a_parameter_of_another_shape_is_an_error_that_names_it_and_both_shapes(toy):
    with pytest.raises(AnoframeError, match=r"checkpoint's scale has the shape \(3,\), expected \(4,\)"):
        ToyDetector(width=4).load_learned_state(clone(toy.learned_state()))


@pytest.mark.parametrize("base", [Detector, ObservingDetector])
def test_base_classes_are_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base(nn.Identity())
