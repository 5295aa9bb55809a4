"""WinCLIP: zero-shot and few-shot scores and maps against the equations, on a small random CLIP model."""

from pathlib import Path

import pytest
import torch
from fake_clip import FakeCLIP
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.text_scores import anomaly_probability
from anoframe.models.winclip.model import WinCLIP
from anoframe.models.winclip.windows import window_table
from anoframe.models.winclip_fast import WinCLIPFast
from anoframe.types import Sample

BOTH = pytest.mark.parametrize("method", [WinCLIP, WinCLIPFast])


@pytest.fixture(scope="module")
def clip():
    return FakeCLIP()


def learn(detector, images, category="bottle"):
    """Train a detector on reference images, in batches of two, by its own stages."""
    (stage,) = detector.training_stages()
    stage.begin(len(images))
    for start in range(0, len(images), 2):
        features = detector.encode(images[start : start + 2])
        names = [f"train/good/{start + i}.png" for i in range(len(features["image"]))]
        stage.observe(features, [Sample(Path(name), category, "train") for name in names])
    stage.finish()
    return detector


@pytest.fixture
def few_shot(clip, images_of):
    """Builds a detector with the first references of a fixed sequence."""
    return lambda count, method=WinCLIP: learn(method(clip, use_references=True), images_of(5, 4)[:count])


# ------------------------------------------------------------------------------------------------ the equations


def probability(embedding, text, tau=0.07):
    """Softmax over two cosines, in float64."""
    logits = torch.stack([embedding.double() @ row.double() / tau for row in text])
    return float(logits.softmax(0)[1])


def mean_by_loop(scores, grid, side):
    """Harmonic mean of window scores per patch."""
    table = window_table(grid, side).tolist()
    patches = range(grid[0] * grid[1])
    covering = [[s for s, rows in zip(scores, table, strict=True) if p in rows] for p in patches]
    return [len(c) / sum(1 / s for s in c) if min(c) > 0 else 0.0 for c in covering]


def distance_by_loop(queries, memory):
    return [min((1 - float(q.double() @ r.double())) / 2 for r in memory) for q in queries]


def predict_by_loop(detector, image, references, category):
    """Score and coarse map of one image from the equations of the paper; `references` are images, or None."""
    text = detector.add_category(detector.encode(image), [category])["text"][0]
    features = {name: value[0] for name, value in detector.encode(image).items()}
    score = probability(features["image"], text)
    maps = [
        mean_by_loop([probability(f, text) for f in features[f"windows{k}"]], detector.grid, k) for k in detector.scales
    ]
    zero_shot = [3 / (1 / score + 1 / small + 1 / mid) for small, mid in zip(*maps, strict=True)]
    if references is None:
        return score, zero_shot
    memory = {name: value.flatten(0, 1) for name, value in detector.encode(references).items() if name != "image"}
    levels = [distance_by_loop(features["patches"], memory["patches"])]
    for k in detector.scales:
        windows = distance_by_loop(features[f"windows{k}"], memory[f"windows{k}"])
        levels.append(mean_by_loop(windows, detector.grid, k))
    distance = [sum(values) / 3 for values in zip(*levels, strict=True)]
    combined = [(a + b) / 2 for a, b in zip(zero_shot, distance, strict=True)]
    return (score + max(distance)) / 2, combined


@BOTH
@pytest.mark.parametrize("count", [0, 1, 3])
def test_scores_and_maps_are_those_of_the_equations(clip, images_of, few_shot, method, count):
    detector = few_shot(count, method) if count else method(clip)
    images, categories = images_of(1, 2), ["metal_nut", "bottle"]
    prediction = detector.predict(images, categories)
    references = images_of(5, 4)[:count] if count else None
    for b in range(2):
        score, coarse = predict_by_loop(detector, images[b : b + 1], references, categories[b])
        expected = F.interpolate(torch.tensor(coarse).view(1, 1, 4, 4), (32, 32), mode="bilinear", align_corners=False)
        torch.testing.assert_close(float(prediction.score[b]), score, atol=1e-6, rtol=0)
        torch.testing.assert_close(prediction.anomaly_map[b], expected[0, 0], atol=1e-6, rtol=0)


