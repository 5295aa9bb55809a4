"""Text tower of CLIP backbones: equality with open_clip, and the cache on disk."""

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from anoframe.backbones.clip import ClipEncoder, text
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import clear_caches

PROMPTS = [f"a {quality}photo of the {noun}." for quality in ("", "blurry ", "very dark ") for noun in "abcdefg"]


@pytest.fixture(autouse=True)
def text_cache(tmp_path, monkeypatch):
    """An empty cache for each test; return its folder."""
    monkeypatch.setenv("ANOFRAME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture
def computed(monkeypatch):
    """Numbers of prompts that were encoded, and not read from a cache."""
    counts, encode = [], text.encode_tokens

    def count(model, tokens, precision="float32"):
        counts.append(len(tokens))
        return encode(model, tokens, precision)

    monkeypatch.setattr(text, "encode_tokens", count)
    return counts


def build(clip_file):
    return ClipEncoder("open_clip:tiny", str(clip_file))


def expected_features(clip_state, prompts):
    """The text tower of open_clip on the full context of the model."""
    model = open_clip.model.CLIP(**open_clip.get_model_config("tiny"))
    model.load_state_dict(clip_state)
    with torch.no_grad():
        return model.eval().encode_text(open_clip.get_tokenizer("tiny")(prompts))


def entries(folder):
    return list(folder.glob("*/*.safetensors"))


def test_features_equal_open_clip(clip_state, clip_file):
    features = build(clip_file).encode_text_raw(PROMPTS)
    torch.testing.assert_close(features, expected_features(clip_state, PROMPTS), atol=1e-5, rtol=1e-5)
    assert float((features[0] - features[1]).abs().max()) > 1e-3


def test_models_with_a_text_tower_of_their_own_equal_open_clip(tiny_clip):
    encoder = ClipEncoder("open_clip:tiny-other", "random:1")
    expected = encoder.network.encode_text(open_clip.get_tokenizer("tiny-other")(PROMPTS))
    torch.testing.assert_close(encoder.encode_text_raw(PROMPTS), expected, atol=1e-5, rtol=1e-5)


def test_encode_text_gives_rows_of_unit_length(clip_file):
    encoder = build(clip_file)
    raw = encoder.encode_text_raw(PROMPTS)
    torch.testing.assert_close(encoder.encode_text(PROMPTS), raw / raw.norm(dim=1, keepdim=True))


def test_no_prompts_give_no_rows(clip_file):
    assert build(clip_file).encode_text([]).shape == (0, 20)


def test_features_do_not_depend_on_the_number_of_threads(clip_file, text_cache, computed):
    features = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        features.append(build(clip_file).encode_text_raw(PROMPTS))
        clear_caches(text_cache.parent)
    torch.set_num_threads(1)
    assert torch.equal(*features)
    assert len(computed) == 2


def test_features_are_computed_once(clip_file, text_cache, computed):
    first = build(clip_file)
    features = [first.encode_text_raw(PROMPTS), first.encode_text_raw(PROMPTS), build(clip_file).encode_text(PROMPTS)]
    assert computed == [len(PROMPTS)]
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[2], torch.nn.functional.normalize(features[0], dim=-1))
    assert len(entries(text_cache)) == 1


def test_other_prompts_weights_and_activations_have_other_entries(
    clip_state, clip_file, tmp_path, text_cache, computed
):
    build(clip_file).encode_text(PROMPTS)
    build(clip_file).encode_text(PROMPTS[::-1])
    changed = {**clip_state, "ln_final.bias": clip_state["ln_final.bias"] + 1}
    save_file(changed, tmp_path / "changed.safetensors")
    features = build(tmp_path / "changed.safetensors").encode_text_raw(PROMPTS)
    torch.testing.assert_close(features, expected_features(changed, PROMPTS), atol=1e-5, rtol=1e-5)
    ClipEncoder("open_clip:tiny-quickgelu", str(clip_file)).encode_text(PROMPTS)
    assert len(computed) == len(entries(text_cache)) == 4


@pytest.mark.parametrize("damage", [b"", b"not a tensor", None], ids=["empty", "text", "one byte"])
def test_a_damaged_entry_is_computed_again(clip_file, text_cache, computed, damage):
    features = build(clip_file).encode_text(PROMPTS)
    (path,) = entries(text_cache)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    assert torch.equal(build(clip_file).encode_text(PROMPTS), features)
    assert len(computed) == 2
    build(clip_file).encode_text(PROMPTS)
    assert len(computed) == 2


def test_clearing_the_caches_removes_the_entries(clip_file, text_cache):
    build(clip_file).encode_text(PROMPTS)
    assert clear_caches(text_cache.parent) > 0
    assert not text_cache.exists()


def test_a_prompt_that_would_be_cut_off_is_an_error(clip_file):
    build(clip_file).encode_text(["a " * 22])  # with start and end: the 24 tokens of the context
    with pytest.raises(AnoframeError, match=r"'a a .* is longer than the 24 tokens of tiny: shorten it"):
        build(clip_file).encode_text(["short", "a " * 23])


def test_a_tokenizer_from_the_hub_is_an_error_that_says_so(tiny_clip, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = ClipEncoder("open_clip:tiny-hub-tokenizer", "random")
    with pytest.raises(AnoframeError, match=r"tokenizer of open_clip model 'tiny-hub-tokenizer' needs .* the hub"):
        encoder.encode_text(["a"])
