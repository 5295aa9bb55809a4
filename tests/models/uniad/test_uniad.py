import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from uniad_options import OPTIONS, outcome, same

from anoframe.backbones import FeaturePyramid
from anoframe.config import load_config, plain
from anoframe.errors import AnoframeError
from anoframe.models.base import Phase, TrainingBatch
from anoframe.models.factory import build_detector
from anoframe.models.uniad.model import UniAD, pooled_max
from anoframe.models.uniad.transformer import neighbour_mask
from anoframe.types import Sample

SMALL = {"width": 16, "heads": 2, "hidden": 32, "encoder_layers": 1, "decoder_layers": 2}
ON_8 = {"image_size": 32, "stride": 4, "window": 3, **SMALL}  # 8 x 8 tokens of the tiny backbone's 15 channels
B4 = (24, 32, 56, 160)  # channels of EfficientNet-b4 at strides 2, 4, 8 and 16


class Levels(nn.Module):
    """Says of itself what EfficientNet-b4 does, and has no weights."""

    channels = B4


@pytest.fixture
def make(backbone):
    """Builds UniAD on the tiny backbone, small, in eval mode, from the same seed."""

    def build(**changes):
        torch.manual_seed(0)
        return UniAD(backbone, **{**ON_8, **changes}).eval()

    return build


@pytest.fixture(scope="module")
def b4():
    """EfficientNet-b4 with its four levels and random weights. Read only."""
    return FeaturePyramid("tf_efficientnet_b4", (0, 1, 2, 3), "random")


def batch_of(features):
    samples = tuple(Sample(f"{i}.png", "tiny", "train") for i in range(len(features)))
    return TrainingBatch(features, samples, torch.arange(len(features)))


