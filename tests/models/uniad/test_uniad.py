"""UniAD: published sizes, training, prediction, masks, memory, and errors."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from uniad_options import OPTIONS, all_equal, outputs

from anoframe.backbones import FeaturePyramid
from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.models.base import Phase, TrainingBatch
from anoframe.models.factory import build_detector
from anoframe.models.uniad.attention import neighbour_mask
from anoframe.models.uniad.model import UniAD, pooled_max
from anoframe.types import Sample

SMALL = {"width": 16, "heads": 2, "hidden": 32, "encoder_layers": 1, "decoder_layers": 2}
ON_8 = {"image_size": 32, "stride": 4, "window": 3, **SMALL}  # 8 x 8 tokens of the tiny backbone's 15 channels
B4 = (24, 32, 56, 160)  # channels of EfficientNet-b4 at strides 2, 4, 8 and 16


class Channels(nn.Module):
    """A backbone that has channels, but computes nothing."""

    def __init__(self, *channels):
        super().__init__()
        self.channels = channels


@pytest.fixture
def make(backbone):
    """Builds a small UniAD on the tiny backbone, in eval mode, always from the same seed."""

    def build(**changes):
        torch.manual_seed(0)
        return UniAD(backbone, **{**ON_8, **changes}).eval()

    return build


@pytest.fixture(scope="module")
def b4():
    """EfficientNet-b4 with four levels and random weights. Read only."""
    return FeaturePyramid("tf_efficientnet_b4", (0, 1, 2, 3), "random")


@pytest.fixture(scope="module")
def trained():
    """A detector trained without noise on `draw_features(trained, 8)`. Read only."""
    torch.manual_seed(0)
    options = {"width": 64, "hidden": 128, "decoder_layers": 1, "image_size": 24, "jitter": {"alpha": 0.0}}
    detector = UniAD(Channels(15), **{**ON_8, **options})
    train(detector, draw_features(detector, 8), 150, lr=3e-3)
    return detector


def make_batch(features):
    samples = tuple(Sample(f"{i}.png", "tiny", "train") for i in range(len(features)))
    return TrainingBatch(features, samples, torch.arange(len(features)))


def train(detector, features, steps, lr=1e-3):
    """Train the only phase with AdamW on all features at once, and return to eval mode."""
    (phase,) = detector.training_stages()
    optimiser = torch.optim.AdamW(phase.parameters.values(), lr)
    batch = make_batch(features)
    detector.train()
    for _ in range(steps):
        optimiser.zero_grad()
        sum(phase.loss(batch).values()).backward()
        optimiser.step()
    detector.eval()


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def draw_features(detector, count=2, seed=1):
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


def test_features_are_all_levels_on_the_coarsest_grid(b4):
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    features = UniAD(b4, **SMALL).encode(image)
    levels = zip(b4.strides, b4(image), strict=True)
    expected = [nn.UpsamplingBilinear2d(scale_factor=stride / 16)(level) for stride, level in levels]
    torch.testing.assert_close(features, torch.cat(expected, 1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 7_717_392), ({"image_size": 256}, 7_779_344), ({"memory": {"kind": "series"}}, 7_979_536)],
    ids=["published", "256", "series"],
)
def test_the_number_of_parameters_is_the_published_one(options, expected):
    assert num_parameters(UniAD(Channels(*B4), **options)) == expected


def test_the_backbone_has_the_published_size_and_is_frozen():
    pyramid = FeaturePyramid("tf_efficientnet_b4", (0, 1, 2, 3, 4), "random")
    assert num_parameters(pyramid) == 16_742_216
    assert not [name for name, parameter in pyramid.named_parameters() if parameter.requires_grad]


def test_the_published_config_builds_the_published_model():
    cfg = load_config("uniad/uniad_224.py", {"model.backbone.weights": "random"})
    detector = build_detector(to_plain(cfg.model))
    assert (detector.grid, num_parameters(detector.reconstruction)) == ((14, 14), 7_717_392)
    trainer = to_plain(cfg.trainer)
    optimizer, schedule = trainer["optimizer"], trainer["schedule"]
    assert (trainer["epochs"], trainer["batch_size"], trainer["clip"]) == (1000, 8, 0.1)
    assert (optimizer["name"], optimizer["lr"], optimizer["weight_decay"]) == ("adamw", 1e-4, 1e-4)
    assert (optimizer["decay_vectors"], tuple(optimizer["betas"])) == (True, (0.9, 0.999))
    assert (schedule["name"], schedule["decay_epochs"], schedule["decay_rate"]) == ("step", 800, 0.1)


def test_the_image_size_of_a_config_follows_the_crop():
    assert load_config("uniad/uniad_224.py", {"data.crop": "320"}).model.image_size == 320
    assert load_config("uniad/uniad_256.py").model.image_size == 256


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_an_effect(make, name):
    base = {"stride": 8, "window": 3, "encoder_layers": 2}  # differs from all tested values
    assert not all_equal(outputs(make(**base)), outputs(make(**{**base, name: OPTIONS[name]})))


def test_every_option_is_tested():
    assert OPTIONS.keys() == inspect.signature(UniAD).parameters.keys() - {"backbone"}


# ------------------------------------------------------------------------------------------------ training


def test_training_is_one_phase_on_all_images(make):
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
    sum(phase.loss(make_batch(draw_features(detector))).values()).backward()
    assert [name for name, parameter in phase.parameters.items() if not parameter.grad.abs().sum() > 0] == []


def test_the_loss_is_the_mean_squared_error_to_the_clean_features(make):
    detector = make()
    features, tokens = draw_features(detector), []
    detector.reconstruction.inward.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    detector.reconstruction.outward.register_forward_hook(lambda *arguments: tokens.append(arguments[2]))
    detector.train()
    loss = detector.losses(make_batch(features))
    clean = features.flatten(2).transpose(1, 2)
    noised, reconstructed = tokens
    assert not torch.allclose(noised, clean, atol=0.1)
    torch.testing.assert_close(loss, {"mse": (reconstructed - clean).square().mean()})


def test_eight_fixed_feature_maps_can_be_learned(trained):
    features = draw_features(trained, 8)
    assert F.mse_loss(trained.reconstruct(features), features) < 0.2 * features.var()


def test_noise_is_drawn_only_in_train_mode(make):
    detector = make(dropout=0.0)
    features, reconstructed = draw_features(detector), []
    for mode in (False, True):
        for seed in (0, 1):
            torch.manual_seed(seed)
            reconstructed.append(detector.train(mode).reconstruct(features))
    assert torch.equal(reconstructed[0], reconstructed[1])
    assert not torch.allclose(reconstructed[2], reconstructed[3], atol=1e-3)


@pytest.mark.parametrize("jitter", [{"alpha": 0.0}, {"p": 0.0}])
def test_without_noise_and_dropout_train_and_eval_mode_are_equal(make, jitter):
    features = draw_features(make())
    detector, other = make(dropout=0.0, jitter=jitter).train(), make(dropout=0.0, jitter={"alpha": 0.0}).train()
    assert torch.equal(detector.reconstruct(features), other.reconstruct(features))
    torch.testing.assert_close(detector.reconstruct(features), make().reconstruct(features))


def test_dropout_is_set_in_all_modules(make):
    rates = {module.p for module in make(dropout=0.3).modules() if isinstance(module, nn.Dropout)}
    attentions = {module.dropout for module in make(dropout=0.3).modules() if hasattr(module, "in_proj_weight")}
    assert rates == attentions == {0.3}


def test_the_loss_is_float32_under_autocast(make):
    detector = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert detector.losses(make_batch(draw_features(detector)))["mse"].dtype == torch.float32


def test_the_map_of_bfloat16_features_is_float32(make):
    detector = make()
    half = draw_features(detector).bfloat16()
    assert detector.distance(half, half + 1).dtype == torch.float32


def test_projections_are_initialised_xavier_uniform_with_zero_biases(make):
    reconstruction = make(width=64).reconstruction
    for layer in (reconstruction.inward, reconstruction.outward):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_the_seed_of_a_run_determines_the_initial_weights():
    section = {"name": "uniad", "backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}, **SMALL}
    states = [build_detector(section, seed).learned_state() for seed in (3, 3, 4)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_training_does_not_change_the_backbone(images_of):
    torch.manual_seed(0)
    detector = UniAD(FeaturePyramid("test_resnet", (1, 2), "random"), **ON_8)
    before = {name: value.clone() for name, value in detector.backbone.state_dict().items()}
    train(detector, detector.encode(images_of(0, 2)), 2)
    after = detector.backbone.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert not [name for name, parameter in detector.backbone.named_parameters() if parameter.grad is not None]


def test_training_is_repeatable_to_the_bit_with_deterministic_algorithms(make):
    torch.use_deterministic_algorithms(True)
    try:
        states = []
        for _ in range(2):
            detector = make(memory={"kind": "series", "topk": 5, "shrink": 0.01, "entropy": 0.1})
            train(detector, draw_features(detector, 4), 3)
            states.append(detector.learned_state())
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# ------------------------------------------------------------------------------------------------ prediction


class AddConstant(nn.Module):
    """In place of the trained network: returns the features plus a constant."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, features, context=None):
        return features + self.constant, None