def test_the_zero_shot_score_is_that_of_the_whole_image_and_not_of_the_map(clip, images_of):
    detector, images = WinCLIP(clip), images_of(1, 3)
    features = detector.add_category(detector.encode(images), ["bottle"] * 3)
    whole = anomaly_probability(features["image"], features["text"], 0.07)
    prediction = detector.predict(images, ["bottle"] * 3)
    torch.testing.assert_close(prediction.score, whole)
    assert not torch.allclose(prediction.score, prediction.anomaly_map.flatten(1).amax(1))


def test_the_few_shot_score_depends_on_the_largest_distance_and_not_on_the_map(few_shot, images_of):  # W12
    detector, images = few_shot(2), images_of(1, 3)
    prediction = detector.predict(images, ["bottle"] * 3)
    text, distance = prediction.extra_scores["text"], prediction.extra_scores["references"]
    torch.testing.assert_close(prediction.score, (text + distance) / 2)
    assert not torch.allclose(prediction.score, prediction.anomaly_map.flatten(1).amax(1))


@BOTH
def test_a_reference_as_query_has_half_of_its_text_score(few_shot, images_of, method):  # W10, W12
    detector, references = few_shot(3, method), images_of(5, 4)[:3]
    prediction = detector.predict(references, ["bottle"] * 3)
    assert torch.equal(prediction.extra_scores["references"], torch.zeros(3))
    torch.testing.assert_close(prediction.score, prediction.extra_scores["text"] / 2)


@pytest.mark.parametrize("tau", [0.01, 0.07, 1.0])
def test_the_ranking_of_zero_shot_scores_does_not_depend_on_tau(rng, tau):  # W6
    # cosines as of CLIP: the two texts are similar
    image = F.normalize(torch.randn(200, 64, generator=rng), dim=1)
    text = F.normalize(torch.randn(64, generator=rng) + 0.1 * torch.randn(2, 64, generator=rng), dim=1)
    scores = anomaly_probability(image, text.expand(200, 2, 64), tau)
    assert torch.equal(scores.argsort(), (image @ (text[1] - text[0])).argsort())


def test_the_score_is_a_half_without_a_preference(rng):  # W7
    image = F.normalize(torch.randn(5, 8, generator=rng), dim=1)
    same = F.normalize(torch.randn(5, 1, 8, generator=rng), dim=2).expand(5, 2, 8)
    assert torch.equal(anomaly_probability(image, same, 0.07), torch.full((5,), 0.5))
    axes = torch.eye(8)
    assert anomaly_probability(axes[:1], axes[None, 1:3], 0.07).tolist() == [0.5]


def test_a_window_of_all_patches_gives_the_embedding_of_the_image(clip, images_of):  # W9
    detector = WinCLIP(clip, scales=(2, 4))
    features = detector.encode(images_of(1, 2))
    assert features["windows4"].shape == (2, 1, clip.embed_dim)
    torch.testing.assert_close(features["windows4"][:, 0], features["image"], atol=1e-5, rtol=0)


def test_features_have_the_documented_shapes_and_are_of_unit_length(clip, images_of):  # W8
    features = WinCLIP(clip).encode(images_of(1, 2))
    shapes = {name: tuple(value.shape) for name, value in features.items()}
    assert shapes == {"image": (2, 16), "windows2": (2, 9, 16), "windows3": (2, 4, 16), "patches": (2, 16, 24)}
    for value in features.values():
        torch.testing.assert_close(value.norm(dim=-1), torch.ones(value.shape[:-1]))


# ------------------------------------------------------------------------------------------------ references


def test_more_references_never_raise_the_distance(few_shot, images_of):  # W11
    detectors, images = [few_shot(count) for count in (1, 2, 4)], images_of(1, 5)
    features = detectors[0].encode(images)
    distances = []
    for detector in detectors:
        detector.prepare_detection()
        distances.append(detector._reference_map(features))
    assert (distances[1] <= distances[0]).all()
    assert (distances[2] <= distances[1]).all()
    assert (distances[2] < distances[0]).any()


