"""RD4AD: training, detection and options, on a small random teacher."""

import copy

import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from anoframe.backbones import FeaturePyramid
from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.models.base import Phase, TrainingBatch
from anoframe.models.factory import build_detector
from anoframe.models.rd4ad.model import RD4AD
from anoframe.types import Sample

SMALL = {"depths": (2, 2), "code_depth": 1}


@pytest.fixture(scope="module")
def teacher():
    """A small random ResNet with two levels at strides 4 and 8. Read only."""
    return FeaturePyramid("test_resnet", (1, 2), "random")


@pytest.fixture
def detector(teacher):
    torch.manual_seed(0)
    return RD4AD(teacher, **SMALL)


def batch_of(detector, images):
    with torch.no_grad():
        features = detector.encode(images)
    samples = tuple(Sample(f"{i}.png", "tiny", "train") for i in range(len(images)))
    return TrainingBatch(features, samples, torch.arange(len(images)))


def train(detector, images, steps):
    """Minimise the loss of the only phase with Adam on one batch; return the losses."""
    (phase,) = detector.training_stages()
    optimiser = torch.optim.Adam(phase.parameters.values(), lr=0.005, betas=(0.5, 0.999))
    batch = batch_of(detector, images)
    losses = []
    detector.train()
    for _ in range(steps):
        loss = sum(phase.loss(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    detector.eval()
    return losses


def changed_names(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def clones(state):
    return {name: value.clone() for name, value in state.items()}


@pytest.fixture(scope="module")
def overfitted(teacher, images_of):
    """A detector trained on the same four images for many steps, and its losses. Read only."""
    torch.manual_seed(0)
    detector = RD4AD(teacher, depths=(1, 1), code_depth=1, width=0.25)
    return detector, train(detector, images_of(0, 4), 80)


# ------------------------------------------------------------------------------------------------- training


def test_training_is_one_phase_on_all_images(detector):
    (phase,) = detector.training_stages()
    assert isinstance(phase, Phase)
    assert (phase.name, phase.rows) == ("student", None)


def test_the_phase_trains_the_bottleneck_and_the_decoder_only(detector):
    (phase,) = detector.training_stages()
    trained = {id(parameter) for parameter in phase.parameters.values()}
    assert trained == {id(parameter) for parameter in detector.student.parameters()}
    assert not trained & {id(parameter) for parameter in detector.backbone.parameters()}


def test_parameters_have_their_names_in_a_checkpoint(detector):
    (phase,) = detector.training_stages()
    assert phase.parameters.keys() <= detector.learned_state().keys()


def test_every_parameter_gets_a_gradient(detector, images_of):
    (phase,) = detector.training_stages()
    sum(phase.loss(batch_of(detector, images_of(0, 4))).values()).backward()
    assert [name for name, parameter in phase.parameters.items() if not parameter.grad.abs().sum() > 0] == []


def test_training_changes_the_statistics_of_the_student_and_nothing_in_the_teacher(detector, images_of):
    teacher, student = clones(detector.backbone.state_dict()), clones(detector.learned_state())
    train(detector, images_of(0, 4), 10)
    assert changed_names(teacher, detector.backbone.state_dict()) == set()
    statistics = {name for name in student if "running" in name}
    assert any(name.startswith("student.code") for name in statistics)
    assert any(name.startswith("student.stages") for name in statistics)
    assert statistics <= changed_names(student, detector.learned_state())


def test_the_teacher_gets_no_gradient(detector, images_of):
    train(detector, images_of(0, 4), 1)
    assert [name for name, parameter in detector.backbone.named_parameters() if parameter.grad is not None] == []


def test_the_loss_falls_on_four_images(overfitted):
    _, losses = overfitted
    assert losses[-1] < 0.25 * losses[0]


def test_the_loss_is_float32_under_autocast(detector, images_of):
    batch = batch_of(detector, images_of(0, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert detector.training_stages()[0].loss(batch)["cosine"].dtype == torch.float32


@pytest.mark.parametrize("loss", ["flat", "local"])
def test_the_loss_equals_its_definition(teacher, images_of, loss):
    detector = RD4AD(teacher, loss=loss, **SMALL).eval()
    batch = batch_of(detector, images_of(0, 3))
    expected = 0
    for target, output in zip(batch.features, detector.student(batch.features), strict=True):
        pair = (target.flatten(1), output.flatten(1)) if loss == "flat" else (target, output)
        expected += sum(1 - F.cosine_similarity(t, s, dim=0).mean() for t, s in zip(*pair, strict=True)) / 3
    torch.testing.assert_close(detector.training_stages()[0].loss(batch)["cosine"], expected)


def test_the_seed_of_a_run_determines_the_initial_weights():
    section = {"name": "rd4ad", "backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}, **SMALL}
    states = [build_detector(section, seed).learned_state() for seed in (3, 3, 4)]
    assert changed_names(states[0], states[1]) == set()
    assert changed_names(states[0], states[2])


# ------------------------------------------------------------------------------------------------- detecting


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_the_map_equals_its_definition_smoothed_by_scipy(teacher, images_of, combine, sigma):
    detector = RD4AD(teacher, combine=combine, sigma=sigma, **SMALL).eval()
    features = detector.encode(images_of(0, 2))
    maps = torch.ones(2, 48, 40) if combine == "product" else torch.zeros(2, 48, 40)
    for target, output in zip(features, detector.student(features), strict=True):
        distance = 1 - F.cosine_similarity(target, output, dim=1).detach()
        large = F.interpolate(distance[:, None], (48, 40), mode="bilinear", align_corners=True)[:, 0]
        maps = maps * large if combine == "product" else maps + large
    maps = maps.numpy()
    expected = [gaussian_filter(image, sigma, mode="reflect", truncate=4.0) if sigma else image for image in maps]
    assert_allclose(detector.detect(features, (48, 40)).anomaly_map, expected, rtol=0, atol=1e-5)


def test_the_score_is_the_largest_value_of_the_smoothed_map(detector, images_of):
    prediction = detector.predict(images_of(1, 3))
    assert torch.equal(prediction.score, prediction.anomaly_map.flatten(1).max(1).values)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_image_has_the_same_result_to_the_bit_in_any_batch(detector, images_of, batch):
    train(detector, images_of(0, 4), 3)
    images = images_of(1, 5, (160, 160))
    together, parts = detector.predict(images), [detector.predict(part) for part in images.split(batch)]
    assert torch.equal(together.anomaly_map, torch.cat([part.anomaly_map for part in parts]))
    assert torch.equal(together.score, torch.cat([part.score for part in parts]))


def test_training_images_are_less_anomalous_than_other_images(overfitted, images_of):
    detector, _ = overfitted
    seen, unseen = (detector.predict(images_of(seed, 4)).anomaly_map.mean() for seed in (0, 1))
    assert seen < 0.8 * unseen


def test_detecting_in_train_mode_uses_eval_mode_and_restores_train_mode(detector, images_of):
    expected, before = detector.eval().predict(images_of(0, 2)), copy.deepcopy(detector.state_dict())
    prediction = detector.train().predict(images_of(0, 2))
    assert torch.equal(prediction.anomaly_map, expected.anomaly_map)
    assert changed_names(before, detector.state_dict()) == set()
    assert all(module.training for module in detector.student.modules())


# ------------------------------------------------------------------------------------------------- options


def has_linear_heads(detector):
    return [isinstance(head, nn.Conv2d) for head in detector.student.heads]


@pytest.mark.parametrize(
    ("heads", "expected"), [("auto", [False, True]), ("relu", [False] * 2), ("linear", [True] * 2)]
)
def test_signed_levels_have_linear_heads_by_default(backbone, heads, expected):
    backbone.signed = (False, True)
    assert has_linear_heads(RD4AD(backbone, heads=heads)) == expected


def test_a_resnet_has_no_linear_heads(detector):
    assert has_linear_heads(detector) == [False, False]


def test_the_shipped_efficientnet_has_linear_heads_at_three_levels():
    cfg = load_config("rd4ad/rd4ad_lite0_256.py", {"model.backbone.weights": "random"})
    detector = build_detector(cfg.model)
    assert detector.backbone.strides == (4, 8, 16)
    assert has_linear_heads(detector) == [True] * 3


def test_options_are_passed_to_the_student(teacher):
    detector = RD4AD(teacher, fuse=False, width=1.0, code_width=0.25, depths=(1, 2), block="bottleneck", code_depth=2)
    student = detector.student
    assert (student.fuse, len(student.code), [len(stage) for stage in student.stages]) == (False, 2, [2, 1])
    assert student.stages[0][0].residual[0].out_channels == teacher.channels[0]
    assert student.code[1].residual[0].out_channels == 64  # the minimum


@pytest.mark.parametrize(("arguments", "message"), [
    ({"loss": "cosine"}, r"model\.loss is one of flat, local, got 'cosine'"),
    ({"combine": "mean"}, r"model\.combine is one of sum, product, got 'mean'"),
    ({"heads": "signed"}, r"model\.heads is one of auto, relu, linear, got 'signed'"),
    ({"sigma": -1.0}, r"model\.sigma is at least 0, got -1\.0"),
    ({"depths": (1,)}, r"model\.depths has one number, at least 1, for each of 2 levels"),
])  # fmt: skip
def test_an_option_out_of_range_is_an_error_that_names_its_key(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        RD4AD(backbone, **arguments)


def test_levels_from_deep_to_shallow_are_an_error():
    with pytest.raises(AnoframeError, match=r"from shallow to deep.*model\.backbone\.levels gives strides \(8, 4\)"):
        RD4AD(FeaturePyramid("test_resnet", (2, 1), "random"))


def test_a_teacher_without_channels_is_an_error():
    with pytest.raises(AnoframeError, match="needs a teacher with an attribute 'channels', and Identity has none"):
        RD4AD(nn.Identity())