def test_a_perfect_reconstruction_has_a_map_of_zeros(make):
    detector = make()
    features = draw_features(detector)
    detector.reconstruction = AddConstant(0.0)
    assert detector.losses(make_batch(features))["mse"] == 0
    prediction = detector.detect(features, (32, 32))
    assert not prediction.anomaly_map.any()
    assert not prediction.score.any()


def test_the_map_of_a_constant_error_is_its_norm_over_all_channels():
    detector = UniAD(Channels(*B4), **SMALL)
    features = draw_features(detector)
    detector.reconstruction = AddConstant(0.5)
    maps = detector.detect(features, (224, 224)).anomaly_map
    torch.testing.assert_close(maps, torch.full((2, 224, 224), 0.5 * 16.492), rtol=1e-4, atol=0)


def test_the_map_matches_its_definition(make):
    detector = make()
    features = draw_features(detector)
    norm = (detector.reconstruct(features) - features).square().sum(1, keepdim=True).sqrt()
    expected = F.interpolate(norm, (48, 40), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(detector.detect(features, (48, 40)).anomaly_map, expected.detach())


@torch.no_grad()
def test_corners_of_the_map_equal_the_corner_tokens(make):
    detector = make()
    features = draw_features(detector, 1)
    maps = detector.detect(features, (32, 32)).anomaly_map
    tokens = detector.distance(features, detector.reconstruct(features))
    corners = [0, 0, -1, -1], [0, -1, 0, -1]
    assert torch.equal(maps[0][corners], tokens[0][corners])


def test_the_score_pools_16_by_16_pixels(make):
    prediction = make().predict(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    expected = F.avg_pool2d(prediction.anomaly_map[:, None], 16, stride=1).flatten(1).amax(1)
    torch.testing.assert_close(prediction.score, expected)


@pytest.mark.parametrize("pixel", [(100, 60), (0, 0), (223, 223)])
def test_a_single_pixel_gives_a_score_of_a_256th_in_the_middle_and_at_the_border(pixel):
    maps = torch.zeros(2, 224, 224)
    maps[0][pixel] = 3.0
    pooled = F.avg_pool2d(maps[:, None], 16, stride=1)
    assert pooled.shape[2:] == (209, 209)
    assert pooled_max(maps).tolist() == [3 / 256, 0.0]


@pytest.mark.parametrize(
    ("kind", "reduce"), [("mean", lambda m: m.mean((1, 2))), ("std", lambda m: torch.tensor(m.numpy().std((1, 2))))]
)
def test_the_score_can_be_the_mean_or_the_deviation_of_the_map(make, images_of, kind, reduce):
    prediction = make(image_score=kind).predict(images_of(1, 3))
    torch.testing.assert_close(prediction.score, reduce(prediction.anomaly_map))


@pytest.mark.parametrize("kind", ["none", "series", "prototype"])
def test_a_result_does_not_depend_on_the_batch_to_the_bit(make, images_of, kind):
    detector = make(memory={"kind": kind})
    train(detector, detector.encode(images_of(0, 4)), 3)
    images = images_of(1, 3)
    together, alone = detector.predict(images), [detector.predict(image) for image in images.split(1)]
    assert torch.equal(together.anomaly_map, torch.cat([prediction.anomaly_map for prediction in alone]))
    assert torch.equal(together.score, torch.cat([prediction.score for prediction in alone]))


def test_on_a_cpu_each_image_is_computed_alone(make):
    """Kernels may be chosen by the batch size, also on other machines than this one."""
    detector, sizes = make(), []
    detector.reconstruction.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    detector.detect(draw_features(detector, 3), (32, 32))
    assert sizes == [1, 1, 1]


def test_features_of_an_image_do_not_depend_on_the_batch_to_the_bit(b4):
    detector = UniAD(b4, **SMALL)
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    assert torch.equal(detector.encode(images), torch.cat([detector.encode(image) for image in images.split(1)]))


def test_results_are_in_the_order_of_the_images(make, images_of):
    detector, images = make(), images_of(1, 3)
    before, after = detector.predict(images), detector.predict(images[[2, 0, 1]])
    assert torch.equal(after.anomaly_map, before.anomaly_map[[2, 0, 1]])
    assert torch.equal(after.score, before.score[[2, 0, 1]])


def test_equal_images_have_equal_maps(make, images_of):
    maps = make().predict(images_of(1, 1).repeat(2, 1, 1, 1)).anomaly_map
    assert torch.equal(maps[0], maps[1])


def test_the_reconstruction_of_a_batch_equals_that_of_its_images(make):
    detector = make()
    features = draw_features(detector, 3)
    each = torch.cat([detector.reconstruct(image) for image in features.split(1)])
    torch.testing.assert_close(detector.reconstruct(features), each)


def test_trained_features_are_less_anomalous_than_others(trained):
    features = torch.cat([draw_features(trained, 8), draw_features(trained, 4, seed=2)])
    maps = trained.detect(features, (24, 24)).anomaly_map.mean((1, 2))
    assert maps[:8].max() < 0.8 * maps[8:].min()


def test_detection_in_train_mode_returns_to_train_mode(make, images_of):
    detector = make().train()
    detector.predict(images_of(0, 2))
    assert detector.reconstruction.training


# ------------------------------------------------------------------------------------------------ masks


def influence(detector, row, column):
    """Size of the derivative of the reconstruction at a position with respect to the features, `[h, w]`."""
    features = draw_features(detector, 1).requires_grad_()
    detector.reconstruct(features)[0, :, row, column].sum().backward()
    return features.grad[0].abs().sum(0)


def test_a_position_is_reconstructed_only_from_outside_of_its_window(make):
    derivative = influence(make(encoder_layers=0, decoder_layers=1), 4, 4).flatten()
    blocked = neighbour_mask(8, 8, 3)[4 * 8 + 4]
    assert derivative[blocked].tolist() == [0.0] * 9
    assert (derivative[~blocked] > 0).any()


@pytest.mark.parametrize(
    "off", [("mask_first",), ("mask_second",), ("mask_first", "mask_second")], ids=lambda names: " ".join(names)
)
def test_each_mask_of_the_decoder_can_be_off(make, off):
    detector = make(encoder_layers=0, decoder_layers=1, **dict.fromkeys(off, False))
    assert influence(detector, 4, 4)[4, 4] > 0


@pytest.mark.parametrize("option", ["mask_encoder", "mask_first", "mask_second"])
def test_an_option_turns_off_the_mask_of_its_own_attention(make, option):
    """Tested in the second decoder layer: both attentions of the first attend to the same tokens."""
    detector, is_masked = make(**{option: False}), {}
    transformer = detector.reconstruction.transformer
    encoder, decoder = transformer.encoder[0], transformer.decoder[1]
    attentions = {"mask_encoder": encoder.attention, "mask_first": decoder.first, "mask_second": decoder.second}
    for name, module in attentions.items():
        module.register_forward_pre_hook(lambda _, args, name=name: is_masked.update({name: args[3] is not None}))
    detector.reconstruct(draw_features(detector))
    assert is_masked == {name: name != option for name in attentions}


def test_the_mask_of_the_encoder_can_be_off(make):
    features = draw_features(make())
    assert not torch.allclose(make(mask_encoder=False).reconstruct(features), make().reconstruct(features), atol=1e-4)


def test_rows_and_columns_keep_their_order(make):
    """Positions, windows and tokens use the same axis order on a grid that is not square."""
    unseen = influence(make(image_size=(32, 48), encoder_layers=0, decoder_layers=1), 2, 9) == 0
    assert unseen.nonzero().tolist() == [[row, column] for row in (1, 2, 3) for column in (8, 9, 10)]


# ------------------------------------------------------------------------------------------------ memory


def test_memory_kind_none_equals_uniad_to_the_bit(make):
    features = draw_features(make())
    assert torch.equal(make(memory={"kind": "none"}).reconstruct(features), make().reconstruct(features))


def test_a_memory_that_returns_its_input_equals_uniad_to_the_bit(make):
    detector, without_memory = make(memory={"kind": "series"}), make()
    weights = {name: value for name, value in detector.learned_state().items() if ".memory." not in name}
    without_memory.load_learned_state(weights)
    detector.reconstruction.memory.forward = lambda tokens: (tokens, None)
    features = draw_features(detector)
    assert torch.equal(detector.reconstruct(features), without_memory.reconstruct(features))


def test_with_one_slot_the_reconstruction_does_not_depend_on_the_image(make):
    detector = make(memory={"kind": "series", "slots": 1})
    first, second = detector.reconstruct(draw_features(detector))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kind", ["series", "prototype"])
def test_the_order_of_slots_does_not_matter(make, kind):
    detector = make(memory={"kind": kind, "slots": 10})
    features = draw_features(detector)
    before = detector.reconstruct(features)
    with torch.no_grad():
        slots = detector.reconstruction.memory.slots
        slots.copy_(slots[torch.randperm(10)])
    torch.testing.assert_close(detector.reconstruct(features), before)


def test_the_prototype_bypasses_its_memory(make):
    detector = make(memory={"kind": "prototype", "slots": 1})
    first, second = detector.reconstruct(draw_features(detector))
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_prototype_has_no_masks_no_queries_and_normalised_tokens(make):
    detector = make(memory={"kind": "prototype"})
    inputs = []
    detector.reconstruction.transformer.encoder[0].register_forward_pre_hook(lambda _, args: inputs.append(args))
    detector.reconstruct(draw_features(detector))
    tokens, _, mask = inputs[0]
    assert mask is None
    assert not [name for name in detector.learned_state() if "query" in name and ".memory." not in name]
    torch.testing.assert_close(tokens.mean(2), torch.zeros(2, 64), rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.var(2, correction=0), torch.ones(2, 64), rtol=1e-3, atol=0)


def test_the_prototype_compares_features_after_a_sigmoid(make):
    detector = make(memory={"kind": "prototype"})
    features = draw_features(detector)
    reconstructed = detector.reconstruct(features)
    error = reconstructed.sigmoid() - features.sigmoid()
    torch.testing.assert_close(detector.losses(make_batch(features)), {"mse": error.square().mean()})
    torch.testing.assert_close(detector.distance(features, reconstructed), error.square().sum(1).sqrt())


def test_the_weighted_entropy_of_the_memory_is_part_of_the_loss(make):
    detector = make(memory={"kind": "series", "slots": 10, "entropy": 0.5})
    features = draw_features(detector)
    _, weights = detector.reconstruction(features)
    expected = -0.5 * (weights * weights.log()).sum(-1).mean()
    torch.testing.assert_close(detector.losses(make_batch(features))["entropy"], expected)


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"shrink": 0.05}])
def test_memory_options_are_passed_on(make, options):
    memory = make(memory={"kind": "series", "slots": 10, **options}).reconstruction.memory
    assert (len(memory.slots), memory.topk, memory.shrink) == (10, options.get("topk"), options.get("shrink", 0.0))