def test_the_order_of_references_does_not_matter(clip, images_of):  # W13
    references, images = images_of(5, 4), images_of(1, 3)
    first = learn(WinCLIP(clip, use_references=True), references).predict(images)
    second = learn(WinCLIP(clip, use_references=True), references.flip(0)).predict(images)
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)


def test_permuting_a_batch_permutes_the_results(few_shot, images_of):  # W13
    detector, images, order = few_shot(2), images_of(1, 3), [2, 0, 1]
    categories = ["bottle", "cable", "grid"]
    first = detector.predict(images, categories)
    second = detector.predict(images[order], [categories[i] for i in order])
    assert torch.equal(first.score[order], second.score)
    assert torch.equal(first.anomaly_map[order], second.anomaly_map)


def test_zero_shot_has_no_training_stage_and_accepts_any_category(clip):
    detector = WinCLIP(clip)
    assert list(detector.training_stages()) == []
    assert detector.accepts_new_categories
    assert not WinCLIP(clip, use_references=True).accepts_new_categories


def test_the_memory_has_an_entry_per_position_of_each_reference(few_shot):
    detector = few_shot(3)
    assert detector.reference_patches.shape == (3 * 16, 24)
    assert detector.reference_windows2.shape == (3 * 9, 16)
    assert detector.reference_windows3.shape == (3 * 4, 16)
    assert detector.summary().scalars == {"references/images": 3}


def test_training_again_replaces_the_references(few_shot, images_of):
    detector = learn(few_shot(4), images_of(8, 1))
    assert detector.num_references == 1
    fresh = learn(WinCLIP(detector.backbone, use_references=True), images_of(8, 1))
    assert torch.equal(detector.predict(images_of(1, 2)).score, fresh.predict(images_of(1, 2)).score)


def test_the_forecast_is_the_size_of_the_memory(clip, images_of):
    detector = WinCLIP(clip, use_references=True)
    (stage,) = detector.training_stages()
    forecast = stage.forecast(detector.encode(images_of(1, 2)), 1000)
    assert forecast.memory == 4 * 1000 * 4 * (16 * 24 + 9 * 16 + 4 * 16)
    assert "1000 reference images, 0.00 GB" in forecast.text


def test_references_of_two_categories_are_an_error(clip, images_of):
    detector = WinCLIP(clip, use_references=True)
    (stage,) = detector.training_stages()
    stage.begin(2)
    samples = [Sample(Path(f"{name}.png"), name, "train") for name in ("bottle", "cable")]
    with pytest.raises(AnoframeError, match=r"references of 2 categories \(bottle, cable\).*--protocol separate"):
        stage.observe(detector.encode(images_of(1, 2)), samples)


def test_detecting_before_training_is_an_error(clip, images_of):
    with pytest.raises(AnoframeError, match="has no references yet"):
        WinCLIP(clip, use_references=True).predict(images_of(1, 1))


def test_a_checkpoint_holds_the_references(few_shot, clip, images_of):
    detector = few_shot(2)
    state = {name: value.clone() for name, value in detector.learned_state().items()}
    assert set(state) == {"prompts_sha256", "reference_patches", "reference_windows2", "reference_windows3"}
    loaded = WinCLIP(clip, use_references=True)
    loaded.load_learned_state(state)
    first, second = detector.predict(images_of(1, 2)), loaded.predict(images_of(1, 2))
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.anomaly_map, second.anomaly_map)


# ------------------------------------------------------------------------------------------------ categories, prompts


def test_only_the_text_depends_on_the_category(clip, images_of):
    detector = WinCLIP(clip)
    features = detector.encode(images_of(1, 2))
    with_text = detector.add_category(features, ["bottle", "cable"])
    assert with_text["text"].shape == (2, 2, 16)
    assert set(with_text) == {*features, "text"}
    assert "text" not in features
    first, second = (detector.predict(images_of(1, 2), [name] * 2).score for name in ("bottle", "cable"))
    assert not torch.equal(first, second)


def test_an_unknown_category_is_an_object(clip, images_of):
    detector = WinCLIP(clip)
    assert torch.equal(detector.predict(images_of(1, 2)).score, detector.predict(images_of(1, 2), ["object"] * 2).score)


