"""What every method promises, and so every new one: a module in `anoframe/models` is tested here by existing."""

import inspect

import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, ObservingDetector
from anoframe.models.factory import build_detector
from anoframe.registry import MODELS

each_method = pytest.mark.parametrize("name", MODELS.names())


def built(name, backbone, size):
    """A method with its defaults; one that is for images of one size alone is built for that, with 8 tokens a side."""
    method = MODELS.load(name)
    one_size = "image_size" in inspect.signature(method).parameters
    detector = method(backbone, **({"image_size": size, "stride": min(size) // 8} if one_size else {}))
    assert isinstance(detector, Detector)
    return detector


@pytest.fixture
def taught(backbone, images_of, fit):
    """Builds a method with its defaults and teaches it a few images, in the way it learns."""

    def make(name, backbone=backbone, size=(32, 32), count=6):
        detector = built(name, backbone, size)
        return fit(detector, images_of(0, count, size)) if isinstance(detector, ObservingDetector) else detector

    return make


def assert_same(one, other):
    assert torch.equal(one.score, other.score)
    assert torch.equal(one.anomaly_map, other.anomaly_map)


@each_method
def test_scores_and_maps_are_finite_and_of_the_images_size(taught, images_of, name):
    prediction = taught(name, size=(32, 48)).predict(images_of(1, 3, (32, 48)))
    assert prediction.score.shape == (3,)
    assert prediction.anomaly_map.shape == (3, 32, 48)
    assert prediction.score.isfinite().all()
    assert prediction.anomaly_map.isfinite().all()


@each_method
def test_what_was_learned_moves_to_a_fresh_detector(taught, backbone, images_of, name):
    detector, fresh = taught(name), built(name, backbone, (32, 32))
    fresh.load_learned_state({key: value.clone() for key, value in detector.learned_state().items()})
    assert_same(fresh.predict(images_of(1, 3)), detector.predict(images_of(1, 3)))


@each_method
def test_training_mode_changes_nothing(taught, images_of, name):
    detector = taught(name)
    before = detector.predict(images_of(1, 3))
    assert_same(detector.train().predict(images_of(1, 3)), before)


@each_method
def test_predicting_learns_nothing(taught, images_of, name):
    detector = taught(name)
    before = {key: value.clone() for key, value in detector.learned_state().items()}
    detector.predict(images_of(1, 3))
    after = detector.learned_state()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


@each_method
def test_an_image_scores_the_same_to_the_bit_in_any_batch_on_real_features(taught, images_of, lite0, name):
    # 160 pixels and more: for maps under about 10 x 10, the network's own convolutions round by the size of the batch
    detector, images = taught(name, lite0, (160, 160), count=2), images_of(1, 5, (160, 160))
    together, alone = detector.predict(images), [detector.predict(one) for one in images.split(1)]
    assert torch.equal(together.score, torch.cat([one.score for one in alone]))
    assert torch.equal(together.anomaly_map, torch.cat([one.anomaly_map for one in alone]))


SECTION = {"backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}}


@each_method
def test_a_config_section_builds_it_on_its_backbone(name):
    detector = build_detector({"name": name, **SECTION})
    assert type(detector) is MODELS.load(name)
    assert detector.backbone.levels == ("layer1", "layer2")


def test_the_seed_of_the_run_reaches_a_method_that_draws():
    assert build_detector({"name": "patchcore", **SECTION}, seed=7).seed == 7


def test_a_section_of_arguments_reaches_its_method():
    assert build_detector({"name": "patchcore", "sigma": 1.5, "coreset": {"ratio": 0.2}, **SECTION}).sigma == 1.5


def test_an_unknown_method_is_an_error_that_names_the_nearest():
    with pytest.raises(AnoframeError, match="unknown model 'patchcor': did you mean 'patchcore'"):
        build_detector({"name": "patchcor", **SECTION})


def test_an_unknown_argument_is_an_error_before_the_backbone_is_built():
    with pytest.raises(AnoframeError, match="takes no argument 'neighbors': did you mean 'neighbours'"):
        build_detector({"name": "patchcore", "neighbors": 3, "backbone": {"name": "no such network"}})
