"""Image tower of CLIP backbones: equality with open_clip, windows against the whole transformer, size and precision."""

import itertools

import open_clip
import pytest
import torch

from anoframe.backbones import precision
from anoframe.backbones.clip import ClipEncoder, image_tower
from anoframe.backbones.clip import linear as linear_module
from anoframe.errors import AnoframeError
from anoframe.utils.parallel import map_images

WINDOWS = torch.tensor([[0, 1, 4, 5], [10, 11, 14, 15], [3, 2, 7, 6]])  # the last one in another order


@pytest.fixture(scope="module")
def encoder(clip_file):
    return ClipEncoder("open_clip:tiny", str(clip_file))


@pytest.fixture(scope="module")
def oracle(clip_state):
    """The model `tiny` of open_clip itself, with the same weights."""
    model = open_clip.model.CLIP(**open_clip.get_model_config("tiny"))
    model.load_state_dict(clip_state)
    return model.eval().requires_grad_(False)


def pixels(images):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    return (images / 255 - mean) / std


def encode_tokens(tower, tokens):
    """The transformer of open_clip on any tokens `[B, L, D]`, class token first."""
    pooled, _ = tower._pool(tower.transformer(tower.ln_pre(tokens)))
    return pooled @ tower.proj


def brute_force_windows(tower, sequence, windows):
    """One window at a time through the transformer of open_clip."""
    rows = [
        [encode_tokens(tower, torch.stack([image[0], *(image[1 + i] for i in window)])[None])[0] for window in windows]
        for image in sequence
    ]
    return torch.stack([torch.stack(row) for row in rows])


# ------------------------------------------------------------------------------------------------ whole images