def learn(detector, features, steps, lr=1e-3):
    """The plainest trainer: AdamW on the only phase, on all features at once. Returns the losses."""
    (phase,) = detector.training_stages()
    optimiser = torch.optim.AdamW(phase.parameters.values(), lr)
    batch, losses = batch_of(features), []
    detector.train()
    for _ in range(steps):
        loss = sum(phase.loss(batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    detector.eval()
    return losses


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def features_like(detector, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, detector.reconstruction.inward.in_features, *detector.grid, generator=generator)


# ------------------------------------------------------------------------------------------------ shapes and sizes


@pytest.mark.parametrize(("size", "sides"), [(224, (112, 56, 28, 14)), (256, (128, 64, 32, 16))])
def test_shapes_are_the_published_ones(b4, size, sides):
    detector = UniAD(b4, image_size=size, **SMALL)
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    levels = b4(image)
    assert [level.shape[2:] for level in levels] == [(side, side) for side in sides]
    assert [level.shape[1] for level in levels] == list(B4)
    features = detector.encode(image)
    assert features.shape == detector.reconstruct(features).shape == (1, 272, size // 16, size // 16)
    prediction = detector.detect(features, (size, size))
    assert (prediction.score.shape, prediction.anomaly_map.shape) == ((1,), (1, size, size))


def test_the_features_are_all_levels_on_the_coarsest_grid(b4):
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    features = UniAD(b4, **SMALL).encode(image)
    expected = [nn.UpsamplingBilinear2d(scale_factor=s / 16)(one) for s, one in zip(b4.strides, b4(image), strict=True)]
    torch.testing.assert_close(features, torch.cat(expected, 1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 7_717_392), ({"image_size": 256}, 7_779_344), ({"memory": {"kind": "series"}}, 7_979_536)],
    ids=["published", "256", "series"],
)
def test_there_are_as_many_parameters_as_published(options, expected):
    assert count(UniAD(Levels(), **options)) == expected


def test_the_published_backbone_is_as_large_as_published_and_frozen():
    pyramid = FeaturePyramid("tf_efficientnet_b4", (0, 1, 2, 3, 4), "random")
    assert count(pyramid) == 16_742_216
    assert not [name for name, parameter in pyramid.named_parameters() if parameter.requires_grad]


def test_the_published_config_builds_it():
    cfg = load_config("uniad/uniad_224.py", {"model.backbone.weights": "random"})
    detector = build_detector(plain(cfg.model))
    assert (detector.grid, count(detector.reconstruction)) == ((14, 14), 7_717_392)
    trainer = plain(cfg.trainer)
    optimizer, schedule = trainer["optimizer"], trainer["schedule"]
    assert (trainer["epochs"], trainer["batch_size"], trainer["clip"]) == (1000, 8, 0.1)
    assert (optimizer["name"], optimizer["lr"], optimizer["weight_decay"]) == ("adamw", 1e-4, 1e-4)
    assert (optimizer["decay_vectors"], tuple(optimizer["betas"])) == (True, (0.9, 0.999))
    assert (schedule["name"], schedule["decay_epochs"], schedule["decay_rate"]) == ("step", 800, 0.1)


def test_tokens_follow_the_images_of_a_config():
    assert load_config("uniad/uniad_224.py", {"data.crop": "320"}).model.image_size == 320
    assert load_config("uniad/uniad_256.py").model.image_size == 256


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_matters(make, name):
    usual = {"stride": 8, "window": 3, "encoder_layers": 2}  # other than all that is tried
    assert not same(outcome(make(**usual)), outcome(make(**{**usual, name: OPTIONS[name]})))


def test_no_option_is_left_out():
    assert OPTIONS.keys() == inspect.signature(UniAD).parameters.keys() - {"backbone"}


# ------------------------------------------------------------------------------------------------ learning


def test_it_learns_by_one_phase_on_all_images(make):
    detector = make()
    (phase,) = detector.training_stages()
    assert isinstance(phase, Phase)
    assert (phase.name, phase.rows) == ("reconstruction", None)
    assert {id(p) for p in phase.parameters.values()} == {id(p) for p in detector.reconstruction.parameters()}
    assert phase.parameters.keys() == detector.learned_state().keys()


@pytest.mark.parametrize("kind", ["none", "series", "prototype"])
def test_every_parameter_gets_a_gradient(make, kind):
    detector = make(memory={"kind": kind}).train()
    (phase,) = detector.training_stages()
    sum(phase.loss(batch_of(features_like(detector))).values()).backward()
    assert [name for name, parameter in phase.parameters.items() if not parameter.grad.abs().sum() > 0] == []


def test_the_loss_is_the_mean_square_of_what_is_missed_of_the_clean_features(make):
    detector = make()
    features, seen = features_like(detector), []
    detector.reconstruction.inward.register_forward_pre_hook(lambda _, words: seen.append(words[0]))
    detector.reconstruction.outward.register_forward_hook(lambda *words: seen.append(words[2]))
    detector.train()
    loss = detector.losses(batch_of(features))
    clean = features.flatten(2).transpose(1, 2)
    assert not torch.allclose(seen[0], clean, atol=0.1)
    torch.testing.assert_close(loss, {"mse": (seen[1] - clean).square().mean()})


def test_eight_fixed_maps_are_learned(make):
    detector = make(width=64, hidden=128, decoder_layers=1, image_size=24, jitter={"alpha": 0.0})
    features = features_like(detector, 8)
    learn(detector, features, 500)
    missed = F.mse_loss(detector.reconstruct(features), features)
    assert missed < 0.2 * features.var()


def test_noise_is_drawn_in_train_mode_alone(make):
    detector = make(dropout=0.0)
    features, found = features_like(detector), []
    for mode in (False, True):
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(detector.train(mode).reconstruct(features))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[2], found[3], atol=1e-3)


@pytest.mark.parametrize("jitter", [{"alpha": 0.0}, {"p": 0.0}])
def test_without_noise_and_dropout_training_sees_what_evaluation_sees(make, jitter):
    features = features_like(make())
    detector, other = make(dropout=0.0, jitter=jitter).train(), make(dropout=0.0, jitter={"alpha": 0.0}).train()
    assert torch.equal(detector.reconstruct(features), other.reconstruct(features))
    torch.testing.assert_close(detector.reconstruct(features), make().reconstruct(features))


def test_dropout_reaches_all_parts(make):
    rates = {module.p for module in make(dropout=0.3).modules() if isinstance(module, nn.Dropout)}
    attentions = {module.dropout for module in make(dropout=0.3).modules() if hasattr(module, "in_proj_weight")}
    assert rates == attentions == {0.3}


def test_the_loss_is_float32_under_autocast(make):
    detector = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert detector.losses(batch_of(features_like(detector)))["mse"].dtype == torch.float32


def test_the_map_is_float32_of_features_in_bfloat16_too(make):
    detector = make()
    half = features_like(detector).bfloat16()
    assert detector.distance(half, half + 1).dtype == torch.float32


def test_projections_start_xavier_uniform_without_biases(make):
    reconstruction = make(width=64).reconstruction
    for layer in (reconstruction.inward, reconstruction.outward):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_the_seed_of_a_run_gives_the_first_weights():
    section = {"name": "uniad", "backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}, **SMALL}
    states = [build_detector(section, seed).learned_state() for seed in (3, 3, 4)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_the_backbone_never_changes(images_of):
    torch.manual_seed(0)
    detector = UniAD(FeaturePyramid("test_resnet", (1, 2), "random"), **ON_8)
    before = {name: value.clone() for name, value in detector.backbone.state_dict().items()}
    learn(detector, detector.encode(images_of(0, 2)), 2)
    after = detector.backbone.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert not [name for name, parameter in detector.backbone.named_parameters() if parameter.grad is not None]


def test_training_repeats_to_the_bit_with_deterministic_algorithms(make):
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(2):
            detector = make(memory={"kind": "series", "topk": 5, "shrink": 0.01, "entropy": 0.1})
            learn(detector, features_like(detector, 4), 3)
            found.append(detector.learned_state())
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# ------------------------------------------------------------------------------------------------ detecting


class Rebuilds(nn.Module):
    """In the place of what is learned: the features themselves and something more."""

    def __init__(self, more):
        super().__init__()
        self.more = more

    def forward(self, features):
        return features + self.more, None


def test_what_is_rebuilt_is_normal(make):
    detector = make()
    features = features_like(detector)
    detector.reconstruction = Rebuilds(0.0)
    assert detector.losses(batch_of(features))["mse"] == 0
    prediction = detector.detect(features, (32, 32))
    assert not prediction.anomaly_map.any()
    assert not prediction.score.any()


def test_a_constant_error_has_the_length_of_all_its_channels():
    detector = UniAD(Levels(), **SMALL)
    features = features_like(detector)
    detector.reconstruction = Rebuilds(0.5)
    maps = detector.detect(features, (224, 224)).anomaly_map
    torch.testing.assert_close(maps, torch.full((2, 224, 224), 0.5 * 16.492), rtol=1e-4, atol=0)


def test_the_map_is_that_of_the_definition(make):
    detector = make()
    features = features_like(detector)
    length = (detector.reconstruct(features) - features).square().sum(1, keepdim=True).sqrt()
    expected = F.interpolate(length, (48, 40), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(detector.detect(features, (48, 40)).anomaly_map, expected.detach())


@torch.no_grad()
def test_corners_of_the_map_are_the_corner_tokens(make):
    detector = make()
    features = features_like(detector, 1)
    maps = detector.detect(features, (32, 32)).anomaly_map
    tokens = detector.distance(features, detector.reconstruct(features))
    corners = [0, 0, -1, -1], [0, -1, 0, -1]
    assert torch.equal(maps[0][corners], tokens[0][corners])


def test_the_score_pools_16_by_16_pixels(make):
    prediction = make().predict(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    expected = F.avg_pool2d(prediction.anomaly_map[:, None], 16, stride=1).flatten(1).amax(1)
    torch.testing.assert_close(prediction.score, expected)


@pytest.mark.parametrize("place", [(100, 60), (0, 0), (223, 223)])
def test_one_pixel_alone_scores_a_256th_in_the_middle_and_at_a_border(place):
    maps = torch.zeros(2, 224, 224)
    maps[0][place] = 3.0
    pooled = F.avg_pool2d(maps[:, None], 16, stride=1)
    assert pooled.shape[2:] == (209, 209)
    assert pooled_max(maps).tolist() == [3 / 256, 0.0]


@pytest.mark.parametrize(
    ("kind", "of"), [("mean", lambda m: m.mean((1, 2))), ("std", lambda m: torch.tensor(m.numpy().std((1, 2))))]
)
def test_the_score_can_be_the_mean_or_the_deviation_of_the_map(make, images_of, kind, of):
    prediction = make(image_score=kind).predict(images_of(1, 3))
    torch.testing.assert_close(prediction.score, of(prediction.anomaly_map))


@pytest.mark.parametrize("kind", ["none", "series", "prototype"])
def test_an_image_has_the_same_result_to_the_bit_in_any_batch(make, images_of, kind):
    detector = make(memory={"kind": kind})
    learn(detector, detector.encode(images_of(0, 4)), 3)
    images = images_of(1, 3)
    together, alone = detector.predict(images), [detector.predict(one) for one in images.split(1)]
    assert torch.equal(together.anomaly_map, torch.cat([one.anomaly_map for one in alone]))
    assert torch.equal(together.score, torch.cat([one.score for one in alone]))


def test_on_a_cpu_each_image_is_judged_by_itself(make):
    """Kernels may be chosen by the size of a batch, on another machine than this one too."""
    detector, sizes = make(), []
    detector.reconstruction.register_forward_pre_hook(lambda _, words: sizes.append(len(words[0])))
    detector.detect(features_like(detector, 3), (32, 32))
    assert sizes == [1, 1, 1]


def test_features_of_an_image_are_the_same_to_the_bit_in_any_batch(b4):
    detector = UniAD(b4, **SMALL)
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    assert torch.equal(detector.encode(images), torch.cat([detector.encode(one) for one in images.split(1)]))


def test_the_order_of_the_images_is_that_of_their_results(make, images_of):
    detector, images = make(), images_of(1, 3)
    before, after = detector.predict(images), detector.predict(images[[2, 0, 1]])
    assert torch.equal(after.anomaly_map, before.anomaly_map[[2, 0, 1]])
    assert torch.equal(after.score, before.score[[2, 0, 1]])


def test_an_image_twice_has_the_same_map_twice(make, images_of):
    maps = make().predict(images_of(1, 1).repeat(2, 1, 1, 1)).anomaly_map
    assert torch.equal(maps[0], maps[1])


def test_a_batch_is_rebuilt_as_each_alone(make):
    detector = make()
    features = features_like(detector, 3)
    each = torch.cat([detector.reconstruct(one) for one in features.split(1)])
    torch.testing.assert_close(detector.reconstruct(features), each)


def test_what_it_learned_is_less_anomalous_than_what_it_has_not_seen(make):
    detector = make(width=64, hidden=128, decoder_layers=1, image_size=24, jitter={"alpha": 0.0})
    features = features_like(detector, 8)
    learn(detector, features[:4], 100)
    maps = detector.detect(features, (24, 24)).anomaly_map.mean((1, 2))
    assert maps[:4].max() < 0.8 * maps[4:].min()


def test_detecting_in_train_mode_leaves_it_in_train_mode(make, images_of):
    detector = make().train()
    detector.predict(images_of(0, 2))
    assert detector.reconstruction.training


# ------------------------------------------------------------------------------------------------ who sees whom


def test_a_place_is_rebuilt_from_outside_of_its_window_alone(make):
    detector = make(encoder_layers=0, decoder_layers=1)
    features = features_like(detector, 1).requires_grad_()
    detector.reconstruct(features)[0, :, 4, 4].sum().backward()
    derivative = features.grad[0].abs().sum(0).flatten()
    blocked = neighbour_mask(8, 8, 3)[4 * 8 + 4]
    assert derivative[blocked].tolist() == [0.0] * 9
    assert (derivative[~blocked] > 0).any()


@pytest.mark.parametrize(
    "off", [("mask_first",), ("mask_second",), ("mask_first", "mask_second")], ids=lambda names: " ".join(names)
)
def test_each_mask_of_the_decoder_can_be_off(make, off):
    detector = make(encoder_layers=0, decoder_layers=1, **dict.fromkeys(off, False))
    features = features_like(detector, 1).requires_grad_()
    detector.reconstruct(features)[0, :, 4, 4].sum().backward()
    assert features.grad[0, :, 4, 4].abs().sum() > 0


@pytest.mark.parametrize("option", ["mask_encoder", "mask_first", "mask_second"])
def test_an_option_turns_off_the_mask_of_its_own_attention(make, option):
    """With one decoder layer both attentions of it are to the same, and none could be told from the other."""
    detector, masked = make(**{option: False}), {}
    transformer = detector.reconstruction.transformer
    encoder, decoder = transformer.encoder[0], transformer.decoder[1]
    named = {"mask_encoder": encoder.attention, "mask_first": decoder.first, "mask_second": decoder.second}
    for name, attention in named.items():
        attention.register_forward_pre_hook(lambda _, words, name=name: masked.update({name: words[3] is not None}))
    detector.reconstruct(features_like(detector))
    assert masked == {name: name != option for name in named}


def test_the_mask_of_the_encoder_can_be_off(make):
    features = features_like(make())
    assert not torch.allclose(make(mask_encoder=False).reconstruct(features), make().reconstruct(features), atol=1e-4)


def test_rows_and_columns_keep_their_order(make):
    """Positions, windows and tokens agree on which axis is which, on a grid that is not square."""
    detector = make(image_size=(32, 48), encoder_layers=0, decoder_layers=1)
    features = features_like(detector, 1).requires_grad_()
    detector.reconstruct(features)[0, :, 2, 9].sum().backward()
    seen = features.grad[0].abs().sum(0) > 0
    assert (~seen).nonzero().tolist() == [[row, column] for row in (1, 2, 3) for column in (8, 9, 10)]


# ------------------------------------------------------------------------------------------------ the memory


def test_no_memory_is_uniad_to_the_bit(make):
    features = features_like(make())
    assert torch.equal(make(memory={"kind": "none"}).reconstruct(features), make().reconstruct(features))


def test_a_memory_that_hands_on_the_tokens_is_uniad_to_the_bit(make):
    detector, plain_one = make(memory={"kind": "series"}), make()
    weights = {name: value for name, value in detector.learned_state().items() if ".memory." not in name}
    plain_one.load_learned_state(weights)
    detector.reconstruction.memory.forward = lambda tokens: (tokens, None)
    features = features_like(detector)
    assert torch.equal(detector.reconstruct(features), plain_one.reconstruct(features))


def test_with_one_slot_nothing_of_the_image_passes(make):
    detector = make(memory={"kind": "series", "slots": 1})
    one, other = detector.reconstruct(features_like(detector))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["series", "prototype"])
def test_the_order_of_slots_does_not_matter(make, kind):
    detector = make(memory={"kind": kind, "slots": 10})
    features = features_like(detector)
    before = detector.reconstruct(features)
    with torch.no_grad():
        slots = detector.reconstruction.memory.slots
        slots.copy_(slots[torch.randperm(10)])
    torch.testing.assert_close(detector.reconstruct(features), before)


def test_the_prototype_lets_the_image_pass_its_memory(make):
    detector = make(memory={"kind": "prototype", "slots": 1})
    one, other = detector.reconstruct(features_like(detector))
    assert not torch.allclose(one, other, atol=1e-3)


def test_the_prototype_has_no_masks_no_queries_and_normal_tokens(make):
    detector = make(memory={"kind": "prototype"})
    seen = []
    detector.reconstruction.transformer.encoder[0].register_forward_pre_hook(lambda _, words: seen.append(words))
    features = features_like(detector)
    detector.reconstruct(features)
    tokens, _, mask = seen[0]
    assert mask is None
    assert not [name for name in detector.learned_state() if "query" in name and ".memory." not in name]
    torch.testing.assert_close(tokens.mean(2), torch.zeros(2, 64), rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.var(2, correction=0), torch.ones(2, 64), rtol=1e-3, atol=0)


def test_the_prototype_compares_features_through_a_sigmoid(make):
    detector = make(memory={"kind": "prototype"})
    features = features_like(detector)
    found = detector.reconstruct(features)
    missed = found.sigmoid() - features.sigmoid()
    torch.testing.assert_close(detector.losses(batch_of(features)), {"mse": missed.square().mean()})
    torch.testing.assert_close(detector.distance(features, found), missed.square().sum(1).sqrt())


def test_the_entropy_of_the_memory_is_part_of_the_loss_where_it_has_a_weight(make):
    detector = make(memory={"kind": "series", "slots": 10, "entropy": 0.5})
    features = features_like(detector)
    _, weights = detector.reconstruction(features)
    expected = -0.5 * (weights * weights.log()).sum(-1).mean()
    torch.testing.assert_close(detector.losses(batch_of(features))["entropy"], expected)


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_options_of_the_memory_reach_it(make, options):
    memory = make(memory={"kind": "series", "slots": 10, **options}).reconstruction.memory
    assert (len(memory.slots), memory.topk, memory.shrink) == (10, options.get("topk"), options.get("shrink", 0.0))


# ------------------------------------------------------------------------------------------------ the cache


def test_encodings_differ_by_grid_and_backbone(b4):
    detectors = [UniAD(b4, **SMALL), UniAD(b4, image_size=256, **SMALL), UniAD(b4, stride=32, **{**SMALL, "window": 3})]
    detectors.append(UniAD(FeaturePyramid("tf_efficientnet_b4", (1, 2, 3), "random"), **SMALL))
    encodings = [detector.encoding() for detector in detectors]
    assert all(one != other for i, one in enumerate(encodings) for other in encodings[:i])
    assert encodings[0] == UniAD(b4, mask_first=False, position="sine", **SMALL).encoding()


def test_a_backbone_that_says_nothing_is_not_cached(make):
    assert make().encoding() is None


# ------------------------------------------------------------------------------------------------ errors


def test_images_of_another_size_are_refused(make, images_of):
    with pytest.raises(AnoframeError, match=r"built for images of 32 x 32 pixels .*data\.crop.* and got 32 x 48"):
        make().predict(images_of(0, 1, (32, 48)))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"image_size": 34}, r"multiples of model\.stride 4, got 34"),
    ({"image_size": 8}, r"at least 16 pixels"),
    ({"stride": 0}, r"model\.stride is at least 1, got 0"),
    ({"window": 9}, r"model\.window 9 leaves the middle of 8 x 8 tokens nothing to look at"),
    ({"image_score": "median"}, r"model\.image_score is one of max, mean, std, got 'median'"),
    ({"jitter": {"alhpa": 1.0}}, r"model\.jitter.*'alhpa': did you mean 'alpha'"),
    ({"memory": {"kind": "parallel"}}, r"model\.memory\.kind is one of none, series, prototype, got 'parallel'"),
    ({"memory": {"entropy": -1.0}}, r"model\.memory\.entropy is 0 or more, got -1\.0"),
    ({"memory": {"slot": 3}}, r"model\.memory.*'slot': did you mean 'slots'"),
])  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_its_key(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        UniAD(backbone, **{**ON_8, **arguments})


def test_a_backbone_that_does_not_say_its_channels_is_an_error():
    with pytest.raises(AnoframeError, match="a backbone whose channels it knows"):
        UniAD(nn.Identity())
