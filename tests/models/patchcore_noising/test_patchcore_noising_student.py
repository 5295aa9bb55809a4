import copy
from functools import cache

import pytest
import torch
from numpy.testing import assert_allclose

from anoframe.backbones import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.models.base import Observation, TrainingBatch
from anoframe.models.components.anomaly_map import gaussian_blur
from anoframe.models.patchcore_noising.model import Noise, PatchCoreNoising, noise_amplitude
from anoframe.models.rd4ad.loss import distillation_map, reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation

SMALL = {"embedding": {"method": "concat"}, "coreset": {"ratio": 0.1}, "sigma": 1.0}
STUDENT = {"enable": True, "levels": (0, 1, 2), "width": 0.25}
NOTHING_ADDED = {"lambda_noise": 0.0, "lambda_influence": 0.0}
STEPS = ["bank", "noise", "student", "norm"]


@pytest.fixture(scope="module")
def pyramid():
    """Two levels of a small network with random weights: 8 x 8 and 4 x 4 for an image of 32 pixels."""
    made = FeaturePyramid("test_resnet", (1, 2), "random")
    made.with_levels = cache(made.with_levels)  # it is frozen: one of each will do
    return made


@pytest.fixture(scope="module")
def teacher(pyramid):
    """The student's levels, shallow first."""
    return pyramid.with_levels((0, 1, 2))


@pytest.fixture
def make(pyramid):
    """Builds a detector with a student, the same initial weights each time."""

    def build(student=STUDENT, **arguments):
        torch.manual_seed(0)
        return PatchCoreNoising(pyramid, student=student, **SMALL, **arguments).eval()

    return build


@pytest.fixture
def images(images_of):
    """What is learned from."""
    return images_of(0, 6)


def run(step, features, batch=4, descents=3):
    """One step of learning, as a trainer does it."""
    images = len(features[0])
    if isinstance(step, Observation):
        with torch.no_grad():
            step.begin(images)
            for start in range(0, images, batch):
                step.observe([level[start : start + batch] for level in features], ())
            step.finish()
        return
    descent = torch.optim.Adam(step.parameters.values(), 0.005)
    for _ in range(descents):
        descent.zero_grad()
        sum(step.loss(TrainingBatch(features, (), torch.arange(images))).values()).backward()
        descent.step()


def learn(detector, images, steps=STEPS, **how):
    features = detector.encode(images)
    for step in detector.training_stages():
        if step.name in steps:
            torch.manual_seed(1)
            run(step, features, **how)
    return detector


@pytest.fixture(scope="module")
def taught():
    """Detectors that are through all steps, by their arguments."""
    return {}


@pytest.fixture
def learned(make, images, taught):
    """A detector that is through all steps; the weight of the student takes no other learning."""

    def through(beta=0.5, image_score="max"):
        if image_score not in taught:
            taught[image_score] = learn(make(image_score=image_score), images)
        detector = copy.deepcopy(taught[image_score])
        detector.student.beta = beta
        return detector

    return through


def state_of(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def assert_same(one, other):
    assert torch.equal(one.score, other.score)
    assert torch.equal(one.anomaly_map, other.anomaly_map)


def distances_left_out(detector, images, k):
    """Distances `[images, N]` of patches to the entries from other images, one by one."""
    patches, _ = detector.embed(detector.encode(images))
    return torch.stack(
        [
            torch.cdist(one.double(), detector.bank[detector.bank_images != i].double()).sort(1).values[:, :k].mean(1)
            for i, one in enumerate(patches)
        ]
    )


# -------------------------------------------------------------------------------------------------------- no student


@pytest.mark.parametrize("off", [None, {}, {"enable": False, "levels": (0, 1, 2), "tau": 3.0}])
def test_without_a_student_there_is_nothing_of_it(make, pyramid, off):
    detector = make(off)
    assert detector.backbone is pyramid
    assert set(detector.learned_state()) == {"bank", "bank_images", "deviation", "quantiles"}
    assert [step.name for step in detector.training_stages()] == ["conclude"]


def test_without_influence_noise_and_student_there_is_no_calibration(make, images):
    detector = make(None, **NOTHING_ADDED)
    run(detector.training_stages()[0], detector.encode(images))
    assert not len(detector.deviation)


# ------------------------------------------------------------------------------------------------------------ levels


def test_the_backbone_gives_the_banks_levels_first_and_then_those_of_the_student_alone(make):
    assert make().backbone.levels == ("layer1", "layer2", "act1")


def test_a_student_on_levels_that_the_bank_has_leaves_the_backbone_alone(make, pyramid):
    assert make({**STUDENT, "levels": ("layer1", 2)}).backbone is pyramid


@torch.no_grad()
def test_the_student_rebuilds_its_levels_shallow_first(make, images, teacher):
    detector = make()
    (loss,) = [step.loss for step in detector.training_stages() if step.name == "student"]
    found = loss(TrainingBatch(detector.encode(images), (), torch.arange(6)))["cosine"]
    levels = teacher(images)
    assert_allclose(found, reverse_distillation_loss(levels, detector.student.network(levels)), rtol=1e-5)


def test_the_bank_is_that_without_a_student(make, images):
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
def test_levels_that_make_no_sense_are_errors(make, levels, message):
    with pytest.raises(AnoframeError, match=message):
        make({**STUDENT, "levels": levels})


def test_an_unknown_setting_is_an_error_that_names_the_nearest(make):
    with pytest.raises(AnoframeError, match=r"model\.student takes no argument 'betas': did you mean 'beta'"):
        make({**STUDENT, "betas": 1.0})


# ------------------------------------------------------------------------------------------------------------- steps


def test_it_learns_in_four_steps(make):
    assert [step.name for step in make().training_stages()] == STEPS


def test_what_descends_is_all_of_the_student_and_nothing_else(make):
    detector = make()
    (phase,) = [step for step in detector.training_stages() if step.name == "student"]
    learnable = {name: value for name, value in detector.named_parameters() if not name.startswith("backbone.")}
    assert phase.parameters.keys() == learnable.keys()
    assert all(name.startswith("student.network.") for name in phase.parameters)
    assert all(value is learnable[name] for name, value in phase.parameters.items())


def test_descending_changes_the_students_network_alone(make, images):
    detector = learn(make(), images, ["bank", "noise"])
    before = state_of(detector) | {name: value.clone() for name, value in detector.backbone.state_dict().items()}
    learn(detector.train(), images, ["student"])
    after = detector.learned_state() | detector.backbone.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("student.network.") for name in changed)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("added", [{}, NOTHING_ADDED])
