"""PatchCore-noising with its student: levels, training stages, and the weighting of both maps."""

import copy
from functools import cache

import pytest
import torch
from numpy.testing import assert_allclose

from anoframe.backbones import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur
from anoframe.models.patchcore_noising.model import PatchCoreNoising
from anoframe.models.patchcore_noising.noise import NoiseSettings, noise_amplitude
from anoframe.models.rd4ad.loss import distillation_map, reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation

pytestmark = pytest.mark.slow

SMALL = {"embedding": {"method": "concat"}, "coreset": {"ratio": 0.1}, "sigma": 1.0}
STUDENT = {"enable": True, "levels": (0, 1, 2), "width": 0.25}
NO_ADDITION = {"lambda_noise": 0.0, "lambda_influence": 0.0}
STAGES = ["coreset", "noise", "student", "norm"]


@pytest.fixture(scope="module")
def pyramid():
    """Two levels of a small network with random weights: 8 x 8 and 4 x 4 for an image of 32 pixels."""
    pyramid = FeaturePyramid("test_resnet", (1, 2), "random")
    pyramid.with_levels = cache(pyramid.with_levels)  # it is frozen, so one per choice of levels is enough
    return pyramid


@pytest.fixture(scope="module")
def teacher(pyramid):
    """The student's levels, shallow first."""
    return pyramid.with_levels((0, 1, 2))


@pytest.fixture(scope="module")
def make(pyramid):
    """Builds a detector with a student, with the same initial weights each time."""

    def build(student=STUDENT, **arguments):
        torch.manual_seed(0)
        return PatchCoreNoising(pyramid, student=student, **SMALL, **arguments).eval()

    return build


@pytest.fixture(scope="module")
def images(images_of):
    """Training images."""
    return images_of(0, 6)


def run(stage, features, batch=4, steps=3):
    """Run one training stage, as a trainer does."""
    images = len(features[0])
    if isinstance(stage, Observation):
        with torch.no_grad():
            stage.begin(images)
            for start in range(0, images, batch):
                stage.observe([level[start : start + batch] for level in features], ())
            stage.finish()
        return
    optimiser = torch.optim.Adam(stage.parameters.values(), 0.005)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(stage.loss(TrainingBatch(features, (), torch.arange(images))).values()).backward()
        optimiser.step()


def train(detector, images, stages=STAGES, **options):
    """Run the training stages of these names."""
    features = detector.encode(images)
    for stage in detector.training_stages():
        if stage.name in stages:
            torch.manual_seed(1)
            run(stage, features, **options)
    return detector


@pytest.fixture(scope="module")
def trained(make, images):
    """Returns a copy of a detector after all stages; the weight of the student's map does not affect training."""
    originals = {}

    def get(beta=0.5, image_score="max"):
        if image_score not in originals:
            originals[image_score] = train(make(image_score=image_score), images)
        detector = copy.deepcopy(originals[image_score])
        detector.student.beta = beta
        return detector

    return get


@pytest.fixture(scope="module")
def before_student(make, images):
    """Returns a copy of a detector after the stages before the student's phase."""
    original = train(make(), images, ["coreset", "noise"])
    return lambda: copy.deepcopy(original)


