"""Feature pyramid: features, levels, normalisation, fingerprints, precision and compilation."""

import copy

import pytest
import timm
import torch

from anoframe.backbones import FeaturePyramid, build_backbone, precision, timm_pyramid
from anoframe.backbones import weights as module
from anoframe.errors import AnoframeError
from anoframe.models.components.patch_embedding import PatchEmbedding
from anoframe.utils.tensor_files import fingerprint

SMALL = "test_resnet"
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def wide_resnet():
    return FeaturePyramid("wide_resnet50_2", (2, 3), "random")


@pytest.fixture(scope="module")
def small(weights_file):
    return FeaturePyramid(SMALL, (2, 3), str(weights_file))


def module_outputs(network, modules, pixels):
    """Return the outputs of named modules of a network, recorded by hooks."""
    outputs = {}
    for name in modules:
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    with torch.no_grad():
        network(pixels)
    return [outputs[name] for name in modules]


def network_input(pyramid, images):
    """Return the input of the network after normalisation."""
    inputs = []
    handle = pyramid.network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    pyramid(images)
    handle.remove()
    return inputs[0]


@pytest.mark.parametrize(("pixels", "fine", "coarse"), [(224, 28, 14), (256, 32, 16)])
def test_wide_resnet_50_2_features_have_the_shapes_of_the_paper(wide_resnet, pixels, fine, coarse):
    images = torch.zeros(5, 3, pixels, pixels, dtype=torch.uint8, device="meta")  # only shapes are computed
    levels = copy.deepcopy(wide_resnet).to("meta")(images)
    assert [tuple(level.shape) for level in levels] == [(5, 512, fine, fine), (5, 1024, coarse, coarse)]
    patches, _ = PatchEmbedding()(levels)
    assert patches.flatten(0, 1).shape == (5 * fine * fine, 1024)


def test_wide_resnet_50_2_has_only_the_parameters_of_its_first_three_layers(wide_resnet):
    assert sum(parameter.numel() for parameter in wide_resnet.network.parameters()) == 24_862_528
    assert not [name for name in wide_resnet.network.state_dict() if "layer4" in name or ".fc." in name]


def test_wide_resnet_50_2_has_the_expected_levels_channels_and_strides(wide_resnet):
    assert wide_resnet.levels == ("layer2", "layer3")
    assert wide_resnet.channels == (512, 1024)
    assert wide_resnet.strides == (8, 16)


def test_features_equal_those_of_the_full_network(small, full, images):
    pixels = (images / 255 - 0.5) / 0.5
    for level, expected in zip(small(images), module_outputs(full, small.levels, pixels), strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-5, atol=1e-6)  # another memory layout, other rounding


def test_features_of_an_efficientnet_equal_those_of_the_full_network(tmp_path, images):
    # its levels are stages, and two of them have several blocks: a wrong index would still give features
    torch.manual_seed(1)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    torch.save(network.state_dict(), tmp_path / "lite0.pth")
    pyramid = FeaturePyramid("tf_efficientnet_lite0", (2, 3), str(tmp_path / "lite0.pth"))
    assert pyramid.levels == ("blocks.2", "blocks.4")
    expected = module_outputs(network, pyramid.levels, (images / 255 - 0.5) / 0.5)
    for level, expected_level in zip(pyramid(images), expected, strict=True):
        assert torch.equal(level, expected_level)


