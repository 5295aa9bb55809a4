"""PatchCore-noising: each equation against an independent version, calibration, scores and options."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from anoframe.continual.strategies import build_strategy
from anoframe.errors import AnoframeError
from anoframe.models.components.nearest import nearest
from anoframe.models.patchcore.model import PatchCore
from anoframe.models.patchcore_noising import model as module
from anoframe.models.patchcore_noising import noise as noise_module
from anoframe.models.patchcore_noising.model import PatchCoreNoising
from anoframe.models.patchcore_noising.noise import (
    NoiseSettings,
    calibrate,
    influence_gradient,
    noise_amplitude,
    noise_shape,
    noise_vectors,
    response,
)

CONCAT = {"method": "concat"}  # 15 values per patch, 64 patches per image
examples = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)


def points(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def scalar(value):
    return torch.tensor(float(value), dtype=torch.float64)


def distances(patches, bank):
    return torch.cdist(patches.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist")


def mean_nearest(patches, bank, k):
    return distances(patches, bank).sort(dim=-1).values[..., :k].mean(-1)


def influence(patches, bank, k):
    """Norm of the closed-form gradient on the `k` nearest entries."""
    _, indices = nearest(patches, bank, k)
    return influence_gradient(patches[:, None] - bank[indices]).norm(dim=1)


def naive_response(patches, bank, scale, xi, k=1):
    """Search every noised patch in the whole bank, one noise vector at a time."""
    before = mean_nearest(patches, bank, k)
    return torch.stack([mean_nearest(patches + scale * vector, bank, k) for vector in xi]).mean(0) - before


@pytest.fixture
def fitted(backbone, images_of, fit):
    """Builds a PatchCoreNoising or another method, and fits it to six images."""

    def make(method=PatchCoreNoising, **arguments):
        return fit(method(backbone, **{"embedding": CONCAT, **arguments}), images_of(0, 6))

    return make


# ------------------------------------------------------------------------------------------- no addition: PatchCore

NO_ADDITION = [
    {"lambda_noise": 0.0, "lambda_influence": 0.0},
    {"lambda_noise": 0.0, "lambda_influence": 0.0, "noise": {"tau": 0.0}},
    {"lambda_noise": 1.0, "lambda_influence": 0.0, "noise": {"tau": 0.0}},
    {"lambda_noise": 0.0, "lambda_influence": 0.0, "noise": {"tau": 3.0}},
]


@pytest.mark.parametrize("neighbours", [1, 3, 9])
@pytest.mark.parametrize("image_score", ["max", "reweight"])
@pytest.mark.parametrize("settings_off", NO_ADDITION)
def test_without_additions_predictions_equal_patchcore_to_the_bit(
    fitted, images_of, settings_off, image_score, neighbours
):
    shared = {"image_score": image_score, "neighbours": neighbours}
    noising, plain = fitted(**settings_off, **shared), fitted(PatchCore, **shared)
    images = images_of(1, 4)
    prediction, expected = noising.predict(images), plain.predict(images)
    assert torch.equal(prediction.score, expected.score)
    assert torch.equal(prediction.anomaly_map, expected.anomaly_map)


@pytest.mark.parametrize("neighbours", [1, 5, 9])
@pytest.mark.parametrize("settings_off", NO_ADDITION)
def test_without_additions_random_patches_score_as_in_patchcore_to_the_bit(fitted, settings_off, neighbours):
    noising, plain = fitted(**settings_off, neighbours=neighbours), fitted(PatchCore, neighbours=neighbours)
    patches = points(3, 500, 15).float()
    assert torch.equal(noising.patch_scores(patches).score, plain.patch_scores(patches).score)


def test_the_bank_equals_that_of_patchcore(fitted):
    assert torch.equal(fitted().bank, fitted(PatchCore).bank)


@pytest.mark.parametrize("added", [{"lambda_influence": 0.0}, {"lambda_noise": 0.0}])
def test_with_an_addition_scores_differ_from_patchcore(fitted, images_of, added):
    images = images_of(1, 4)
    assert not torch.equal(fitted(**added).predict(images).score, fitted(PatchCore).predict(images).score)


# --------------------------------------------------------------------------------------------------------- influence


@examples
@given(seed=seeds, rows=st.integers(1, 20), width=st.integers(1, 12), k=st.integers(1, 9))
def test_influence_equals_the_gradient_of_autograd(seed, rows, width, k):
    patches, bank = points(seed, 5, width).requires_grad_(), points(seed + 1, rows, width)
    k = min(k, rows)
    _, indices = nearest(patches.detach(), bank, k)
    (patches[:, None] - bank[indices]).norm(dim=2).mean(1).sum().backward()
    assert_allclose(influence_gradient(patches.detach()[:, None] - bank[indices]), patches.grad, rtol=0, atol=1e-10)


@examples
@given(seed=seeds, rows=st.integers(1, 20), k=st.integers(1, 9))
def test_influence_lies_between_zero_and_one(seed, rows, k):
    assert influence(points(seed, 20, 6), points(seed + 1, rows, 6), k).max() <= 1 + 1e-12


@examples
@given(seed=seeds)
def test_influence_of_one_neighbour_is_one(seed):
    assert_allclose(influence(points(seed, 20, 6), points(seed + 1, 10, 6), 1), 1.0, rtol=1e-12)


def test_influence_of_a_neighbour_equal_to_the_patch_is_zero():
    bank = points(0, 10, 6)
    assert torch.equal(influence(bank, bank, 1), torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("k", [2, 5, 9])
@pytest.mark.parametrize(("c_over_r", "published"), [(0.5, None), (1.0, 0.745), (math.sqrt(2), 1 / 3)])
def test_influence_of_equidistant_neighbours_equals_the_formula(k, c_over_r, published):
    # corners of a simplex with edge c, and a patch above its centre at distance r from each of them
    r = 2.0
    c = c_over_r * r
    corners = torch.zeros(k, k + 1, dtype=torch.float64)
    corners[:, :k] = torch.eye(k, dtype=torch.float64) * c / math.sqrt(2)
    patch = corners.mean(0, keepdim=True)
    patch[0, k] = math.sqrt(r**2 - c**2 / 2 * (1 - 1 / k))
    expected = math.sqrt(1 - (1 - 1 / k) * c**2 / (2 * r**2))
    assert float(influence(patch, corners, k)) == pytest.approx(expected, abs=1e-12)
    if k == 9 and published:
        assert expected == pytest.approx(published, abs=1e-3)


@examples
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_influence_is_invariant_to_translation_rotation_and_scale(seed, scale):
    patches, bank, shift = points(seed, 8, 5), points(seed + 1, 30, 5), points(seed + 2, 1, 5)
    rotation, _ = torch.linalg.qr(points(seed + 3, 5, 5))
    moved = influence(scale * (patches @ rotation + shift), scale * (bank @ rotation + shift), 9)
    assert_allclose(moved, influence(patches, bank, 9), rtol=0, atol=1e-9)


# --------------------------------------------------------------------------------------------------------- amplitude

NOISES = [NoiseSettings(), NoiseSettings(a_min=0.0, a_max=2.0), NoiseSettings(a_min=0.3, a_max=0.3)]


@pytest.mark.parametrize("noise", NOISES)
def test_amplitude_equals_the_formula(noise):
    d = torch.linspace(0, 12, 50, dtype=torch.float64)
    expected = [
        noise.a_min + (noise.a_max - noise.a_min) * (1 - math.exp(-max(0, (x - 2) / (3.5 - 2)))) for x in d.tolist()
    ]
    assert_allclose(noise_amplitude(d, scalar(2), scalar(3.5), noise), expected, rtol=1e-12)


@examples
@given(q50=st.floats(0.1, 5), width=st.floats(0.01, 5))
def test_amplitude_lies_in_its_range_and_never_decreases(q50, width):
    d = torch.linspace(0, q50 + 30 * width, 200, dtype=torch.float64)
    amplitude = noise_amplitude(d, scalar(q50), scalar(q50 + width), NoiseSettings())
    assert float(amplitude.min()) >= 0.01
    assert float(amplitude.max()) < 0.5
    assert (amplitude.diff() >= 0).all()


def test_amplitude_is_the_minimum_up_to_the_median():
    amplitude = noise_amplitude(torch.tensor([0.0, 1.0, 2.0]), torch.tensor(2.0), torch.tensor(3.0), NoiseSettings())
    assert torch.equal(amplitude, torch.full((3,), 0.01))


def test_amplitude_is_minimum_or_maximum_if_quantiles_are_equal():
    amplitude = noise_amplitude(torch.tensor([1.0, 2.0, 2.1]), torch.tensor(2.0), torch.tensor(2.0), NoiseSettings())
    assert_allclose(amplitude, [0.01, 0.01, 0.5], rtol=1e-6)


def test_constant_amplitude_is_the_middle_of_the_range():
    amplitude = noise_amplitude(torch.tensor([0.0, 9.0]), scalar(1), scalar(2), NoiseSettings(amplitude="constant"))
    assert_allclose(amplitude, [0.255, 0.255], rtol=1e-6)


def test_reversed_amplitude_mirrors_the_adaptive_amplitude():
    d = torch.linspace(0, 9, 30, dtype=torch.float64)
    amplitudes = [
        noise_amplitude(d, scalar(1), scalar(2), NoiseSettings(amplitude=kind)) for kind in ("adaptive", "reversed")
    ]
    assert_allclose(amplitudes[0] + amplitudes[1], 0.51, rtol=1e-12)


# ------------------------------------------------------------------------------------------------- shape and vectors


@examples
@given(seed=seeds, width=st.integers(1, 40), alpha=st.floats(0, 3))
def test_shape_has_root_mean_square_one(seed, width, alpha):
    shares = noise_shape(points(seed, 6, width), alpha)
    assert_allclose(shares.square().mean(1).sqrt(), 1.0, rtol=1e-12)


def test_shape_without_alpha_is_one_everywhere():
    assert_allclose(noise_shape(points(0, 6, 17), 0.0), 1.0, rtol=1e-12)


def test_shape_with_alpha_one_is_proportional_to_the_gradient():
    gradient = points(1, 6, 17)
    ratio = noise_shape(gradient, 1.0) / gradient.abs()
    assert_allclose(ratio, ratio[:, :1].expand(-1, 17), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_shape_of_a_zero_gradient_is_one_everywhere(alpha):
    assert_allclose(noise_shape(torch.zeros(2, 9), alpha), 1.0, rtol=1e-6)


@pytest.mark.parametrize("samples", [2, 4, 10])
def test_noise_vectors_come_in_pairs_whose_sum_is_zero(samples):
    vectors = noise_vectors(samples, 33, 0)
    assert vectors.shape == (samples, 33)
    assert torch.equal(vectors[: samples // 2] + vectors[samples // 2 :], torch.zeros(samples // 2, 33))


def test_noise_vectors_are_standard_normal():
    vectors = noise_vectors(200, 1000, 0)[:100]
    assert abs(float(vectors.mean())) < 0.01
    assert float(vectors.std()) == pytest.approx(1, abs=0.01)


def test_noise_vectors_depend_only_on_their_seed():
    torch.manual_seed(1)
    first = noise_vectors(4, 9, 3)
    torch.manual_seed(2)
    assert torch.equal(noise_vectors(4, 9, 3), first)
    assert not torch.equal(noise_vectors(4, 9, 4), first)


# ---------------------------------------------------------------------------------------------------------- response


@examples
@given(seed=seeds, rows=st.integers(1, 20), k=st.integers(1, 5), scale=st.floats(0, 2))
def test_response_with_the_whole_bank_equals_brute_force(seed, rows, k, scale):
    patches, bank = points(seed, 6, 5), points(seed + 1, rows, 5)
    spread, xi = scale * points(seed + 2, 6, 5).abs(), noise_vectors(4, 5, seed).double()
    change = response(patches[:, None] - bank, spread, xi, k)
    assert_allclose(change, naive_response(patches, bank, spread, xi, k), rtol=0, atol=1e-7)


@examples
@given(seed=seeds, candidates=st.integers(1, 20), scale=st.floats(0, 3))
def test_response_with_few_candidates_is_an_upper_bound(seed, candidates, scale):
    patches, bank = points(seed, 10, 4), points(seed + 1, 20, 4)
    spread, xi = torch.full_like(patches, scale), noise_vectors(4, 4, seed).double()
    _, indices = nearest(patches, bank, candidates)
    few = response(patches[:, None] - bank[indices], spread, xi)
    assert (few >= response(patches[:, None] - bank, spread, xi) - 1e-12).all()


@pytest.mark.parametrize("neighbours", [1, 2, 5, 9, 16])
def test_response_without_noise_is_exactly_zero(neighbours):
    patches, bank = points(0, 50, 17).float(), points(1, 50, 40, 17).float()
    change = response(patches[:, None] - bank, torch.zeros(50, 17), noise_vectors(4, 17, 0), neighbours)
    assert torch.equal(change, torch.zeros(50))


def test_response_to_small_noise_is_quadratic():
    # few entries far from one another, so that the nearest entry of a patch stays the same under noise
    patches, bank = points(2, 6, 8), 50 * points(3, 4, 8)
    xi = noise_vectors(4, 8, 0).double()
    ratio = [response(patches[:, None] - bank, torch.full_like(patches, t), xi) for t in (0.1, 0.2)]
    assert_allclose(ratio[1] / ratio[0], 4.0, rtol=1e-3)


def test_response_to_small_noise_without_antithetic_pairs_is_linear():
    # the reason for pairs: a single vector changes the distance to first order
    patches, bank = points(2, 6, 8), 50 * points(3, 4, 8)
    xi = noise_vectors(4, 8, 0).double()[:1]
    ratio = [response(patches[:, None] - bank, torch.full_like(patches, t), xi) for t in (1e-3, 2e-3)]
    assert_allclose(ratio[1] / ratio[0], 2.0, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------- calibration


def naive_calibration(patches, bank, bank_images, images, k):
    others = [[j for j, image in enumerate(bank_images) if image != i] for i in images]
    left_out = [mean_nearest(patches[i], bank[rows], k) for i, rows in zip(images, others, strict=True)]
    return torch.cat(left_out).quantile(torch.tensor([0.5, 0.95], dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("limit", "images"), [(20, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [0])])
def test_quantiles_are_of_distances_to_entries_of_other_images(monkeypatch, k, limit, images):
    monkeypatch.setattr(noise_module, "CALIBRATION_IMAGES", limit)
    patches = points(0, 5, 12, 4) + torch.arange(5.0)[:, None, None]  # images differ, so the choice of images matters
    bank_images = torch.arange(5).repeat_interleave(6)
    bank = patches[:, :6].flatten(0, 1)
    calibration = calibrate(patches, bank, bank_images, k)
    expected = naive_calibration(patches, bank, bank_images.tolist(), images, k)
    assert_allclose([calibration.q50, calibration.q95], expected, rtol=1e-6)


def test_entries_of_the_own_image_are_left_out():
    patches = torch.stack([torch.zeros(4, 2), torch.full((4, 2), 3.0)])
    calibration = calibrate(patches, patches.flatten(0, 1), torch.tensor([0] * 4 + [1] * 4))
    assert_allclose([calibration.q50, calibration.q95], 3 * math.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("images", [1, 4])
def test_a_bank_from_one_image_is_an_error_that_names_remedies(images):
    patches = points(1, images, 6, 3)
    with pytest.raises(AnoframeError, match=r"one image only: give it more training images .* use patchcore"):
        calibrate(patches, patches[0], torch.zeros(6, dtype=torch.int64))


def test_fitting_to_one_image_is_an_error(backbone, images_of, fit):
    with pytest.raises(AnoframeError, match="comes from one image only"):
        fit(PatchCoreNoising(backbone, embedding=CONCAT), images_of(0, 1))


def test_fitting_to_one_image_without_additions_is_allowed(backbone, images_of, fit):
    detector = PatchCoreNoising(backbone, embedding=CONCAT, lambda_noise=0.0, lambda_influence=0.0)
    assert len(fit(detector, images_of(0, 1)).bank) == 6


@pytest.mark.parametrize("chunk", [1, 7, 100000])
def test_deviation_is_the_standard_deviation_of_each_dimension(chunk):
    rows = (1000 + points(4, 300, 5)).float()
    assert_allclose(noise_module._column_deviation(rows, chunk), rows.double().std(0, correction=0), rtol=1e-6)


def test_a_fitted_detector_stores_the_image_of_each_entry(fitted, images_of):
    detector = fitted()
    patches, _ = detector.embed(detector.encode(images_of(0, 6)))
    for entry, image in zip(detector.bank, detector.bank_images, strict=True):
        assert (patches[image] == entry).all(1).any()


def test_a_fitted_detector_stores_the_calibration_of_all_training_patches(fitted, images_of):
    detector = fitted(neighbours=2)
    patches = detector.embed(detector.encode(images_of(0, 6)))[0].double()
    expected = naive_calibration(patches, detector.bank.double(), detector.bank_images.tolist(), range(6), 2)
    assert_allclose(detector.quantiles, expected, rtol=1e-5)
    assert_allclose(detector.deviation, patches.flatten(0, 1).std(0, correction=0), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- score


def naive_scores(detector, patches, lambda_noise, lambda_influence, k, noise):
    """The equations in float64: the whole bank for every noised patch, and influence by autograd."""
    bank, (q50, q95) = detector.bank.double(), detector.quantiles.double()
    z = patches.double().requires_grad_()
    distances(z, bank).sort(dim=1).values[:, :9].mean(1).sum().backward()
    g, z = z.grad, z.detach()
    d = mean_nearest(z, bank, k)
    excess = ((d - q50) / (q95 - q50)).clamp(min=0)
    a = noise.a_min + (noise.a_max - noise.a_min) * (1 - torch.exp(-excess))
    power = g.abs() ** noise.alpha
    w = math.sqrt(z.shape[1]) * power / power.norm(dim=1, keepdim=True)
    xi = noise_vectors(noise.samples, z.shape[1], noise.seed).double()
    r = naive_response(z, bank, noise.tau * a[:, None] * detector.deviation.double() * w, xi, k)
    return (d + lambda_noise * r) * (1 + lambda_influence * g.norm(dim=1))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize(("lambda_noise", "lambda_influence"), [(1.0, 1.0), (2.0, 0.0), (0.0, 0.5)])
def test_scores_equal_the_equations_written_out(fitted, lambda_noise, lambda_influence, neighbours, alpha):
    noise = {"alpha": alpha, "tau": 1.5, "candidates": 1000, "samples": 6, "seed": 2}
    weights = {"lambda_noise": lambda_noise, "lambda_influence": lambda_influence}
    detector = fitted(**weights, neighbours=neighbours, noise=noise)
    patches = 0.5 * points(5, 200, 15).float()
    expected = naive_scores(detector, patches, **weights, k=neighbours, noise=NoiseSettings(**noise))
    assert_allclose(detector.patch_scores(patches).score, expected, rtol=2e-5)


def test_with_weight_one_the_first_factor_is_the_mean_distance_under_noise(fitted):
    detector = fitted(lambda_influence=0.0, noise={"candidates": 1000, "amplitude": "constant", "alpha": 0.0})
    patches = 0.5 * points(6, 100, 15)
    noise = 0.255 * detector.deviation.double() * noise_vectors(4, 15, 0).double()
    expected = torch.stack([mean_nearest(patches + eps, detector.bank, 1) for eps in noise]).mean(0)
    assert_allclose(detector.patch_scores(patches.float()).score, expected, rtol=1e-5)


def test_few_candidates_never_lower_the_response(fitted):
    patches = 0.5 * points(7, 200, 15).float()
    few, exact = (
        fitted(influence_neighbours=1, noise={"tau": 30.0, "candidates": c}).patch_scores(patches).extra
        for c in (1, 1000)
    )
    assert (few["response"] >= exact["response"] - 1e-5).all()
    assert (few["response"] > exact["response"] + 1e-3).any()


def test_candidates_that_cover_the_bank_give_the_exact_score(fitted):
    detector = fitted()
    covering, more = (fitted(noise={"candidates": c}) for c in (len(detector.bank), 10 * len(detector.bank)))
    patches = points(8, 100, 15).float()
    assert torch.equal(covering.patch_scores(patches).score, more.patch_scores(patches).score)


def test_extra_maps_are_influence_amplitude_and_response(fitted, images_of):
    detector, images = fitted(), images_of(1, 2, (40, 24))
    maps = detector.predict(images).extra_maps
    assert {name: tuple(extra.shape) for name, extra in maps.items()} == dict.fromkeys(
        ("influence", "amplitude", "response"), (2, 40, 24)
    )


def test_extra_maps_hold_the_values_of_the_patches(fitted, images_of):
    detector = fitted()
    features = detector.encode(images_of(1, 2))
    maps = detector.detect(features, (8, 8)).extra_maps
    patches, _ = detector.embed(features)
    for i, image in enumerate(patches):
        for name, values in detector.patch_scores(image).extra.items():
            assert torch.equal(maps[name][i], values.unflatten(0, (8, 8)))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_image_scores_the_same_in_any_batch(fitted, images_of, batch):
    detector, images = fitted(), images_of(1, 5)
    together, parts = detector.predict(images), [detector.predict(part) for part in images.split(batch)]
    assert torch.equal(together.score, torch.cat([part.score for part in parts]))
    assert torch.equal(together.anomaly_map, torch.cat([part.anomaly_map for part in parts]))


def test_two_runs_give_the_same_bits_whatever_the_global_generator(fitted, images_of):
    torch.manual_seed(1)
    first = fitted().predict(images_of(1, 3))
    torch.manual_seed(2)
    second = fitted().predict(images_of(1, 3))
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)


def test_the_chunk_size_does_not_change_scores(fitted, monkeypatch):
    detector, patches = fitted(), points(9, 60, 15).float()
    whole = detector.patch_scores(patches).score
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert_allclose(detector.patch_scores(patches).score, whole, rtol=1e-6)


def test_patches_of_the_bank_have_finite_scores(fitted):
    detector = fitted()
    assert detector.patch_scores(detector.bank).score.isfinite().all()


def test_the_device_does_not_change_the_prediction(fitted, images_of, device):
    detector, images = fitted(), images_of(1, 3)
    on_cpu, on_device = detector.predict(images), copy.deepcopy(detector).to(device).predict(images.to(device))
    assert_allclose(on_device.score.cpu(), on_cpu.score, rtol=1e-4)
    assert_allclose(on_device.anomaly_map.cpu(), on_cpu.anomaly_map, rtol=1e-3, atol=1e-5)


# -------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"amplitude": "none"}, r"model\.noise\.amplitude is one of adaptive, constant, reversed, got 'none'"),
        ({"a_min": -0.1}, r"model\.noise .*a_min"),
        ({"a_min": 0.6}, r"model\.noise .*a_min <= a_max, got 0\.6 and 0\.5"),
        ({"samples": 3}, r"model\.noise\.samples"),
        ({"samples": 0}, r"model\.noise\.samples"),
        ({"tau": -1.0}, r"model\.noise .*tau"),
        ({"candidates": 0}, r"model\.noise .*candidates"),
        ({"alpha": -1.0}, r"model\.noise .*alpha"),
        ({"taw": 1.0}, r"model\.noise takes no argument 'taw': did you mean 'tau'"),
    ],
)
def test_noise_settings_out_of_range_are_errors_that_name_the_key(backbone, noise, message):
    with pytest.raises(AnoframeError, match=message):
        PatchCoreNoising(backbone, noise=noise)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"influence_neighbours": 0}, r"model\.influence_neighbours"),
        ({"neighbours": 5, "noise": {"candidates": 4}}, r"model\.noise\.candidates"),
        ({"neighbours": 0}, r"model\.neighbours"),
    ],
)
def test_an_argument_out_of_range_is_an_error_at_construction(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        PatchCoreNoising(backbone, **arguments)


def test_the_native_strategy_is_rejected_before_the_first_task(backbone):
    with pytest.raises(AnoframeError, match="stores the deviations of one task only"):
        build_strategy("expand", PatchCoreNoising(backbone), 1.0)