def state_of(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def assert_same(prediction, expected):
    assert torch.equal(prediction.score, expected.score)
    assert torch.equal(prediction.anomaly_map, expected.anomaly_map)


def differing(states):
    """Names of tensors that differ between two trained states."""
    first, second = states
    return [name for name in first if not torch.equal(first[name], second[name])]


def distances_left_out(detector, images, k):
    """Distances `[images, N]` of patches to the entries of other images."""
    patches, _ = detector.embed(detector.encode(images))
    return torch.stack(
        [
            torch.cdist(image.double(), detector.bank[detector.bank_images != i].double()).sort(1).values[:, :k].mean(1)
            for i, image in enumerate(patches)
        ]
    )


# -------------------------------------------------------------------------------------------------------- no student


@pytest.mark.parametrize("off", [None, {}, {"enable": False, "levels": (0, 1, 2), "tau": 3.0}])
def test_without_a_student_the_backbone_state_and_stages_are_those_of_the_bank(make, pyramid, off):
    detector = make(off)
    assert detector.backbone is pyramid
    assert set(detector.learned_state()) == {"bank", "bank_images", "deviation", "quantiles"}
    assert [stage.name for stage in detector.training_stages()] == ["coreset"]


def test_without_additions_and_student_there_is_no_calibration(make, images):
    detector = make(None, **NO_ADDITION)
    run(detector.training_stages()[0], detector.encode(images))
    assert not len(detector.deviation)


# ------------------------------------------------------------------------------------------------------------ levels


def test_the_backbone_returns_the_levels_of_the_bank_first_then_the_additional_levels_of_the_student(make):
    assert make().backbone.levels == ("layer1", "layer2", "act1")


def test_a_student_on_levels_of_the_bank_does_not_replace_the_backbone(make, pyramid):
    assert make({**STUDENT, "levels": ("layer1", 2)}).backbone is pyramid


@torch.no_grad()
def test_the_student_reconstructs_its_levels_shallow_first(make, images, teacher):
    detector = make()
    (loss,) = [stage.loss for stage in detector.training_stages() if stage.name == "student"]
    value = loss(TrainingBatch(detector.encode(images), (), torch.arange(6)))["cosine"]
    levels = teacher(images)
    assert_allclose(value, reverse_distillation_loss(levels, detector.student.network(levels)), rtol=1e-5)


def test_the_bank_equals_that_without_a_student(make, images):
    banks = []
    for student in (STUDENT, None):
        detector = make(student)
        run(detector.training_stages()[0], detector.encode(images))
        banks.append(detector.bank)
    assert torch.equal(*banks)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), r"model\.student\.levels .* at least one.* got none"),
        ((1, "layer1"), r"model\.student\.levels names each level once.*got layer1 at stride 4, layer1 at stride 4"),
        ((2, 1), r"model\.student\.levels .* shallow first; got layer2 at stride 8, layer1 at stride 4"),
        ((1, 9), "has no level 9"),
    ],
)
def test_invalid_levels_are_errors(make, levels, message):
    with pytest.raises(AnoframeError, match=message):
        make({**STUDENT, "levels": levels})


def test_an_unknown_setting_is_an_error_that_names_the_nearest(make):
    with pytest.raises(AnoframeError, match=r"model\.student takes no argument 'betas': did you mean 'beta'"):
        make({**STUDENT, "betas": 1.0})


# ------------------------------------------------------------------------------------------------------------ stages


def test_training_has_four_stages(make):
    assert [stage.name for stage in make().training_stages()] == STAGES


def test_the_phase_trains_all_parameters_of_the_student_and_no_others(make):
    detector = make()
    (phase,) = [stage for stage in detector.training_stages() if stage.name == "student"]
    trainable = {name: value for name, value in detector.named_parameters() if not name.startswith("backbone.")}
    assert phase.parameters.keys() == trainable.keys()
    assert all(name.startswith("student.network.") for name in phase.parameters)
    assert all(value is trainable[name] for name, value in phase.parameters.items())


def test_the_phase_changes_only_the_network_of_the_student(before_student, images):
    detector = before_student()
    before = state_of(detector) | {name: value.clone() for name, value in detector.backbone.state_dict().items()}
    train(detector.train(), images, ["student"])
    after = detector.learned_state() | detector.backbone.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("student.network.") for name in changed)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("added", [{}, NO_ADDITION])
