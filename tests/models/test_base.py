import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, ObservingDetector
from anoframe.types import Prediction


class Toy(Detector):
    """Something of everything: a frozen encoder with weights, a parameter, a buffer, and both of them in a part."""

    def __init__(self, width: int = 3):
        super().__init__(nn.Conv2d(3, 4, 1))
        self.scale = nn.Parameter(torch.rand(width))
        self.register_buffer("bank", torch.empty(0))
        self.part = nn.BatchNorm1d(2)

    def detect(self, features, size):
        maps = features.mean(1) * self.scale.sum()
        return Prediction(maps.flatten(1).max(1).values, maps.new_zeros(len(maps), *size))


def clone(state):
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.fixture
def toy():
    detector = Toy()
    detector.bank = torch.rand(5, 2)
    detector.part.running_mean.fill_(0.25)
    return detector


def test_predict_is_detect_on_what_encode_gives(toy):
    images = torch.rand(2, 3, 6, 8)
    expected = toy.detect(toy.encode(images), (6, 8))
    assert torch.equal(toy.predict(images).score, expected.score)


def test_predict_asks_for_maps_of_the_images_size(toy):
    assert toy.predict(torch.rand(2, 3, 6, 8)).anomaly_map.shape == (2, 6, 8)


def test_predict_carries_no_graph(toy):
    assert not toy.predict(torch.rand(2, 3, 6, 8)).score.requires_grad


def test_the_frozen_encoder_is_not_part_of_what_was_learned(toy):
    names = {"scale", "bank", "part.weight", "part.bias", "part.running_mean", "part.running_var"}
    assert toy.learned_state().keys() == names | {"part.num_batches_tracked"}


def test_what_was_learned_comes_back(toy):
    fresh = Toy()
    fresh.load_learned_state(clone(toy.learned_state()))
    for name, value in toy.learned_state().items():
        assert torch.equal(fresh.learned_state()[name], value), name


def test_a_buffer_takes_the_shape_it_had(toy):
    fresh = Toy()
    fresh.load_learned_state(clone(toy.learned_state()))
    assert dict(fresh.named_buffers())["bank"].shape == (5, 2)


def test_a_parameter_stays_the_same_object(toy):
    # an optimizer made before may hold it
    fresh = Toy()
    before = fresh.scale
    fresh.load_learned_state(clone(toy.learned_state()))
    assert fresh.scale is before
    assert fresh.scale.requires_grad


def test_loading_leaves_the_encoder_alone(toy):
    fresh = Toy()
    before = fresh.backbone.weight.detach().clone()
    fresh.load_learned_state(clone(toy.learned_state()))
    assert torch.equal(fresh.backbone.weight, before)


def test_a_missing_tensor_is_an_error_that_names_it(toy):
    state = clone(toy.learned_state())
    del state["bank"]
    with pytest.raises(AnoframeError, match="of another method or version: bank do not match"):
        Toy().load_learned_state(state)


def test_a_tensor_too_many_is_an_error_that_names_it(toy):
    with pytest.raises(AnoframeError, match="of another method or version: covariance do not match"):
        Toy().load_learned_state({**clone(toy.learned_state()), "covariance": torch.zeros(2)})


def test_a_parameter_of_another_shape_is_an_error_that_names_it_and_both_shapes(toy):
    with pytest.raises(AnoframeError, match=r"checkpoint's scale has the shape \(3,\), expected \(4,\)"):
        Toy(width=4).load_learned_state(clone(toy.learned_state()))


@pytest.mark.parametrize("base", [Detector, ObservingDetector])
def test_a_method_must_say_how_it_detects_and_learns(base):
    with pytest.raises(TypeError, match="abstract"):
        base(nn.Identity())