@pytest.mark.parametrize("kind", ["adaptive", "constant"])
def test_amplitudes_are_those_of_distances_to_entries_of_other_images(make, images, k, added, kind):
    noise = {"amplitude": kind, "a_min": 0.1, "a_max": 0.9}
    detector = learn(make(noise=noise, neighbours=k, **added), images, ["bank", "noise"])
    distances, (q50, q95) = distances_left_out(detector, images, k), detector.quantiles.double()
    expected = 0.1 + 0.8 * (1 - torch.exp(-((distances - q50) / (q95 - q50)).clamp(min=0)))
    expected = expected if kind == "adaptive" else torch.full_like(expected, 0.5)
    assert detector.student.amplitude.shape == (6, 8, 8)
    assert_allclose(detector.student.amplitude.flatten(1), expected, rtol=1e-4)


def test_images_without_an_entry_in_the_bank_have_amplitudes_too(make, images):
    detector = learn(make(), images, ["bank"])
    kept = detector.bank_images != 2
    detector.bank, detector.bank_images = detector.bank[kept], detector.bank_images[kept]
    learn(detector, images, ["noise"])
    expected = noise_amplitude(distances_left_out(detector, images, 1), *detector.quantiles.double(), Noise())
    assert_allclose(detector.student.amplitude.flatten(1), expected, rtol=1e-4)


def test_channel_deviations_are_those_over_all_training_images(make, images, teacher):
    detector = learn(make(), images, ["bank", "noise"])
    expected = torch.cat([level.double().movedim(1, 0).flatten(1).std(1, correction=0) for level in teacher(images)])
    assert_allclose(detector.student.deviation, expected, rtol=1e-4)


def test_amplitudes_are_there_only_while_it_learns(make, images):
    detector = make()
    sizes = [learn(detector, images, [name]).student.amplitude.numel() for name in STEPS]
    assert sizes == [0, 6 * 64, 6 * 64, 0]


def test_the_batches_of_an_observation_do_not_matter_to_the_bit(make, images):
    states = [state_of(learn(make(), images, ["bank", "noise", "norm"], batch=batch)) for batch in (1, 4)]
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_a_fresh_detector_goes_on_in_the_middle_of_the_steps(make, pyramid, images, tau):
    settings = {**STUDENT, "tau": tau}
    detector = learn(make(settings), images, ["bank", "noise"])
    torch.manual_seed(7)
    fresh = PatchCoreNoising(pyramid, student=settings, **SMALL).eval()
    fresh.load_learned_state(state_of(detector))
    for one in (detector, fresh):
        learn(one.train(), images, ["student"])
        learn(one.eval(), images, ["norm"])
    states = state_of(detector), state_of(fresh)
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def test_without_noise_a_step_is_that_of_reverse_distillation_to_the_bit(make, images):
    detector = learn(make({**STUDENT, "tau": 0.0}), images, ["bank", "noise"]).train()
    torch.manual_seed(0)
    plain = ReverseDistillation((32, 32, 48), (2, 4, 8), False, width=0.25)
    descent = torch.optim.Adam(plain.parameters(), 0.005)
    features = detector.encode(images)
    teacher = [features[2], *features[:2]]
    for _ in range(3):
        descent.zero_grad()
        reverse_distillation_loss(teacher, plain(teacher)).backward()
        descent.step()
    learn(detector, images, ["student"])
    assert all(torch.equal(*pair) for pair in zip(detector.student.parameters(), plain.parameters(), strict=True))