@pytest.mark.parametrize("kind", ["adaptive", "constant"])
def test_amplitudes_follow_from_distances_to_entries_of_other_images(make, images, k, added, kind):
    noise = {"amplitude": kind, "a_min": 0.1, "a_max": 0.9}
    detector = train(make(noise=noise, neighbours=k, **added), images, ["coreset", "noise"])
    distances, (q50, q95) = distances_left_out(detector, images, k), detector.quantiles.double()
    expected = 0.1 + 0.8 * (1 - torch.exp(-((distances - q50) / (q95 - q50)).clamp(min=0)))
    expected = expected if kind == "adaptive" else torch.full_like(expected, 0.5)
    assert detector.student.amplitude.shape == (6, 8, 8)
    assert_allclose(detector.student.amplitude.flatten(1), expected, rtol=1e-4)


def test_images_without_a_bank_entry_have_amplitudes(make, images):
    detector = train(make(), images, ["coreset"])
    kept = detector.bank_images != 2
    detector.bank, detector.bank_images = detector.bank[kept], detector.bank_images[kept]
    train(detector, images, ["noise"])
    expected = noise_amplitude(distances_left_out(detector, images, 1), *detector.quantiles.double(), NoiseSettings())
    assert_allclose(detector.student.amplitude.flatten(1), expected, rtol=1e-4)


def test_channel_deviations_are_over_all_training_images(before_student, images, teacher):
    detector = before_student()
    expected = torch.cat([level.double().movedim(1, 0).flatten(1).std(1, correction=0) for level in teacher(images)])
    assert_allclose(detector.student.deviation, expected, rtol=1e-4)


def test_amplitudes_are_stored_only_during_training(make, images):
    detector = make()
    sizes = [train(detector, images, [name]).student.amplitude.numel() for name in STAGES]
    assert sizes == [0, 6 * 64, 6 * 64, 0]


def test_the_batch_size_of_an_observation_changes_no_bit(make, images):
    states = [state_of(train(make(), images, ["coreset", "noise", "norm"], batch=batch)) for batch in (1, 4)]
    assert differing(states) == []


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_training_can_be_resumed_between_stages(make, pyramid, images, tau):
    settings = {**STUDENT, "tau": tau}
    detector = train(make(settings), images, ["coreset", "noise"])
    torch.manual_seed(7)
    fresh = PatchCoreNoising(pyramid, student=settings, **SMALL).eval()
    fresh.load_learned_state(state_of(detector))
    for copied in (detector, fresh):
        train(copied.train(), images, ["student"])
        train(copied.eval(), images, ["norm"])
    assert differing((state_of(detector), state_of(fresh))) == []


def test_without_noise_training_equals_reverse_distillation_to_the_bit(make, images):
    detector = train(make({**STUDENT, "tau": 0.0}), images, ["coreset", "noise"]).train()
    torch.manual_seed(0)
    plain = ReverseDistillation((32, 32, 48), (2, 4, 8), False, width=0.25)
    optimiser = torch.optim.Adam(plain.parameters(), 0.005)
    features = detector.encode(images)
    teacher = [features[2], *features[:2]]
    for _ in range(3):
        optimiser.zero_grad()
        reverse_distillation_loss(teacher, plain(teacher)).backward()
        optimiser.step()
    train(detector, images, ["student"])
    assert all(torch.equal(*pair) for pair in zip(detector.student.parameters(), plain.parameters(), strict=True))


# --------------------------------------------------------------------------------------------------------- detecting


@torch.no_grad()
def student_maps(detector, levels):
    """Smoothed student maps of a detector in eval mode, for images of 32 pixels."""
    return gaussian_blur(distillation_map(levels, detector.student.network(levels), (32, 32)), 1.0)


