"""Sources of CLIP weights: tags, files and random weights; what is missing, wrong or of another activation."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from anoframe.backbones import weights as timm_weights
from anoframe.backbones.clip import ClipEncoder
from anoframe.backbones.clip import weights as module
from anoframe.backbones.clip.weights import find_source, load_state, normalisation
from anoframe.errors import AnoframeError

PLUS = "ViT-B-16-plus-240"
REPOSITORY = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"
RELEASE = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/"


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """No hub and empty caches; return hub files, (repository, name) -> path, to which a test may add."""
    files = {}
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repository, name: files.get((repository, name)))
    monkeypatch.setattr(module, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(timm_weights, "is_hub_reachable", lambda: False)
    return files


def build(weights, name="tiny", **more):
    return ClipEncoder(f"open_clip:{name}", str(weights), **more)


def same_weights(encoder, state):
    loaded = encoder.network.state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


# ------------------------------------------------------------------------------------------------ tags


def test_a_tag_is_read_from_the_cache_of_the_hub(hub, tiny_clip, clip_file, clip_state, monkeypatch):
    tag = {"hf_hub": "someone/tiny/", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"demo_e31": tag})
    hub["someone/tiny", "open_clip_model.safetensors"] = str(clip_file)
    for weights in ("demo_e31", "hub:demo_e31", "demo-E31"):
        encoder = build(weights)
        assert encoder.weights == "demo_e31"
        assert same_weights(encoder, clip_state)
        assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert encoder.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_the_safetensors_file_of_the_hub_is_preferred(hub):
    hub[REPOSITORY, "open_clip_pytorch_model.bin"] = "old.bin"
    assert find_source(PLUS, "laion400m_e31").path == Path("old.bin")
    hub[REPOSITORY, "open_clip_model.safetensors"] = "new.safetensors"
    assert find_source(PLUS, "laion400m_e31").path == Path("new.safetensors")


def test_a_tag_with_a_file_name_uses_that_file(hub):
    hub["jienengchen/ViTamin-S", "pytorch_model.bin"] = "vitamin.bin"
    assert find_source("ViTamin-S", "datacomp1b").path == Path("vitamin.bin")


def test_a_downloaded_file_is_used_if_its_hash_is_that_of_its_name(tmp_path):
    path = tmp_path / "downloads" / "vit_b_16_plus_240-laion400m_e31-8fb26589.pt"
    path.parent.mkdir()
    path.write_bytes(b"half of a download")
    with pytest.raises(AnoframeError, match=r"8fb26589\.pt is damaged: its SHA-256 does not start with 8fb26589"):
        find_source(PLUS, "laion400m_e31")


def test_a_missing_tag_names_model_tag_origin_and_places():
    with pytest.raises(AnoframeError) as error:
        find_source(PLUS, "laion400m_e31")
    for words in (
        f"no weights 'laion400m_e31' for backbone 'open_clip:{PLUS}': the hub does not answer",
        f"open_clip_model.safetensors of https://huggingface.co/{REPOSITORY}",
        "--model.backbone.weights PATH",
        f"{RELEASE}vit_b_16_plus_240-laion400m_e31-8fb26589.pt, in",
        "--model.backbone.weights random",
    ):
        assert words in str(error.value)


def test_a_tag_is_downloaded_if_the_hub_answers(monkeypatch, tiny_clip, clip_file, clip_state):
    tag = {"hf_hub": "someone/tiny/", "url": "https://example.org/tiny-0.pt"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"demo": tag})
    monkeypatch.setattr(timm_weights, "is_hub_reachable", lambda: True)
    monkeypatch.setattr(
        open_clip.pretrained, "download_pretrained", lambda given: str(clip_file) if given == tag else ""
    )
    assert same_weights(build("demo"), clip_state)


def test_a_failed_download_is_an_error_that_says_why(monkeypatch):
    def fail(tag):
        raise FileNotFoundError("404 Client Error\nmore")

    monkeypatch.setattr(timm_weights, "is_hub_reachable", lambda: True)
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", fail)
    with pytest.raises(AnoframeError, match=r"'laion400m_e32' .*: the download failed: 404 Client Error. Ways out"):
        load_state(PLUS, find_source(PLUS, "laion400m_e32"))


@pytest.mark.parametrize("weights", ["laion400m", "hub:laion400m", "default", "package:clip"])
def test_an_unknown_tag_is_an_error_that_lists_the_tags(weights):
    with pytest.raises(AnoframeError, match="Known: laion400m_e31, laion400m_e32"):
        find_source(PLUS, weights)


def test_no_weights_are_an_error_that_lists_the_tags(tiny_clip):
    with pytest.raises(AnoframeError, match=r"weights is required .* Tags: laion400m_e31, laion400m_e32"):
        build("", PLUS)


def test_an_unknown_model_is_an_error_with_a_suggestion():
    with pytest.raises(AnoframeError, match="no model 'ViT-B-16-plus240': did you mean 'ViT-B-16-plus-240'"):
        build("random", "ViT-B-16-plus240")


# ------------------------------------------------------------------------------------------------ activation


@pytest.mark.parametrize(
    ("name", "tag", "right"),
    [
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("ViT-B-16", "hub:openai", "ViT-B-16-quickgelu"),
        ("RN50", "yfcc15m", "RN50-quickgelu"),
        ("ViT-B-16-quickgelu", "laion400m_e31", "ViT-B-16"),
        ("ViT-L-14-336-quickgelu", "openai", None),
        ("ViT-B-16", "laion2b_s34b_b88k", None),
    ],
)
def test_a_tag_of_the_other_activation_is_an_error_that_names_the_right_model(monkeypatch, name, tag, right):
    monkeypatch.setattr(timm_weights, "is_hub_reachable", lambda: True)
    if right is None:
        assert find_source(name, tag).label == tag
        return
    with pytest.raises(AnoframeError, match=f"trained with .*GELU, but .*--model.backbone.name open_clip:{right}$"):
        find_source(name, tag)


def test_every_pair_of_open_clip_is_accepted_or_an_error_with_a_model_that_accepts_its_tag(monkeypatch):
    monkeypatch.setattr(timm_weights, "is_hub_reachable", lambda: True)
    pairs = [(name, tag) for name, tag in open_clip.list_pretrained() if name in open_clip.list_models()]
    assert len(pairs) > 150
    for name, tag in pairs:
        model, described = (
            settings.get("quick_gelu", False)
            for settings in (open_clip.get_model_config(name), open_clip.pretrained.get_pretrained_cfg(name, tag))
        )
        if model == described:
            assert find_source(name, tag).label == tag
            continue
        with pytest.raises(AnoframeError) as error:
            find_source(name, tag)
        right = str(error.value).rpartition("open_clip:")[2]
        assert "use other weights" in str(error.value) or find_source(right, tag).label == tag


def test_the_activation_of_a_file_is_that_of_the_model_and_is_stated(clip_file, clip_images):
    plain, quick = build(clip_file), build(clip_file, "tiny-quickgelu")
    assert (plain.describe()["quick_gelu"], quick.describe()["quick_gelu"]) == (False, True)
    assert plain.sha256 == quick.sha256
    assert not torch.equal(plain(clip_images), quick(clip_images))


# ------------------------------------------------------------------------------------------------ files


def test_files_with_prefixes_other_containers_and_half_precision_are_read(clip_state, tmp_path):
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in clip_state.items()}}, tmp_path / "a.pt"
    )
    assert same_weights(build(tmp_path / "a.pt"), clip_state)
    half = {key: value.half() for key, value in clip_state.items()}
    save_file(
        {**half, "input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}, tmp_path / "b.safetensors"
    )
    encoder = build(tmp_path / "b.safetensors")
    assert {value.dtype for value in encoder.network.state_dict().values()} == {torch.float32}
    assert same_weights(encoder, {key: value.float() for key, value in half.items()})


def test_a_file_in_the_plain_form_fits_a_model_with_a_text_tower_of_its_own(tiny_clip, clip_images, tmp_path):
    own = build("random:2", "tiny-other").network.state_dict()
    plain = {key.removeprefix("text."): value for key, value in own.items()}
    plain["logit_scale"] = plain["logit_scale"].reshape(1)
    save_file(plain, tmp_path / "plain.safetensors")
    assert same_weights(build(tmp_path / "plain.safetensors", "tiny-other"), own)


def test_a_file_of_another_architecture_is_an_error_with_counts_and_shapes(clip_file, clip_state):
    count = len(open_clip.model.CLIP(**open_clip.get_model_config("tiny-one-block")).state_dict())
    with pytest.raises(AnoframeError) as error:
        build(clip_file, "tiny-one-block")
    assert f"{len(clip_state) - count} of the file's {len(clip_state)} tensors are not in the model" in str(error.value)
    with pytest.raises(AnoframeError) as error:
        build(clip_file, "tiny-resnet")
    assert "tensors are missing, first 'visual." in str(error.value)
    assert "'text_projection': 32x20 instead of 32x16" in str(error.value)


def test_a_missing_tensor_is_an_error(clip_state, tmp_path):
    save_file({key: value for key, value in clip_state.items() if key != "visual.proj"}, tmp_path / "w.safetensors")
    with pytest.raises(
        AnoframeError, match=f"1 of the model's {len(clip_state)} tensors are missing, first 'visual.proj'"
    ):
        build(tmp_path / "w.safetensors")


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_a_torchscript_archive_is_not_loaded_and_the_error_converts_it(clip_state, tmp_path):
    class Archive(torch.nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return value

    torch.jit.script(Archive()).save(tmp_path / "ViT-B-16.pt")
    with pytest.raises(AnoframeError, match=r"ViT-B-16\.pt is a TorchScript archive.*\n.*torch\.jit\.load") as error:
        build(tmp_path / "ViT-B-16.pt")
    compile(str(error.value).split('-c "')[1].rstrip('"'), "command", "exec")


def test_a_pickle_with_code_is_not_run(tmp_path, tiny_clip):
    import pickle

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "witness",)

    (tmp_path / "w.pt").write_bytes(pickle.dumps({"state_dict": Payload()}, protocol=2))
    with pytest.raises(AnoframeError, match="holds more than tensors"):
        build(tmp_path / "w.pt")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("weights", ["no.safetensors", "folder/no", "./no.pt"])
def test_a_missing_file_is_an_error_that_says_where_weights_are(weights):
    with pytest.raises(AnoframeError, match=r"there is no weights file (?s:.*)connect once(?s:.*)laion400m_e31, laion"):
        find_source(PLUS, weights)


def test_the_normalisation_of_a_file_is_that_of_the_model(clip_file):
    assert normalisation(PLUS, find_source(PLUS, str(clip_file)))[0] == open_clip.OPENAI_DATASET_MEAN
    siglip = "ViT-B-16-SigLIP"
    assert normalisation(siglip, find_source(siglip, str(clip_file))) == ((0.5,) * 3, (0.5,) * 3)


# ------------------------------------------------------------------------------------------------ random weights


def test_random_weights_depend_on_the_seed_alone(tiny_clip):
    torch.manual_seed(1)
    first = build("random")
    drawn = torch.rand(3)
    torch.manual_seed(2)
    again, other = build("random:0"), build("random:7")
    assert first.sha256 == again.sha256 != other.sha256
    assert (first.weights, other.weights) == ("random:0", "random:7")
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn), "the random state of the program was changed"


def test_a_wrong_seed_is_an_error(tiny_clip):
    with pytest.raises(AnoframeError, match="the seed must be a whole number"):
        build("random:x")


def test_the_published_files_load_where_they_are(monkeypatch):
    """The weights of WinCLIP, if the hub's cache of this user holds them."""
    monkeypatch.undo()
    path = module.try_to_load_from_cache(REPOSITORY, "open_clip_model.safetensors")
    if not isinstance(path, str):
        pytest.skip(f"no weights laion400m_e31 of {PLUS} in the hub's cache")
    encoder = build("laion400m_e31", PLUS)
    assert encoder.weights == "laion400m_e31"
    assert sum(value.numel() for value in load_file(path).values()) >= 208_377_345
