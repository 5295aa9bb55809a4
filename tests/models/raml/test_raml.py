"""RAML as a detector: features, scores, text, settings, report."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anoframe.backbones import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.features.cache import find_encoding
from anoframe.models.components.image_embedding import IMAGES_PER_PASS, embed
from anoframe.models.raml.model import RAML, text_score

PLAIN = {"weight": 0.0, "fusion": False}


@pytest.fixture(scope="module")
def pyramid_backbone():
    """A small random ResNet with two levels. Read only."""
    return FeaturePyramid("test_resnet", (1, 2), "random")


def photos(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def fix_logit(detector, value):
    """Make the classifier return a constant."""
    with torch.no_grad():
        detector.network.classifier[-1].weight.zero_()
        detector.network.classifier[-1].bias.fill_(value)


# ------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(("mode", "side"), [("true", 32), ("tiles224", 8), ("reference", 8)])
def test_features_have_one_vector_per_crop(raml, mode, side):
    features = raml(pyramid={"mode": mode}).encode(photos(2, side))
    shapes = {name: tuple(value.shape) for name, value in features.items()}
    assert shapes == {"scale1": (2, 12), "scale2": (2, 4, 12), "scale3": (2, 16, 12)}


def test_each_crop_has_its_own_place(raml, clip):
    image = photos(1, 32)
    features = raml().encode(image)
    torch.testing.assert_close(features["scale3"][0, 7], clip(image[..., 8:16, 24:] / 255)[0])
    vectors = torch.cat([features["scale1"][:, None], features["scale2"], features["scale3"]], 1)[0]
    assert len(vectors.unique(dim=0)) == 21


def test_the_encoder_gets_the_channels_that_the_public_code_mixes(raml, clip):
    image = photos(1, 8)
    raml(pyramid={"mode": "reference"}).encode(image)
    normalised = (image / 255 - clip.mean) / clip.std
    expected = F.interpolate(normalised.view(4, 3, 4, 4), (8, 8), mode="bilinear")
    torch.testing.assert_close(clip.seen[-1][1:5], expected, rtol=0, atol=1e-5)


def test_levels_of_a_pyramid_are_pooled_and_concatenated(pyramid_backbone):
    crops = photos(3, 64).float() / 255
    vectors = embed(pyramid_backbone, crops)
    assert vectors.shape == (3, sum(pyramid_backbone.channels))
    fine, coarse = pyramid_backbone(crops)
    torch.testing.assert_close(vectors, torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


def test_few_crops_at_a_time_go_through_the_encoder(clip):
    crops = torch.rand(2 * IMAGES_PER_PASS + 3, 3, 8, 8)
    vectors = embed(clip, crops)
    assert [len(images) for images in clip.seen] == [IMAGES_PER_PASS, IMAGES_PER_PASS, 3]
    torch.testing.assert_close(vectors, clip(crops))


def test_ablations_of_one_pyramid_mode_share_cached_features(raml):
    encodings = [
        find_encoding(raml(**settings))
        for settings in ({}, {"pyramid": {"scales": (1,)}}, {"head": "linear"}, {"loss": {"maccl": False}})
    ]
    assert encodings[0] is not None
    assert all(encoding == encodings[0] for encoding in encodings)
    assert find_encoding(raml(pyramid={"mode": "tiles224"})) != encodings[0]


def test_features_of_another_tile_size_are_not_shared(pyramid_backbone):
    small, large = (RAML(pyramid_backbone, tile_size=size) for size in (32, 64))
    assert find_encoding(small) != find_encoding(large)


def test_a_backbone_that_cannot_describe_itself_is_not_cached():
    class Unknown(nn.Module):
        channels = (3,)

    assert find_encoding(RAML(Unknown(), tile_size=8)) is None


# ------------------------------------------------------------------------------------------------- scores


def test_the_score_is_a_weighted_sum_of_classifier_and_text(raml):
    detector, images = raml(), photos(3, 32)
    prediction = detector.predict(images, ["bottle", "screw", "bottle"])
    extra = prediction.extra_scores
    torch.testing.assert_close(prediction.score, 0.85 * extra["visual"] + 0.15 * extra["text"])
    assert prediction.anomaly_map is None
    assert extra.keys() == {"visual", "text"}


def test_a_sure_classifier_and_an_undecided_text_give_0_925(raml, monkeypatch):
    detector = raml()
    fix_logit(detector, 50.0)
    monkeypatch.setattr(type(detector.backbone), "encode_text", lambda _, prompts: torch.eye(12)[:1].expand(2, 12))
    assert detector.predict(photos(1, 32)).score.tolist() == pytest.approx([0.925])


def test_the_text_score_ranks_images_as_the_difference_of_cosines():
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(20, 12, generator=generator), torch.randn(20, 2, 12, generator=generator)
    text = F.normalize(text, dim=-1)
    normal, defect = (F.cosine_similarity(image, text[:, i]) for i in (0, 1))
    torch.testing.assert_close(text_score(image, text), (defect - normal + 1) / 2)
    visual = torch.rand(20, generator=generator)
    score, plain = 0.85 * visual + 0.15 * text_score(image, text), 0.85 * visual + 0.075 * (defect - normal)
    assert score.argsort().tolist() == plain.argsort().tolist()


def test_the_category_is_in_the_prompts_and_changes_the_score(raml):
    detector, images = raml(), photos(1, 32)
    bottle, screw = (detector.predict(images, [name]) for name in ("bottle", "screw"))
    assert bottle.extra_scores["text"] != screw.extra_scores["text"]
    assert bottle.extra_scores["visual"] != screw.extra_scores["visual"]  # by the fusion
    assert torch.equal(detector.predict(images).score, detector.predict(images, ["object"]).score)


def test_without_fusion_the_category_changes_the_text_score_alone(raml):
    detector, images = raml(text={"fusion": False}), photos(1, 32)
    bottle, screw = (detector.predict(images, [name]) for name in ("bottle", "screw"))
    assert bottle.extra_scores["text"] != screw.extra_scores["text"]
    assert torch.equal(bottle.extra_scores["visual"], screw.extra_scores["visual"])


def test_prompts_are_those_of_the_config(raml, clip):
    detector = raml(text={"normal": "good {}", "defect": "bad {} here", "replace_underscores": True})
    assert detector.text.prompts("metal_nut") == ("good metal nut", "bad metal nut here")
    assert raml().text.prompts("metal_nut")[1] == "a photo of a damaged metal_nut"
    features = detector.add_category(detector.encode(photos(2, 32)), ["metal_nut", "pcb1"])
    assert torch.equal(features["text"][0], clip.encode_text(["good metal nut", "bad metal nut here"]))


def test_a_backbone_without_text_gives_the_visual_score_alone(pyramid_backbone):
    prediction = RAML(pyramid_backbone, tile_size=32, text=PLAIN).predict(photos(2, 128), ["bottle", "screw"])
    assert prediction.extra_scores.keys() == {"visual"}
    assert torch.equal(prediction.score, prediction.extra_scores["visual"])


# ------------------------------------------------------------------------------------------------- training


def test_the_losses_add_up_from_maccl_and_cross_entropy(raml, batch):
    detector, data = raml(), batch()
    (phase,) = detector.training_stages()
    losses = phase.loss(data)
    assert list(losses) == ["centre", "margin", "contrastive", "bce"]
    _, logits = detector.network(detector.add_category(data.features, [s.category for s in data.samples]))
    targets = torch.tensor([float(sample.is_defect) for sample in data.samples])
    torch.testing.assert_close(losses["bce"], F.binary_cross_entropy_with_logits(logits, targets))
    assert detector.maccl.difficulty.state().keys() == {"bottle", "screw"}


def test_every_parameter_but_those_of_the_last_query_and_key_gets_a_gradient(raml, batch):
    detector = raml()
    (phase,) = detector.training_stages()
    sum(phase.loss(batch()).values()).backward()
    idle = {name for name, value in phase.parameters.items() if not torch.count_nonzero(value.grad)}
    last = "network.pyramid.attentions.2"
    assert {f"{last}.query.weight", f"{last}.query.bias", f"{last}.key.weight", f"{last}.key.bias"} <= idle
    assert idle <= {
        name for name in phase.parameters if ".key.bias" in name or last in name
    }  # softmax drops key biases


@pytest.mark.parametrize("settings", [{"loss": {"maccl": False}}, {"head": "linear", "text": PLAIN}])
def test_without_maccl_the_loss_is_the_cross_entropy_and_has_no_state(raml, batch, settings):
    detector = raml(**settings)
    phase = detector.training_stages()[-1]
    assert list(phase.loss(batch())) == ["bce"]
    assert not any("maccl" in name for name in detector.learned_state())
    assert not phase.couples_batch


def test_the_linear_probe_standardises_with_the_training_features(raml, batch):
    detector = raml(head="linear", text=PLAIN)
    observation, _ = detector.training_stages()
    first, second = batch(seed=1), batch(seed=2)
    observation.begin(16)
    for data in (first, second):
        observation.observe(data.features, data.samples)
    observation.finish()
    rows = torch.cat([first.features["scale1"], second.features["scale1"]])
    torch.testing.assert_close(detector.network.mean, rows.mean(0))
    torch.testing.assert_close(detector.network.std, rows.std(0, correction=0))


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "mlp"}, "unknown model.head 'mlp'"),
        ({"pyramid": {"mode": "tile"}}, "unknown model.pyramid.mode 'tile': did you mean 'tiles224'"),
        ({"pyramid": {"scales": (1, 16)}}, r"model.pyramid.scales must be .* got \(1, 16\)"),
        ({"pyramid": {"hidden": 18, "heads": 4}}, "model.pyramid.hidden"),
        ({"pyramid": {"dropout": 1.0}}, "model.pyramid.dropout"),
        ({"pyramid": {"mod": "true"}}, "did you mean 'mode'"),
        ({"text": {"weight": 1.5}}, "model.text.weight must be between 0 and 1"),
        ({"text": {"normal": "a photo"}}, "model.text.normal must contain {} once"),
        ({"text": {"defect": "a {x} {}"}}, "model.text.defect must contain {} once"),
        ({"loss": {"reduction": "sum"}}, "unknown model.loss.reduction 'sum'"),
        ({"loss": {"margin_base": -1.0}}, "model.loss.margin_base must be 0 or more"),
        ({"loss": {"temperature": 0.0}}, "model.loss.temperature must be above 0"),
        ({"loss": {"resolution": 901}}, "model.loss.resolution must be between 1 and .* 900, got 901"),
        ({"head": "linear", "text": {}}, "model.head linear has no text fusion"),
    ],
)
def test_wrong_settings_raise_an_error_that_names_the_key(raml, settings, message):
    with pytest.raises(AnoframeError, match=message):
        raml(**settings)


@pytest.mark.parametrize("text", [{}, {"weight": 0.0}, {"fusion": False}])
def test_text_without_a_text_tower_raises_an_error_that_names_both_keys(pyramid_backbone, text):
    with pytest.raises(AnoframeError, match=r"model\.text\.weight.*model\.text\.fusion"):
        RAML(pyramid_backbone, tile_size=32, text=text)


@pytest.mark.parametrize("size", [0, 30])
def test_tiles_must_divide_by_four(pyramid_backbone, size):
    with pytest.raises(AnoframeError, match=r"model\.tile_size must be a positive multiple of 4"):
        RAML(pyramid_backbone, tile_size=size)


def test_the_tile_size_must_be_the_input_of_the_backbone(clip):
    with pytest.raises(AnoframeError, match=r"takes images of 8 pixels.*--model\.tile_size 8 --data\.crop 32"):
        RAML(clip, tile_size=16)


@pytest.mark.parametrize(("mode", "side"), [("true", 32), ("tiles224", 8), ("reference", 8)])
def test_the_size_of_the_images_is_checked_before_a_run(raml, mode, side):
    detector = raml(pyramid={"mode": mode})
    detector.check_image_size(side, side)
    with pytest.raises(AnoframeError, match=rf"data\.crop 24: --data\.resize {side} --data\.crop {side}"):
        detector.check_image_size(24, 24)
    with pytest.raises(AnoframeError, match=rf"got data\.crop {side} x 24"):
        detector.check_image_size(side, 24)


def test_a_backbone_without_a_width_raises_an_error():
    with pytest.raises(AnoframeError, match="`embed_dim`"):
        RAML(nn.Identity(), tile_size=8)


# ------------------------------------------------------------------------------------------------- report


def test_the_summary_reports_margin_centre_and_difficulty(raml, batch):
    detector = raml()
    assert detector.summary().tables == []
    detector.training_stages()[0].loss(batch())
    summary = detector.summary()
    assert summary.scalars["maccl/sigma"] == pytest.approx(float(detector.maccl.sigma))
    assert summary.scalars["maccl/margin"] == pytest.approx(float(detector.maccl.adaptive_margin()))
    assert summary.scalars["maccl/centre_norm"] > 0
    assert summary.scalars["fusion/scale"] == pytest.approx(0.1)
    (table,) = summary.tables
    assert table.name == "difficulty"
    assert [row[0] for row in table.rows] == ["bottle", "screw"]
    assert "margin" in summary.message


def test_notes_say_what_is_not_the_published_method(raml, pyramid_backbone):
    assert raml().notes() == []
    assert "no tiles of the image" in raml(pyramid={"mode": "reference"}).notes()[0]
    assert "no more detail" in raml(pyramid={"mode": "tiles224"}).notes()[0]
    assert "not RAML" in raml(head="linear", text=PLAIN).notes()[0]
    assert "in place of CLIP" in RAML(pyramid_backbone, tile_size=32).notes()[0]