def test_beta_one_is_the_map_of_the_student_and_its_maximum(trained, images_of, teacher):
    detector, images = trained(1.0), images_of(1, 4)
    prediction = detector.predict(images)
    assert_allclose(prediction.anomaly_map, student_maps(detector, teacher(images)), rtol=0, atol=1e-5)
    assert torch.equal(prediction.score, prediction.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("image_score", ["max", "reweight"])
def test_beta_zero_is_the_bank_to_the_bit(make, trained, images, images_of, image_score):
    bank_only = make(None, image_score=image_score)
    run(bank_only.training_stages()[0], bank_only.encode(images))
    detector = trained(0.0, image_score=image_score)
    assert_same(detector.predict(images_of(1, 4)), bank_only.predict(images_of(1, 4)))


@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_beta_between_zero_and_one_weights_both_normalised_maps(trained, images_of, beta):
    prediction = trained(beta).predict(images_of(1, 4))
    student, bank = prediction.extra_maps["student"], prediction.extra_maps["bank"]
    assert_allclose(prediction.anomaly_map, beta * student + (1 - beta) * bank, rtol=1e-5, atol=1e-6)
    assert torch.equal(prediction.score, prediction.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_extra_maps_contain_both_maps_for_any_weight(trained, images_of, beta):
    maps = trained(beta).predict(images_of(1, 2, (32, 48))).extra_maps
    assert {name: tuple(extra.shape) for name, extra in maps.items()} == dict.fromkeys(
        ("influence", "amplitude", "response", "bank", "student"), (2, 32, 48)
    )


def test_the_normalised_map_of_the_student_is_standardised_on_training_images(trained, images):
    maps = trained().predict(images).extra_maps["student"].double()
    assert float(maps.mean()) == pytest.approx(0, abs=1e-4)
    assert float(maps.std()) == pytest.approx(1, abs=1e-3)


def test_the_normalised_map_of_the_bank_is_standardised_on_training_images_without_their_own_entries(trained, images):
    detector = trained()
    maps = []
    for i in range(len(images)):
        without_own = copy.deepcopy(detector)
        without_own.bank = detector.bank[detector.bank_images != i]
        maps.append(without_own.predict(images[i : i + 1]).extra_maps["bank"].double())
    assert float(torch.cat(maps).mean()) == pytest.approx(0, abs=1e-4)
    assert float(torch.cat(maps).std()) == pytest.approx(1, abs=1e-3)


def test_noise_changes_training_and_not_detection(make, images, images_of):
    clean, noised = (train(make({**STUDENT, "tau": tau}).train(), images) for tau in (0.0, 2.0))
    assert not torch.equal(clean.predict(images).anomaly_map, noised.predict(images).anomaly_map)
    clean.load_learned_state(state_of(noised))
    assert_same(clean.predict(images_of(1, 3)), noised.predict(images_of(1, 3)))


def test_before_the_last_stage_the_map_of_the_student_is_used_alone(make, images, images_of, teacher):
    detector = train(make({**STUDENT, "beta": 0.0}), images, ["coreset", "noise", "student"])
    prediction, expected = detector.predict(images_of(1, 3)), student_maps(detector, teacher(images_of(1, 3)))
    assert_allclose(prediction.anomaly_map, expected, rtol=0, atol=1e-5)


def test_a_deviation_of_zero_on_training_images_gives_finite_maps(trained, images_of):
    detector = trained()
    detector.map_moments[:, 1] = 0
    assert detector.predict(images_of(1, 2)).anomaly_map.isfinite().all()


def test_the_learned_state_can_be_loaded_into_a_new_detector(make, trained, images_of):
    detector, fresh = trained(), make()
    fresh.load_learned_state(state_of(detector))
    assert_same(fresh.predict(images_of(1, 3)), detector.predict(images_of(1, 3)))


def test_train_mode_changes_no_prediction(trained, images_of):
    detector = trained()
    before, state = detector.predict(images_of(1, 3)), state_of(detector)
    assert_same(detector.train().predict(images_of(1, 3)), before)
    assert all(torch.equal(value, state[name]) for name, value in detector.learned_state().items())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_an_image_scores_the_same_in_any_batch(trained, images_of, batch, beta):
    detector, images = trained(beta), images_of(1, 3, (96, 96))
    together, parts = detector.predict(images), [detector.predict(part) for part in images.split(batch)]
    assert torch.equal(together.score, torch.cat([part.score for part in parts]))
    assert torch.equal(together.anomaly_map, torch.cat([part.anomaly_map for part in parts]))