def test_forward_equals_open_clip(encoder, oracle, clip_images):
    expected = oracle.encode_image(pixels(clip_images))
    torch.testing.assert_close(encoder(clip_images), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(encoder(clip_images / 255), expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(encoder.image_tokens(clip_images).embedding, encoder(clip_images))


def test_patch_tokens_are_those_after_the_final_layer_norm(encoder, oracle, clip_images):
    _, expected = oracle.visual._pool(oracle.visual.transformer(oracle.visual._embeds(pixels(clip_images))))
    patches = encoder.image_tokens(clip_images).patches
    assert patches.shape == (3, 16, 48)
    torch.testing.assert_close(patches, expected, atol=2e-5, rtol=1e-5)


def test_projected_class_token_is_the_embedding(encoder, oracle, clip_images):
    tower = oracle.visual
    tokens = tower.ln_post(tower.transformer(tower._embeds(pixels(clip_images))))
    torch.testing.assert_close(encoder.project(tokens)[:, 0], encoder(clip_images), atol=2e-5, rtol=1e-5)


def test_sequence_is_the_input_of_the_first_layer_norm_with_the_class_token_first(encoder, oracle, clip_images):
    inputs = []
    handle = oracle.visual.ln_pre.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    oracle.encode_image(pixels(clip_images))
    handle.remove()
    sequence = encoder.image_tokens(clip_images).sequence
    torch.testing.assert_close(sequence, inputs[0], atol=1e-6, rtol=1e-6)
    class_token = oracle.visual.class_embedding + oracle.visual.positional_embedding[0]
    torch.testing.assert_close(sequence[:, 0], class_token.expand(3, -1))


def test_layers_are_the_outputs_of_the_blocks_in_the_requested_order(encoder, oracle, clip_images):
    outputs = []
    for block in oracle.visual.transformer.resblocks:
        block.register_forward_hook(lambda _, __, out: outputs.append(out[:, 1:]))
    oracle.encode_image(pixels(clip_images))
    layers = encoder.image_tokens(clip_images, (-1, 0)).layers
    assert encoder.image_tokens(clip_images).layers == []
    for layer, expected in zip(layers, (outputs[2], outputs[0]), strict=True):
        torch.testing.assert_close(layer, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [3, -4])
def test_unknown_layer_is_an_error(encoder, clip_images, layer):
    with pytest.raises(AnoframeError, match=f"open_clip:tiny has no layer {layer}; it has 0 to 2"):
        encoder.image_tokens(clip_images, [layer])


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-other", "tiny-one-block"])
def test_other_plain_transformers_equal_open_clip(tiny_clip, clip_images, name):
    encoder = ClipEncoder(f"open_clip:{name}", "random:4")
    expected = encoder.network.encode_image(pixels(clip_images))
    torch.testing.assert_close(encoder(clip_images), expected, atol=2e-5, rtol=1e-5)
    sequence = encoder.image_tokens(clip_images).sequence
    expected = brute_force_windows(encoder.network.visual, sequence, WINDOWS)
    torch.testing.assert_close(encoder.encode_windows(sequence, WINDOWS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-average", "tiny-resnet"])
def test_other_towers_give_embeddings_but_no_tokens(tiny_clip, clip_images, name):
    encoder = ClipEncoder(f"open_clip:{name}", "random")
    torch.testing.assert_close(encoder(clip_images), encoder.network.encode_image(pixels(clip_images)))
    assert (encoder.width, encoder.grid) == (0, (0, 0))
    for call in (
        lambda: encoder.image_tokens(clip_images),
        lambda: encoder.encode_windows(torch.zeros(1, 17, 48), WINDOWS),
        lambda: encoder.project(torch.zeros(1, 48)),
    ):
        with pytest.raises(AnoframeError, match=f"{name} .* is not a plain vision transformer"):
            call()


def test_images_of_another_size_are_an_error(encoder):
    with pytest.raises(AnoframeError, match=r"takes images of 32 x 32 pixels, got 40 x 32: --data\.crop 32"):
        encoder(torch.zeros(1, 3, 40, 32))


def test_one_image_does_not_depend_on_others_to_the_bit(encoder, clip_images):
    alone = torch.cat([encoder(image[None]) for image in clip_images])
    assert torch.equal(torch.cat(map_images(encoder, clip_images)), alone)


# ------------------------------------------------------------------------------------------------ windows


def test_windows_equal_the_whole_transformer_on_their_tokens(encoder, oracle, clip_images):
    sequence = encoder.image_tokens(clip_images).sequence
    embeddings = encoder.encode_windows(sequence, WINDOWS)
    assert embeddings.shape == (3, 3, 20)
    expected = brute_force_windows(oracle.visual, sequence, WINDOWS.tolist())
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    assert float((embeddings[:, 0] - embeddings[:, 1]).abs().max()) > 0.05


def test_window_of_all_patches_is_the_image(encoder, clip_images):
    tokens = encoder.image_tokens(clip_images)
    whole = encoder.encode_windows(tokens.sequence, torch.arange(16)[None])
    torch.testing.assert_close(whole[:, 0], tokens.embedding, atol=1e-5, rtol=1e-5)


def test_a_window_does_not_see_patches_outside_it(encoder, clip_images):
    sequence = encoder.image_tokens(clip_images).sequence
    changed = sequence.clone()
    changed[:, 1 + 8 :] += 1  # patches 8 to 15
    before, after = (encoder.encode_windows(tokens, WINDOWS) for tokens in (sequence, changed))
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


@pytest.mark.parametrize("max_bytes", [1, 40_000])
def test_chunks_stay_below_the_bound_and_do_not_change_windows(encoder, clip_images, monkeypatch, max_bytes):
    windows = torch.tensor(list(itertools.combinations(range(16), 2)))  # 120 windows
    sequence = encoder.image_tokens(clip_images).sequence
    at_once = encoder.encode_windows(sequence, windows)
    counts, encode = [], image_tower._encode_window_tokens

    def count(tower, tokens, qkv):
        counts.append(len(tokens))
        return encode(tower, tokens, qkv)

    monkeypatch.setattr(image_tower, "_encode_window_tokens", count)
    monkeypatch.setitem(image_tower.MAX_BYTES, "cpu", max_bytes)
    torch.testing.assert_close(encoder.encode_windows(sequence, windows), at_once, atol=1e-6, rtol=1e-6)
    bytes_per_window = 3 * 48 * 14 * 4
    assert sum(counts) == 3 * 120
    assert max(counts) <= max(1, max_bytes // bytes_per_window)


def test_windows_are_the_same_to_the_bit_each_time(encoder, clip_images):
    sequence = encoder.image_tokens(clip_images).sequence
    assert torch.equal(encoder.encode_windows(sequence, WINDOWS), encoder.encode_windows(sequence, WINDOWS))


# ------------------------------------------------------------------------------------------------ numbers


def test_both_kernels_of_matrix_products_agree(monkeypatch):
    tokens, weight, bias = torch.randn(2, 5, 24), torch.randn(7, 24), torch.randn(7)
    expected = torch.nn.functional.linear(tokens.double(), weight.double(), bias.double()).float()
    torch.testing.assert_close(linear_module.linear(tokens, weight, bias), expected)
    torch.testing.assert_close(linear_module.linear(tokens[:, :1], weight, bias), expected[:, :1])  # not contiguous
    monkeypatch.setattr(linear_module, "_ONEDNN", None)
    torch.testing.assert_close(linear_module.linear(tokens, weight, bias), expected)


def test_bfloat16_gives_float32_close_to_float32(encoder, clip_file, clip_images, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)  # emulated bfloat16 is slow but correct
    low = ClipEncoder("open_clip:tiny", str(clip_file), precision="bfloat16")
    assert low.sha256 == encoder.sha256
    tokens, expected = low.image_tokens(clip_images, (1,)), encoder.image_tokens(clip_images, (1,))
    windows = [e.encode_windows(t.sequence, WINDOWS) for e, t in ((low, tokens), (encoder, expected))]
    pairs = [(tokens.embedding, expected.embedding), (tokens.layers[0], expected.layers[0]), tuple(windows)]
    for value, reference in pairs:
        assert value.dtype == torch.float32
        assert 0 < float((value - reference).norm() / reference.norm()) < 0.05


def test_bfloat16_is_an_error_on_a_processor_without_it(clip_file, clip_images, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    encoder = ClipEncoder("open_clip:tiny", str(clip_file), precision="bfloat16")
    with pytest.raises(AnoframeError, match=r"--model\.backbone\.precision float32"):
        encoder(clip_images)