def test_a_prompts_file_changes_scores_and_notes(clip, images_of, tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("templates: ['{}']\nnormal: ['good {}']\ndefect: ['bad {}']\n")
    detector = WinCLIP(clip, prompts=str(path))
    assert not torch.equal(detector.predict(images_of(1, 2)).score, WinCLIP(clip).predict(images_of(1, 2)).score)
    assert str(path) in detector.notes()[0]
    assert list(WinCLIP(clip).notes()) == []


def test_prompts_that_changed_since_a_checkpoint_are_an_error(clip, tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("templates: ['{}']\nnormal: ['good {}']\ndefect: ['bad {}']\n")
    state = WinCLIP(clip, prompts=str(path)).learned_state()
    path.write_text("templates: ['{}']\nnormal: ['good {}']\ndefect: ['broken {}']\n")
    with pytest.raises(AnoframeError, match="are not those of this checkpoint"):
        WinCLIP(clip, prompts=str(path)).load_learned_state(state)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, "model.tau, the temperature of the softmax, is above 0, got 0.0"),
        ({"scales": ()}, r"model.scales lists each window side once, from 1 to 4 .* got \(\)"),
        ({"scales": (2, 2)}, r"got \(2, 2\)"),
        ({"scales": (2, 5)}, r"got \(2, 5\)"),
        ({"scales": (0,)}, r"got \(0,\)"),
        ({"prototypes": "mean"}, "model.prototypes is one of raw, normalised"),
    ],
)
def test_a_wrong_setting_is_an_error(clip, settings, message):
    with pytest.raises(AnoframeError, match=message):
        WinCLIP(clip, **settings)


def test_a_backbone_without_text_is_an_error(backbone):
    with pytest.raises(AnoframeError, match=r"encodes no text: set model.backbone.name to a CLIP model"):
        WinCLIP(backbone)


def test_an_image_tower_without_a_grid_of_patches_is_an_error(clip, monkeypatch):
    monkeypatch.setattr(FakeCLIP, "grid", (0, 0))
    with pytest.raises(AnoframeError, match="has no grid of patches"):
        WinCLIP(clip)


@BOTH
def test_images_of_another_size_are_an_error_before_the_run(clip, method):
    method(clip).check_image_size(32, 32)
    with pytest.raises(AnoframeError, match=r"data.crop is 224, .* use --data.resize 32 --data.crop 32"):
        method(clip).check_image_size(224, 224)
    with pytest.raises(AnoframeError, match=r"data.crop is 32 x 48, "):
        method(clip).check_image_size(32, 48)


def test_a_blur_changes_the_map_alone(clip, images_of):
    plain, blurred = (WinCLIP(clip, sigma=sigma).predict(images_of(1, 2)) for sigma in (0.0, 2.0))
    assert torch.equal(plain.score, blurred.score)
    assert not torch.equal(plain.anomaly_map, blurred.anomaly_map)
    torch.testing.assert_close(plain.anomaly_map.mean(), blurred.anomaly_map.mean())


def test_features_do_not_depend_on_prompts_or_references(clip):
    expected = WinCLIP(clip).encoding()
    assert WinCLIP(clip, use_references=True, tau=0.1, full_stop=False, prototypes="normalised").encoding() == expected
    assert WinCLIP(clip, scales=(2,)).encoding() != expected


def test_winclip_fast_averages_patch_tokens_and_says_that_it_is_not_winclip(clip, images_of):
    images = images_of(1, 2)
    fast, exact = WinCLIPFast(clip), WinCLIP(clip)
    features = fast.encode(images)
    tokens = clip.image_tokens(images)
    expected = torch.stack([tokens.patches[:, rows].mean(1) for rows in window_table((4, 4), 2)], 1)
    torch.testing.assert_close(features["windows2"], F.normalize(clip.project(expected), dim=-1))
    assert not torch.allclose(features["windows2"], exact.encode(images)["windows2"], atol=0.1)
    assert torch.equal(fast.predict(images).score, exact.predict(images).score)  # only the whole image counts
    assert fast.notes()[0].startswith("winclip_fast is not WinCLIP")