# --------------------------------------------------------------------------------------------------------- detecting


@torch.no_grad()
def student_maps(detector, levels):
    """Of a detector in eval mode, smoothed; images of 32 pixels."""
    return gaussian_blur(distillation_map(levels, detector.student.network(levels), (32, 32)), 1.0)


def test_beta_one_is_the_students_map_and_its_maximum(learned, images_of, teacher):
    detector, images = learned(1.0), images_of(1, 4)
    found = detector.predict(images)
    assert_allclose(found.anomaly_map, student_maps(detector, teacher(images)), rtol=0, atol=1e-5)
    assert torch.equal(found.score, found.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("image_score", ["max", "reweight"])
def test_beta_zero_is_the_bank_to_the_bit(make, learned, images, images_of, image_score):
    alone = make(None, image_score=image_score)
    run(alone.training_stages()[0], alone.encode(images))
    detector = learned(0.0, image_score=image_score)
    assert_same(detector.predict(images_of(1, 4)), alone.predict(images_of(1, 4)))


@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_beta_in_between_weighs_the_two_normed_maps(learned, images_of, beta):
    found = learned(beta).predict(images_of(1, 4))
    student, bank = found.extra_maps["student"], found.extra_maps["bank"]
    assert_allclose(found.anomaly_map, beta * student + (1 - beta) * bank, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.score, found.anomaly_map.flatten(1).amax(1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_extra_maps_show_both_parts_whatever_the_weight(learned, images_of, beta):
    maps = learned(beta).predict(images_of(1, 2, (32, 48))).extra_maps
    assert {name: tuple(one.shape) for name, one in maps.items()} == dict.fromkeys(
        ("influence", "amplitude", "response", "bank", "student"), (2, 32, 48)
    )


def test_the_students_normed_map_is_standard_on_the_training_images(learned, images):
    maps = learned().predict(images).extra_maps["student"].double()
    assert float(maps.mean()) == pytest.approx(0, abs=1e-4)
    assert float(maps.std()) == pytest.approx(1, abs=1e-3)


def test_the_banks_normed_map_is_standard_on_training_images_whose_own_entries_are_left_out(learned, images):
    detector = learned()
    maps = []
    for i in range(len(images)):
        other = copy.deepcopy(detector)
        other.bank = detector.bank[detector.bank_images != i]
        maps.append(other.predict(images[i : i + 1]).extra_maps["bank"].double())
    assert float(torch.cat(maps).mean()) == pytest.approx(0, abs=1e-4)
    assert float(torch.cat(maps).std()) == pytest.approx(1, abs=1e-3)


def test_noise_changes_what_is_learned_and_not_how_it_is_used(make, images, images_of):
    clean, noised = (learn(make({**STUDENT, "tau": tau}).train(), images) for tau in (0.0, 2.0))
    assert not torch.equal(clean.predict(images).anomaly_map, noised.predict(images).anomaly_map)
    clean.load_learned_state(state_of(noised))
    assert_same(clean.predict(images_of(1, 3)), noised.predict(images_of(1, 3)))


def test_until_the_last_step_is_done_the_student_stands_alone(make, images, images_of, teacher):
    detector = learn(make({**STUDENT, "beta": 0.0}), images, ["bank", "noise", "student"])
    found, expected = detector.predict(images_of(1, 3)), student_maps(detector, teacher(images_of(1, 3)))
    assert_allclose(found.anomaly_map, expected, rtol=0, atol=1e-5)


def test_training_maps_without_any_deviation_give_finite_maps(learned, images_of):
    detector = learned()
    detector.map_moments[:, 1] = 0
    assert detector.predict(images_of(1, 2)).anomaly_map.isfinite().all()


def test_what_was_learned_moves_to_a_fresh_detector(make, learned, images_of):
    detector, fresh = learned(), make()
    fresh.load_learned_state(state_of(detector))
    assert_same(fresh.predict(images_of(1, 3)), detector.predict(images_of(1, 3)))


def test_training_mode_changes_no_prediction(learned, images_of):
    detector = learned()
    before, state = detector.predict(images_of(1, 3)), state_of(detector)
    assert_same(detector.train().predict(images_of(1, 3)), before)
    assert all(torch.equal(value, state[name]) for name, value in detector.learned_state().items())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_an_image_scores_the_same_in_any_batch(learned, images_of, batch, beta):
    detector, images = learned(beta), images_of(1, 5, (96, 96))
    together, parts = detector.predict(images), [detector.predict(part) for part in images.split(batch)]
    assert torch.equal(together.score, torch.cat([part.score for part in parts]))
    assert torch.equal(together.anomaly_map, torch.cat([part.anomaly_map for part in parts]))
