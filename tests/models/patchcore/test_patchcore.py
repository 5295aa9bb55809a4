"""PatchCore: bank, scores, re-weighting and memory, against brute force in float64."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.nearest import Search
from anoframe.models.patchcore.coreset import greedy_coreset, random_projection
from anoframe.models.patchcore.model import PatchCore
from anoframe.models.patchcore.reweighting import reweight
from anoframe.models.summary import MethodSummary
from anoframe.types import Sample
from anoframe.utils import memory

CONCAT = {"method": "concat"}  # 15 values per patch, 64 patches per image
ALL = {"ratio": 1.0}
examples = settings(max_examples=25, deadline=None)


def patches_of(detector, images):
    """Patches `[B, 64, D]` in float64."""
    return detector.embed(detector.encode(images))[0].double()


def brute_force(patches, bank, k=1):
    """The `k` smallest distances of each patch, in float64."""
    distances = torch.cdist(patches, bank.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sort(dim=-1).values[..., :k]


def points(seed, rows, width=4):
    return torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def fitted(backbone, images_of, fit):
    """Builds a PatchCore and fits it to six images."""

    def make(**arguments):
        return fit(PatchCore(backbone, **{"embedding": CONCAT, **arguments}), images_of(0, 6))

    return make


# ------------------------------------------------------------------------------------------------------------- bank


@pytest.mark.parametrize(("ratio", "size"), [(0.01, 3), (0.1, 38), (0.25, 96), (1.0, 384)])
def test_the_bank_has_the_size_of_the_coreset(fitted, ratio, size):
    assert fitted(coreset={"ratio": ratio}).bank.shape == (size, 15)


def test_a_bank_with_ratio_one_has_all_patches(fitted, images_of):
    detector = fitted(coreset=ALL)
    patches = detector.embed(detector.encode(images_of(0, 6)))[0].flatten(0, 1)
    assert torch.equal(detector.bank.sort(0).values, patches.sort(0).values)


@pytest.mark.parametrize("method", ["approximate", "exact"])
def test_the_bank_is_the_coreset_of_projected_patches(fitted, images_of, method):
    detector = fitted(coreset={"ratio": 0.1, "method": method, "projection_dim": 6, "start_points": 3}, seed=5)
    patches = detector.embed(detector.encode(images_of(0, 6)))[0].flatten(0, 1)
    generator = torch.Generator().manual_seed(5)
    projected = random_projection(patches, 6, generator)
    assert torch.equal(detector.bank, patches[greedy_coreset(projected, 38, method, generator, 3)])


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
def test_the_bank_does_not_depend_on_the_batches(backbone, images_of, fit, fitted, batch):
    other = fit(PatchCore(backbone, embedding=CONCAT), images_of(0, 6), batch)
    assert torch.equal(other.bank, fitted().bank)


def test_the_same_seed_gives_the_same_bank_whatever_the_global_generator(fitted):
    torch.manual_seed(1)
    first = fitted(seed=3)
    torch.manual_seed(2)
    assert torch.equal(first.bank, fitted(seed=3).bank)


def test_another_seed_gives_another_bank(fitted):
    start_at_one = {"ratio": 0.05, "start_points": 1}
    assert not torch.equal(fitted(seed=3, coreset=start_at_one).bank, fitted(seed=4, coreset=start_at_one).bank)


def test_fitting_again_replaces_the_bank(fitted, images_of, fit):
    again = fit(fit(fitted(), images_of(1, 3)), images_of(0, 6))
    assert torch.equal(again.bank, fitted().bank)


def test_non_finite_features_are_an_error_that_names_the_file(backbone, images_of):
    detector = PatchCore(backbone, embedding=CONCAT)
    features = detector.encode(images_of(0, 3))
    features[1][1, 0, 2, 2] = math.nan
    samples = [Sample(f"folder/{name}.png", "tiny", "train") for name in "abc"]
    detector.begin_observation(3)
    with pytest.raises(AnoframeError, match=r"features of folder/b\.png are not finite"):
        detector.observe(features, samples)


def test_detecting_before_fitting_is_an_error(backbone, images_of):
    with pytest.raises(AnoframeError, match="no memory bank yet: fit it, or load a checkpoint"):
        PatchCore(backbone, embedding=CONCAT).predict(images_of(0, 1))


# ----------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("neighbours", [1, 4])
def test_patch_scores_equal_mean_distances_by_brute_force(fitted, images_of, neighbours, squared):
    detector = fitted(neighbours=neighbours, squared=squared)
    patches = patches_of(detector, images_of(1, 1))[0]
    expected = (brute_force(patches, detector.bank, neighbours) ** (1 + squared)).mean(1)
    assert_allclose(detector.patch_scores(patches.float()).score, expected, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (40, 28)])
def test_the_map_equals_brute_force_with_bilinear_interpolation_and_scipy(fitted, images_of, sigma, size):
    detector, images = fitted(sigma=sigma), images_of(1, 2)
    scores = brute_force(patches_of(detector, images), detector.bank)[..., 0].unflatten(1, (8, 8))
    large = F.interpolate(scores[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    maps = large.numpy()
    expected = [gaussian_filter(image, sigma, mode="reflect", truncate=4.0) if sigma else image for image in maps]
    assert_allclose(detector.detect(detector.encode(images), size).anomaly_map, expected, rtol=0, atol=1e-5)


def test_the_map_has_the_size_of_the_images(fitted, images_of):
    assert fitted().predict(images_of(1, 2, (40, 24))).anomaly_map.shape == (2, 40, 24)


def test_the_image_score_is_the_largest_patch_score(fitted, images_of):
    detector, images = fitted(), images_of(1, 3)
    expected = [detector.patch_scores(image.float()).score.max() for image in patches_of(detector, images)]
    assert torch.equal(detector.predict(images).score, torch.stack(expected))


def test_training_images_score_zero_on_the_whole_bank(fitted, images_of):
    prediction = fitted(coreset=ALL).predict(images_of(0, 6))
    assert torch.equal(prediction.score, torch.zeros(6))
    assert torch.equal(prediction.anomaly_map, torch.zeros(6, 32, 32))


def test_a_smaller_bank_never_scores_lower(fitted, images_of):
    images = images_of(1, 3)
    small, whole = fitted(coreset={"ratio": 0.05}, sigma=0.0), fitted(coreset=ALL, sigma=0.0)
    assert (small.predict(images).score >= whole.predict(images).score).all()
    features = small.encode(images)
    assert (small.detect(features, (8, 8)).anomaly_map >= whole.detect(features, (8, 8)).anomaly_map).all()


def test_squared_squares_the_scores_of_one_neighbour(fitted, images_of):
    images = images_of(1, 3)
    assert_allclose(fitted(squared=True).predict(images).score, fitted().predict(images).score.square(), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("image_score", ["max", "reweight"])
def test_an_image_scores_the_same_in_any_batch(fitted, images_of, image_score, batch):
    detector, images = fitted(image_score=image_score), images_of(1, 5)
    together, parts = detector.predict(images), [detector.predict(part) for part in images.split(batch)]
    assert torch.equal(together.score, torch.cat([part.score for part in parts]))
    assert torch.equal(together.anomaly_map, torch.cat([part.anomaly_map for part in parts]))


def test_the_order_of_a_batch_does_not_matter(fitted, images_of):
    detector, images = fitted(), images_of(1, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(detector.predict(images[order]).score, detector.predict(images).score[order])


def test_two_runs_give_the_same_bits(fitted, images_of):
    first, second = (fitted().predict(images_of(1, 3)) for _ in range(2))
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)


def test_the_device_does_not_change_the_prediction(fitted, images_of, device):
    detector, images = fitted(image_score="reweight"), images_of(1, 3)
    on_cpu, on_device = detector.predict(images), copy.deepcopy(detector).to(device).predict(images.to(device))
    assert_allclose(on_device.score.cpu(), on_cpu.score, rtol=1e-5)
    assert_allclose(on_device.anomaly_map.cpu(), on_cpu.anomaly_map, rtol=1e-4, atol=1e-6)


def test_fitting_on_a_device_gives_the_bank_of_the_cpu(backbone, images_of, fit, fitted, device):
    other = fit(PatchCore(backbone, embedding=CONCAT).to(device), images_of(0, 6).to(device))
    assert other.bank.device.type == device.type
    assert_allclose(other.bank.cpu(), fitted().bank, atol=1e-6)


# ------------------------------------------------------------------------------------------------------ re-weighting


@examples
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 20), b=st.integers(2, 25))
def test_reweight_equals_the_papers_equation(seed, rows, b):
    patch, bank = points(seed, 1)[0], points(seed + 1, rows)
    to_patch = [math.dist(patch.tolist(), row) for row in bank.tolist()]
    entry = to_patch.index(min(to_patch))
    near_entry = sorted(range(rows), key=lambda i: math.dist(bank[entry].tolist(), bank[i].tolist()))[:b]
    expected = 1 - math.exp(to_patch[entry]) / sum(math.exp(to_patch[i]) for i in near_entry)
    assert reweight(patch, Search(bank), entry, b) == pytest.approx(expected, abs=1e-12)


@examples
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 20), b=st.integers(2, 25), scale=st.floats(1e-3, 10))
def test_reweight_lies_between_zero_and_one(seed, rows, b, scale):
    patch, bank = scale * points(seed, 1)[0], scale * points(seed + 1, rows)
    entry = int((bank - patch).norm(dim=1).argmin())
    assert 0 <= reweight(patch, Search(bank), entry, b) <= 1


def test_reweight_is_one_half_between_two_equally_near_entries():
    bank = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert reweight(torch.tensor([0.0, 3.0]), Search(bank), 0, 2) == pytest.approx(0.5, abs=1e-7)


def test_reweight_uses_the_neighbours_of_the_entry_not_of_the_patch():
    # row 1 is nearer to entry 0, row 2 to the patch
    bank = torch.tensor([[0.0], [1.0], [-1.2]], dtype=torch.float64)
    factor = reweight(torch.tensor([-0.1], dtype=torch.float64), Search(bank), 0, 2)
    assert factor == pytest.approx(1 - math.exp(0.1) / (math.exp(0.1) + math.exp(1.1)))


@pytest.mark.parametrize("b", [6, 9, 1000])
def test_reweight_uses_at_most_the_rows_of_the_bank(b):
    patch, bank = points(0, 1)[0], points(1, 5)
    assert reweight(patch, Search(bank), 2, b) == reweight(patch, Search(bank), 2, 5)


@pytest.mark.parametrize(("rows", "b"), [(5, 1), (1, 9), (1, 1)])
def test_reweight_is_one_with_a_single_neighbour(rows, b):
    assert reweight(points(0, 1)[0], Search(points(1, rows)), 0, b) == 1


def test_reweight_handles_distances_whose_exponential_overflows():
    bank = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert reweight(torch.tensor([-5000.0], dtype=torch.float64), Search(bank), 0, 2) == pytest.approx(
        1 / (1 + math.exp(-1))
    )


def test_the_reweighted_score_is_the_largest_patch_score_times_its_factor(fitted, images_of):
    detector, images = fitted(image_score="reweight", reweight_neighbours=3), images_of(1, 3)
    expected = []
    for patches in patches_of(detector, images):
        distances = torch.cdist(patches, detector.bank.double())
        worst = int(distances.min(1).values.argmax())
        entry = int(distances[worst].argmin())
        expected.append(distances[worst, entry] * reweight(patches[worst], Search(detector.bank.double()), entry, 3))
    assert_allclose(detector.predict(images).score, torch.stack(expected), rtol=1e-5)


def test_reweighting_does_not_change_the_map(fitted, images_of):
    images = images_of(1, 2)
    maps = [fitted(image_score=name).predict(images).anomaly_map for name in ("max", "reweight")]
    assert torch.equal(*maps)


# ------------------------------------------------------------------------------------------------ reports and memory


def test_the_summary_reports_the_size_of_the_bank(fitted, backbone):
    assert fitted(coreset={"ratio": 0.1}).summary().scalars == {"bank/entries": 38}
    assert PatchCore(backbone).summary() == MethodSummary()


def test_the_training_stage_is_named_after_the_coreset(backbone):
    assert [stage.name for stage in PatchCore(backbone).training_stages()] == ["coreset"]


def test_the_forecast_names_the_size_of_the_fitted_bank(backbone, images_of, fit):
    detector = PatchCore(backbone, embedding={"method": "concat"}, coreset={"ratio": 0.1})
    images = images_of(0, 6)
    forecast = detector.forecast(detector.encode(images[:2]), 6)
    rows, width = fit(detector, images).bank.shape
    patches = 6 * detector.embed(detector.encode(images[:1]))[0].shape[1]
    assert f"memory bank of {rows:,} of {patches:,} patches with {width} values each" in forecast.text
    assert forecast.memory > 4 * patches * width


def test_patches_that_exceed_memory_give_the_same_bank(backbone, images_of, fit, monkeypatch):
    banks = []
    for free in (10**12, 0):
        monkeypatch.setattr(memory, "available_memory", lambda free=free: free)
        banks.append(fit(PatchCore(backbone, embedding={"method": "concat"}), images_of(0, 6)).bank)
    assert torch.equal(*banks)


# -------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding": {"method": "pool"}}, r"model\.embedding\.method"),
        ({"embedding": {"target_dim": 0}}, r"model\.embedding\.target_dim"),
        ({"embedding": {"dim": 3}}, r"model\.embedding takes no argument 'dim'"),
        ({"coreset": {"ratio": 0.0}}, r"model\.coreset\.ratio"),
        ({"coreset": {"ratio": 1.5}}, r"model\.coreset\.ratio"),
        ({"coreset": {"method": "exakt"}}, r"model\.coreset\.method"),
        ({"coreset": {"projection_dim": 0}}, r"model\.coreset\.projection_dim"),
        ({"coreset": {"start_points": 0}}, r"model\.coreset\.start_points"),
        ({"coreset": {"ratoi": 0.1}}, r"model\.coreset takes no argument 'ratoi': did you mean 'ratio'"),
        ({"image_score": "mean"}, r"model\.image_score is one of max, reweight, got 'mean'"),
        ({"neighbours": 0}, r"model\.neighbours"),
        ({"reweight_neighbours": 0}, r"model\.reweight_neighbours"),
    ],
)
def test_an_argument_out_of_range_is_an_error_at_construction(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        PatchCore(backbone, **arguments)
