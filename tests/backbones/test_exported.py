"""Exported encoders: the same features as before the export, and errors for everything that does not fit."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from anoframe.backbones import build_backbone
from anoframe.backbones.encoder import Encoder, expected_shapes
from anoframe.backbones.exported import load_encoder, read_export, write_export
from anoframe.errors import AnoframeError
from anoframe.models.factory import build_detector

FACTS = {"method": "simclr", "epochs": "3", "data": "0123"}
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make_encoder(architecture="test_resnet", stem="imagenet"):
    """An encoder with statistics and weights that no initialisation has."""
    torch.manual_seed(3)
    encoder = Encoder(architecture, stem=stem, mean=MEAN, std=STD)
    encoder(IMAGES.float() / 255)  # moves the running statistics
    return encoder.eval()


@pytest.fixture
def exported(tmp_path):
    encoder = make_encoder()
    write_export(tmp_path / "encoder.safetensors", encoder, 64, FACTS)
    return encoder, tmp_path / "encoder.safetensors"


def rewrite(path, change, metadata=None):
    """Write a file again with changed tensors and metadata."""
    with safe_open(path, "pt") as file:
        before = file.metadata()
    save_file(change(load_file(path)), path, before | (metadata or {}))


def maps_of(encoder, levels, images):
    outputs = []
    handles = [
        encoder.network.get_submodule(name).register_forward_hook(lambda *hook: outputs.append(hook[2]))
        for name in levels
    ]
    with torch.no_grad():
        encoder(images)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("architecture", ["test_resnet", "resnet18"])
def test_features_are_those_before_the_export(architecture, stem, tmp_path):
    """S8."""
    encoder = make_encoder(architecture, stem)
    write_export(tmp_path / "encoder.safetensors", encoder, 64, FACTS)
    pyramid = build_backbone({"name": f"exported:{tmp_path / 'encoder.safetensors'}", "levels": (2, 3)})
    expected = maps_of(encoder, pyramid.levels, IMAGES)
    for before, after in zip(expected, pyramid(IMAGES), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)  # the pyramid computes in channels_last
    pyramid.network.to(memory_format=torch.contiguous_format)
    same = pyramid.network(pyramid.normalise(IMAGES))
    for before, after in zip(expected, same, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize(("stem", "strides"), [("imagenet", (8, 16)), ("small", (2, 4))])
def test_strides_follow_from_the_stem(stem, strides, tmp_path):
    write_export(tmp_path / "encoder.safetensors", make_encoder("resnet18", stem), 32, FACTS)
    pyramid = build_backbone({"name": f"exported:{tmp_path}", "levels": (2, 3)})
    assert pyramid.strides == strides
    assert [tuple(level.shape[-2:]) for level in pyramid(IMAGES)] == [(64 // s, 64 // s) for s in strides]


def test_the_whole_encoder_is_loaded_frozen(exported):
    encoder, path = exported
    loaded = load_encoder(read_export(path))
    assert torch.equal(loaded(IMAGES), encoder(IMAGES))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


def test_description_has_the_tensor_count_and_how_it_was_trained(exported):
    _, path = exported
    pyramid = build_backbone({"name": f"exported:{path}", "levels": (2,)})
    description = pyramid.describe()
    assert description["tensors"] == len(expected_shapes("test_resnet"))
    assert {key: description[key] for key in FACTS} == FACTS
    assert description["weights"] == "exported"
    assert pyramid.mean.flatten().tolist() == pytest.approx(MEAN)
    assert pyramid.std.flatten().tolist() == pytest.approx(STD)


def test_resnet_18_has_120_tensors_without_its_classifier():
    assert len(expected_shapes("resnet18")) == 120
    assert not [name for name in expected_shapes("resnet18") if name.startswith("fc")]


def test_encoding_does_not_depend_on_the_path(exported, tmp_path):
    _, path = exported
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    encodings = [build_backbone({"name": f"exported:{file}", "levels": (2,)}).encoding() for file in (path, copy)]
    assert encodings[0] == encodings[1]


CHANGES = {
    "1 missing": lambda state: {name: value for name, value in state.items() if name != "conv1.0.weight"},
    "missing": lambda state: {f"encoder.{name}": value for name, value in state.items()},
    "of another shape": lambda state: state | {"conv1.0.weight": torch.zeros(1, 3, 3, 3)},
    "unknown": lambda state: state | {"fc.weight": torch.zeros(3)},
}


@pytest.mark.parametrize(("message", "change"), CHANGES.items(), ids=CHANGES)
def test_a_file_that_does_not_fit_is_an_error(exported, message, change):
    _, path = exported
    rewrite(path, change)
    with pytest.raises(AnoframeError, match=message):
        build_backbone({"name": f"exported:{path}", "levels": (2,)})


def test_another_architecture_in_the_metadata_is_an_error(exported):
    _, path = exported
    rewrite(path, lambda state: state, {"architecture": "resnet18"})
    with pytest.raises(AnoframeError, match=r"is no resnet18 .* 120 tensors"):
        read_export(path)


def test_names_of_a_data_parallel_module_are_accepted(exported):
    encoder, path = exported
    rewrite(path, lambda state: {f"module.{name}": value for name, value in state.items()})
    assert torch.equal(load_encoder(read_export(path))(IMAGES), encoder(IMAGES))


def test_plain_weights_are_no_export(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(AnoframeError, match=r"lack format.*model\.backbone\.weights PATH"):
        read_export(tmp_path / "plain.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnoframeError, match=r"no weights file .*none\.safetensors"):
        build_backbone({"name": f"exported:{tmp_path / 'none.safetensors'}", "levels": (2,)})


def test_an_export_takes_no_other_weights(exported):
    with pytest.raises(AnoframeError, match="brings its own weights"):
        build_backbone({"name": f"exported:{exported[1]}", "levels": (2,), "weights": "random"})


def test_the_teacher_stays_in_eval_mode(exported):
    """S9."""
    _, path = exported
    section = {"name": "rd4ad", "backbone": {"name": f"exported:{path}", "levels": (1, 2, 3), "weights": "default"}}
    detector = build_detector(section).train()
    before = {name: value.clone() for name, value in detector.backbone.state_dict().items()}
    for _ in range(3):
        detector.train()
        detector.backbone.train(True)
        detector.backbone(IMAGES)
    assert not any(module.training for module in detector.backbone.modules())
    assert not any(parameter.requires_grad for parameter in detector.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in detector.backbone.state_dict().items())


@pytest.mark.parametrize("method", ["patchcore", "rd4ad", "cdo"])
def test_detectors_take_an_exported_encoder(exported, method, monkeypatch):
    if method == "cdo":
        pytest.importorskip("anoframe.data.synthesis")
    section = {"name": method, "backbone": {"name": f"exported:{exported[1]}", "levels": (1, 2, 3)}}
    if method == "cdo":
        section["synthesis"] = {"name": "cdo"}
    detector = build_detector(section)
    levels = detector.backbone(IMAGES)
    assert [level.shape[1] for level in levels] == list(detector.backbone.channels)