# ------------------------------------------------------------------------------------------------ feature cache


def test_encodings_differ_by_grid_and_backbone(b4):
    detectors = [UniAD(b4, **SMALL), UniAD(b4, image_size=256, **SMALL), UniAD(b4, stride=32, **{**SMALL, "window": 3})]
    detectors.append(UniAD(FeaturePyramid("tf_efficientnet_b4", (1, 2, 3), "random"), **SMALL))
    encodings = [detector.encoding() for detector in detectors]
    assert all(first != second for i, first in enumerate(encodings) for second in encodings[:i])
    assert encodings[0] == UniAD(b4, mask_first=False, position="sine", **SMALL).encoding()


def test_a_backbone_without_encoding_is_not_cached(make):
    assert make().encoding() is None


def test_encoding_and_features_are_defined_by_the_same_class():
    """The cache identifies features by the class that extracts them and by its `encoding`."""
    assert {"encoding", "extract_features"} <= vars(UniAD).keys()


# ------------------------------------------------------------------------------------------------ errors


def test_images_of_another_size_raise_an_error(make, images_of):
    with pytest.raises(AnoframeError, match=r"built for images of 32 x 32 pixels .*data\.crop.*, got 32 x 48: crop"):
        make().predict(images_of(0, 1, (32, 48)))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"image_size": 34}, r"multiples of model\.stride = 4, got 34"),
    ({"image_size": 8}, r"at least 16 pixels"),
    ({"stride": 0}, r"model\.stride must be at least 1, got 0"),
    ({"window": 9}, r"model\.window 9 masks all 8 x 8 tokens for a token in the middle"),
    ({"image_score": "median"}, r"model\.image_score must be one of max, mean, std, got 'median'"),
    ({"jitter": {"alhpa": 1.0}}, r"model\.jitter.*'alhpa': did you mean 'alpha'"),
    ({"memory": {"kind": "parallel"}}, r"model\.memory\.kind must be one of none, series, prototype, got 'parallel'"),
    ({"memory": {"entropy": -1.0}}, r"model\.memory\.entropy must be 0 or more, got -1\.0"),
    ({"memory": {"slot": 3}}, r"model\.memory.*'slot': did you mean 'slots'"),
])  # fmt: skip
def test_an_invalid_option_raises_an_error_with_its_key(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        UniAD(backbone, **{**ON_8, **arguments})


def test_a_backbone_without_channels_raises_an_error():
    with pytest.raises(AnoframeError, match=r"a backbone with an attribute `channels`.* Identity has none"):
        UniAD(nn.Identity())