def test_channels_and_strides_match_the_features(small, images):
    shapes = [tuple(level.shape) for level in small(images)]
    expected = [(2, c, 64 // s, 64 // s) for c, s in zip(small.channels, small.strides, strict=True)]
    assert shapes == expected


def test_train_keeps_eval_mode(weights_file):
    pyramid = FeaturePyramid(SMALL, (2, 3), str(weights_file))
    torch.nn.Sequential(pyramid).train(True)
    pyramid.train()
    assert not [name for name, layer in pyramid.named_modules() if layer.training]


def test_batch_norm_statistics_do_not_change(weights_file, images):
    pyramid = FeaturePyramid(SMALL, (2, 3), str(weights_file))
    before = {name: value.clone() for name, value in pyramid.network.state_dict().items()}
    assert [name for name in before if name.endswith("running_mean")]
    pyramid.train()(images)
    after = pyramid.network.state_dict()
    assert [name for name, value in after.items() if not torch.equal(value, before[name])] == []


def test_no_parameter_requires_a_gradient(small):
    assert not [name for name, parameter in small.network.named_parameters() if parameter.requires_grad]


def test_features_require_no_gradient(small, images):
    pixels = (images / 255).requires_grad_()
    assert not [level for level in small(pixels) if level.requires_grad]


def normalise(images, mean, std):
    return (images / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def test_wide_resnet_50_2_normalises_with_imagenet_mean_and_std(wide_resnet, images):
    assert torch.allclose(network_input(wide_resnet, images), normalise(images, *IMAGENET), atol=1e-6)


def test_efficientnet_lite0_normalises_to_minus_one_to_one(images):
    pyramid = FeaturePyramid("tf_efficientnet_lite0", (0,), "random")
    assert torch.allclose(network_input(pyramid, images), normalise(images, *HALF), atol=1e-6)


@pytest.fixture(scope="module")
def two_means(tmp_path_factory):
    """Weights file of a small network for which timm has weights with two different means."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.save(timm.create_model("mobilenetv4_conv_small").state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("tag", "weights", "mean_std"),
    [
        ("", "hub:e3600_r256_in1k", HALF),
        ("", "hub:e2400_r224_in1k", IMAGENET),
        (".e3600_r256_in1k", "default", HALF),
    ],
)
def test_mean_and_std_follow_the_tag_of_the_weights(tag, weights, mean_std, two_means, monkeypatch):
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: str(two_means))
    pyramid = FeaturePyramid(f"mobilenetv4_conv_small{tag}", (0,), weights)
    assert pyramid.mean.flatten().tolist() == pytest.approx(mean_std[0])
    assert pyramid.std.flatten().tolist() == pytest.approx(mean_std[1])


def test_uint8_and_float_images_give_equal_features(small, images):
    for a, b in zip(small(images), small(images / 255), strict=True):
        assert torch.equal(a, b)


def test_a_level_by_name_equals_the_level_by_index(small, weights_file, images):
    named = FeaturePyramid(SMALL, ("layer2", "layer3"), str(weights_file))
    assert named.levels == small.levels
    for a, b in zip(named(images), small(images), strict=True):
        assert torch.equal(a, b)


def test_levels_have_the_requested_order(small, weights_file, images):
    reversed_levels = FeaturePyramid(SMALL, (3, 2), str(weights_file))
    assert reversed_levels.levels == small.levels[::-1]
    assert reversed_levels.channels == small.channels[::-1]
    assert reversed_levels.strides == small.strides[::-1]
    for a, b in zip(reversed_levels(images), small(images)[::-1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("deepest", [1, 2, 3])
def test_the_network_ends_at_the_deepest_level(deepest, weights_file):
    pyramid = FeaturePyramid(SMALL, (1, deepest) if deepest > 1 else (1,), str(weights_file))
    layers = {name.split(".")[1] for name in pyramid.network.state_dict() if ".layer" in name}
    assert layers == {f"layer{i}" for i in range(1, deepest + 1)}


def test_the_fingerprint_covers_the_tensors_in_use(small):
    assert small.sha256 == fingerprint(small.network.state_dict())


def test_the_fingerprint_depends_on_the_levels(weights_file, small):
    assert FeaturePyramid(SMALL, (2,), str(weights_file)).sha256 != small.sha256


def test_equal_weights_have_equal_fingerprints(small, full, tmp_path):
    torch.save(full.state_dict(), tmp_path / "same.pth")
    assert FeaturePyramid(SMALL, (2, 3), str(tmp_path / "same.pth")).sha256 == small.sha256


def test_the_fingerprint_depends_on_every_weight(small, full, tmp_path):
    state = {name: value.clone() for name, value in full.state_dict().items()}
    state["layer2.0.conv1.weight"].view(-1)[3] += 1e-6
    torch.save(state, tmp_path / "other.pth")
    assert FeaturePyramid(SMALL, (2, 3), str(tmp_path / "other.pth")).sha256 != small.sha256


def test_describe_contains_weights_and_fingerprint(small, weights_file):
    network = {"name": SMALL, "levels": ["layer2", "layer3"], "weights": str(weights_file), "sha256": small.sha256}
    assert small.describe() == {**network, "precision": "float32"}


def test_random_weights_depend_on_their_seed_only():
    fingerprints = []
    for weights in ("random:3", "random:3", "random:4"):
        torch.rand(7)  # another state of the global generator each time
        fingerprints.append(FeaturePyramid(SMALL, (1,), weights).sha256)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_the_default_seed_of_random_weights_is_zero():
    random, zero = (FeaturePyramid(SMALL, (1,), weights).sha256 for weights in ("random", "random:0"))
    assert random == zero


def test_building_does_not_change_the_global_generator(weights_file):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    FeaturePyramid(SMALL, (1,), "random:3")
    FeaturePyramid(SMALL, (1,), str(weights_file))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_that_is_not_a_number_is_an_error():
    with pytest.raises(AnoframeError, match="random:abc"):
        FeaturePyramid(SMALL, (1,), "random:abc")


def test_error_of_an_unknown_model_suggests_a_name():
    with pytest.raises(AnoframeError, match=r"timm has no model 'wide_resnet50_3': did you mean 'wide_resnet50_2'"):
        FeaturePyramid("wide_resnet50_3", (2, 3), "random")


def test_a_model_without_levels_is_an_error(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("features_only not implemented")

    timm_pyramid._feature_info.cache_clear()
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(AnoframeError, match=r"'test_resnet' gives no feature levels \(features_only not"):
        FeaturePyramid(SMALL, (2, 3), "random")


@pytest.mark.parametrize("level", ["layer9", 7, -1])
def test_error_of_an_unknown_level_lists_the_levels(level):
    with pytest.raises(
        AnoframeError, match=rf"has no level {level!r}; it has .*2 or 'layer2' \(\d+ channels, stride 8"
    ):
        FeaturePyramid(SMALL, (2, level), "random")


@pytest.mark.parametrize("levels", [(), (2, 2), (2, "layer2")])
def test_error_of_no_or_repeated_levels_names_the_key(levels):
    with pytest.raises(AnoframeError, match=r"model\.backbone\.levels"):
        FeaturePyramid(SMALL, levels, "random")


def test_error_of_an_unknown_tag_suggests_a_tag():
    with pytest.raises(AnoframeError, match=r"no weights 'tv_in2k' for wide_resnet50_2: did you mean 'tv_in1k'"):
        FeaturePyramid("wide_resnet50_2", (2, 3), "hub:tv_in2k")


def test_error_of_an_unknown_argument_suggests_a_name():
    with pytest.raises(AnoframeError, match=r"model\.backbone takes no argument 'level': did you mean 'levels'"):
        build_backbone({"name": SMALL, "level": (2, 3)})


def test_the_architecture_is_not_built_again_for_its_levels(monkeypatch):
    FeaturePyramid(SMALL, (1,), "random")
    create_model, calls = timm.create_model, []
    monkeypatch.setattr(
        timm, "create_model", lambda *words, **more: calls.append(words) or create_model(*words, **more)
    )
    pyramid = FeaturePyramid(SMALL, (1,), "random")
    assert pyramid.level_names((2, 3)) == ("layer2", "layer3")
    assert calls == []
    assert pyramid.network is pyramid.network
    assert calls == [(SMALL,)]


def test_build_backbone_uses_all_keys_of_the_section():
    pyramid = build_backbone({"name": SMALL, "levels": (1, 2), "weights": "random:2"})
    assert pyramid.describe() == FeaturePyramid(SMALL, (1, 2), "random:2").describe()


# ------------------------------------------------------------------------------------------------ precision


def test_error_of_an_unknown_precision_lists_the_precisions():
    with pytest.raises(AnoframeError, match=r"model\.backbone\.precision is one of float32, bfloat16, got 'half'"):
        FeaturePyramid(SMALL, (1,), "random", precision="half")


def test_bfloat16_is_an_error_on_a_processor_without_it(weights_file, images, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    with pytest.raises(AnoframeError, match=r"--model\.backbone\.precision float32"):
        FeaturePyramid(SMALL, (1,), str(weights_file), precision="bfloat16")(images)


def test_bfloat16_gives_float32_features_close_to_float32(small, weights_file, images, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)  # emulated bfloat16 is slow but correct
    features = FeaturePyramid(SMALL, small.levels, str(weights_file), precision="bfloat16")(images)
    for low, full in zip(features, small(images), strict=True):
        assert low.dtype == torch.float32
        assert not torch.equal(low, full)
        assert float((low - full).norm() / full.norm()) < 0.05


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_features(weights_file, images):
    uncompiled = FeaturePyramid(SMALL, (1,), str(weights_file))
    features = FeaturePyramid(SMALL, (1,), str(weights_file), compile=True)(images)
    for compiled, expected in zip(features, uncompiled(images), strict=True):
        torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)


def test_error_of_a_network_that_does_not_compile_names_the_option(weights_file, images):
    pyramid = FeaturePyramid(SMALL, (1,), str(weights_file), compile=True)

    def fail(pixels):
        raise torch._dynamo.exc.TorchDynamoException("no compiler found")

    pyramid._compiled = fail
    with pytest.raises(AnoframeError, match=r"no compiler found.*--model\.backbone\.compile False"):
        pyramid(images)


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"compile": True}])
def test_settings_that_change_features_change_the_encoding(small, weights_file, change):
    assert FeaturePyramid(SMALL, small.levels, str(weights_file), **change).encoding() != small.encoding()


# ------------------------------------------------------------------------------------------------ signs of levels


@pytest.mark.parametrize(("name", "levels", "signed"), [
    ("test_resnet", (1, 2, 3), (False, False, False)),
    ("test_efficientnet", (1, 2), (True, True)),
    ("test_convnext", (0, 1), (True, True)),
    ("mobilenetv4_conv_small", (3, 2), (True, False)),
])  # fmt: skip
def test_levels_that_do_not_end_with_a_relu_are_signed(name, levels, signed):
    assert FeaturePyramid(name, levels, "random").signed == signed


def test_unsigned_levels_have_no_negative_value(small, images):
    assert small.signed == (False, False)
    assert all(bool((level >= 0).all()) for level in small(images))
