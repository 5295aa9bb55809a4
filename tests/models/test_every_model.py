"""Properties of every method; a new module in `anoframe/models` is tested here without further registration."""

import inspect

import pytest
import torch
from fake_clip import FakeCLIP

from anoframe.errors import AnoframeError
from anoframe.models import factory
from anoframe.models.base import Detector, ObservingDetector
from anoframe.models.factory import build_detector
from anoframe.registry import MODELS

each_method = pytest.mark.parametrize("name", MODELS.names())


def needs_text(name):
    """Whether a method only works with a CLIP model; it gets a small one in place of any other backbone."""
    return getattr(MODELS.load(name), "needs_text", False)


def build(name, backbone, size):
    """Build a method with its defaults; a method for one image size is built for `size`.

    It then has 8 tokens per side, or 4 tiles.
    """
    method = MODELS.load(name)
    backbone = FakeCLIP() if needs_text(name) else backbone
    parameters = inspect.signature(method).parameters
    for_size = {"image_size": size, "stride": min(size) // 8} if "image_size" in parameters else {}
    if "tile_size" in parameters:
        for_size = {"tile_size": min(size) // 4}
    detector = method(backbone, **for_size)
    assert isinstance(detector, Detector)
    return detector


def allowed_size(name, height, width):
    """The size, or the largest square in it for a method that cuts square images into tiles."""
    is_square = "tile_size" in inspect.signature(MODELS.load(name)).parameters
    return (min(height, width),) * 2 if is_square else (height, width)


@pytest.fixture
def fitted(backbone, images_of, fit):
    """Builds a method with its defaults, and fits it to a few images if it is an observing detector."""

    def make(name, backbone=backbone, size=(32, 32), count=6):
        detector = build(name, backbone, size)
        return fit(detector, images_of(0, count, size)) if isinstance(detector, ObservingDetector) else detector

    return make


def assert_same(prediction, expected):
    assert torch.equal(prediction.score, expected.score)
    if expected.anomaly_map is None:
        assert prediction.anomaly_map is None
    else:
        assert torch.equal(prediction.anomaly_map, expected.anomaly_map)


@each_method
def test_scores_and_maps_are_finite_and_of_the_image_size(fitted, images_of, name):
    size = allowed_size(name, 32, 48)
    prediction = fitted(name, size=size).predict(images_of(1, 3, size))
    assert prediction.score.shape == (3,)
    assert prediction.score.isfinite().all()
    if prediction.anomaly_map is not None:  # an image-level method has none
        assert prediction.anomaly_map.shape == (3, *size)
        assert prediction.anomaly_map.isfinite().all()


@each_method
def test_the_learned_state_can_be_loaded_into_a_new_detector(fitted, backbone, images_of, name):
    detector, fresh = fitted(name), build(name, backbone, (32, 32))
    fresh.load_learned_state({key: value.clone() for key, value in detector.learned_state().items()})
    assert_same(fresh.predict(images_of(1, 3)), detector.predict(images_of(1, 3)))


@each_method
def test_train_mode_changes_no_prediction(fitted, images_of, name):
    detector = fitted(name)
    before = detector.predict(images_of(1, 3))
    assert_same(detector.train().predict(images_of(1, 3)), before)


@each_method
def test_predicting_changes_no_learned_state(fitted, images_of, name):
    detector = fitted(name)
    before = {key: value.clone() for key, value in detector.learned_state().items()}
    detector.predict(images_of(1, 3))
    after = detector.learned_state()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


@each_method
def test_an_image_scores_the_same_to_the_bit_in_any_batch_on_real_features(fitted, images_of, lite0, name):
    # 160 pixels or more: for maps under about 10 x 10, rounding in the network's convolutions depends on the batch size
    detector, images = fitted(name, lite0, (160, 160), count=2), images_of(1, 3, (160, 160))
    together, alone = detector.predict(images), [detector.predict(image) for image in images.split(1)]
    assert torch.equal(together.score, torch.cat([prediction.score for prediction in alone]))
    if together.anomaly_map is not None:
        assert torch.equal(together.anomaly_map, torch.cat([prediction.anomaly_map for prediction in alone]))


@each_method
@torch.no_grad()
def test_a_whole_batch_is_computed_like_single_images(fitted, images_of, name):
    # accelerators get whole batches, see Detector.detect
    detector = fitted(name).eval()
    features = detector.encode(images_of(1, 3))
    detector.prepare_detection()
    given = detector.add_category(features, ["object"] * 3) if detector.uses_category else features
    batch, expected = detector.compute_prediction(given, (32, 32)), detector.detect(features, (32, 32))
    torch.testing.assert_close(batch.score, expected.score)
    torch.testing.assert_close(batch.anomaly_map, expected.anomaly_map)
    torch.testing.assert_close(batch.extra_maps, expected.extra_maps)


@each_method
def test_a_detector_implements_compute_prediction_and_leaves_detect_to_the_base_class(name):
    method = MODELS.load(name)
    assert method.compute_prediction is not Detector.compute_prediction
    assert method.detect is Detector.detect


SECTION = {"backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}}


@each_method
def test_a_config_section_builds_the_method_with_its_backbone(name, monkeypatch):
    if needs_text(name):
        monkeypatch.setattr(factory, "build_backbone", lambda section: FakeCLIP())
    detector = build_detector({"name": name, **SECTION})
    assert type(detector) is MODELS.load(name)
    assert needs_text(name) or detector.backbone.levels == ("layer1", "layer2")


def test_the_seed_of_the_run_is_passed_to_a_method_that_takes_one():
    assert build_detector({"name": "patchcore", **SECTION}, seed=7).seed == 7


def test_arguments_of_a_section_are_passed_to_the_method():
    assert build_detector({"name": "patchcore", "sigma": 1.5, "coreset": {"ratio": 0.2}, **SECTION}).sigma == 1.5


def test_an_unknown_method_is_an_error_that_names_the_nearest():
    with pytest.raises(AnoframeError, match="unknown model 'patchcor': did you mean 'patchcore'"):
        build_detector({"name": "patchcor", **SECTION})


def test_an_unknown_argument_is_an_error_before_the_backbone_is_built():
    with pytest.raises(AnoframeError, match="takes no argument 'neighbors': did you mean 'neighbours'"):
        build_detector({"name": "patchcore", "neighbors": 3, "backbone": {"name": "no such network"}})
