"""CLIP backbones as a whole: construction from a config, shared weights, provenance, and the model of WinCLIP."""

import subprocess
import sys

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from anoframe.backbones import FeaturePyramid, build_backbone
from anoframe.backbones.clip import ClipEncoder, encoder, sharing
from anoframe.errors import AnoframeError

WITHOUT_OPEN_CLIP = """
import sys
from anoframe.backbones import build_backbone
build_backbone({"name": "test_resnet", "levels": [1], "weights": "random"})
assert "open_clip" not in sys.modules
"""


@pytest.fixture(autouse=True)
def empty_memory():
    """Forget the encoder of earlier tests."""
    sharing._build.cache_clear()


@pytest.fixture
def section(clip_file):
    return {"name": "open_clip:tiny", "weights": str(clip_file)}


@pytest.fixture
def builds(monkeypatch):
    """Sources that a model was built from."""
    sources, build = [], encoder.build_model
    monkeypatch.setattr(encoder, "build_model", lambda name, source: sources.append(source) or build(name, source))
    return sources


# ------------------------------------------------------------------------------------------------ construction


def test_the_name_decides_on_the_kind_of_backbone(section):
    clip, pyramid = build_backbone(section), build_backbone({"name": "test_resnet", "levels": [1], "weights": "random"})
    assert isinstance(clip, ClipEncoder)
    assert isinstance(pyramid, FeaturePyramid)
    assert (clip.has_text, pyramid.has_text) == (True, False)


def test_timm_backbones_do_not_import_open_clip():
    subprocess.run([sys.executable, "-c", WITHOUT_OPEN_CLIP], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "weights takes text, got None"),
        ({"levels": [1]}, "an open_clip model takes no argument 'levels'"),
        ({"precision": "float16"}, r"precision is one of float32, bfloat16, got 'float16'"),
        ({"compile": True}, r"--model\.backbone\.compile False"),
        ({"name": "open_clip:tinny"}, "open_clip has no model 'tinny': did you mean 'tiny'"),
        ({"name": "open_clip:"}, "open_clip has no model ''"),
        ({"weights": ""}, r"model\.backbone\.weights is required"),
    ],
)
def test_a_wrong_section_is_an_error(section, change, message):
    with pytest.raises(AnoframeError, match=message):
        build_backbone({**section, **change})


def test_attributes_describe_the_model(section):
    clip = build_backbone(section)
    assert (clip.image_size, clip.embed_dim, clip.width, clip.grid) == (32, 20, 48, (4, 4))
    assert clip.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def test_the_encoder_is_frozen(section, clip_images):
    clip = build_backbone(section).train()
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert not any(value.requires_grad for value in (clip(clip_images), clip.encode_text(["a"])))


def test_provenance_names_model_weights_and_versions(section):
    clip = build_backbone(section)
    assert clip.describe() == {
        "name": "open_clip:tiny",
        "weights": section["weights"],
        "sha256": clip.sha256,
        "precision": "float32",
        "quick_gelu": False,
        "open_clip": open_clip.__version__,
    }
    assert "weights" not in clip.encoding()
    assert {"name", "sha256", "mean", "std", "precision", "quick_gelu", "open_clip"} == clip.encoding().keys()


# ------------------------------------------------------------------------------------------------ shared weights


def addresses(module):
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]


def test_equal_sections_build_once_and_share_memory(section, builds, clip_images):
    first, second = build_backbone(section), build_backbone(dict(reversed(section.items())))
    assert len(builds) == 1
    assert first is not second
    assert addresses(first) == addresses(second)
    assert torch.equal(first(clip_images), second(clip_images))
    assert first.describe() == second.describe()


@pytest.mark.parametrize(
    "change", [{"weights": "random:1"}, {"precision": "bfloat16"}, {"name": "open_clip:tiny-quickgelu"}]
)
def test_other_sections_build_again(section, builds, change):
    first, second = build_backbone(section), build_backbone({**section, **change})
    assert len(builds) == 2
    assert first.describe() != second.describe()


def test_a_changed_file_is_read_again(clip_state, tmp_path, builds):
    path = tmp_path / "w.safetensors"
    save_file(clip_state, path)
    first = build_backbone({"name": "open_clip:tiny", "weights": str(path)})
    save_file({**clip_state, "visual.proj": clip_state["visual.proj"] + 1}, tmp_path / "new")
    (tmp_path / "new").replace(path)
    assert build_backbone({"name": "open_clip:tiny", "weights": str(path)}).sha256 != first.sha256


def test_conversion_of_one_encoder_does_not_change_another(section, clip_images):
    first, second = build_backbone(section), build_backbone(section)
    expected = first(clip_images)
    second.double()
    assert second.network.visual.proj.dtype == torch.float64
    second.to("meta")
    assert torch.equal(first(clip_images), expected)
    assert torch.equal(build_backbone(section)(clip_images), expected)


def test_shared_encoders_share_text_features(section, monkeypatch, tmp_path):
    monkeypatch.setenv("ANOFRAME_CACHE", str(tmp_path))
    first, second = build_backbone(section), build_backbone(section)
    features = first.encode_text_raw(["a photo"])
    monkeypatch.setattr(second.text_features, "_read_or_compute", None)
    assert torch.equal(second.encode_text_raw(["a photo"]), features)


def test_changed_features_do_not_change_the_memory(section):
    clip = build_backbone(section)
    features = clip.encode_text_raw(["a photo"])
    expected = features.clone()
    features.zero_()
    assert torch.equal(clip.encode_text_raw(["a photo"]), expected)


# ------------------------------------------------------------------------------------------------ the model of WinCLIP


@pytest.mark.slow
def test_the_model_of_winclip_has_its_published_size_and_shapes():
    clip = build_backbone({"name": "open_clip:ViT-B-16-plus-240", "weights": "random"})
    assert sum(parameter.numel() for parameter in clip.parameters()) == 208_377_345
    assert sum(parameter.numel() for parameter in clip.network.visual.parameters()) == 117_213_824
    assert (clip.image_size, clip.embed_dim, clip.width, clip.grid) == (240, 640, 896, (15, 15))
    images = torch.rand(2, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    tokens = clip.image_tokens(images)
    assert (tokens.embedding.shape, tokens.patches.shape) == ((2, 640), (2, 225, 896))
    grid = torch.arange(225).view(15, 15)
    for size, count in ((2, 196), (3, 169)):
        windows = grid.unfold(0, size, 1).unfold(1, size, 1).reshape(-1, size**2)
        assert clip.encode_windows(tokens.sequence[:1], windows).shape == (1, count, 640)
    whole = clip.encode_windows(tokens.sequence, grid.view(1, -1))
    torch.testing.assert_close(whole[:, 0], tokens.embedding, atol=1e-4, rtol=0)
