"""The transformer of a CLIP image tower, block by block: pooled embedding, tokens of any layer, and windows.

It computes what `open_clip.transformer.VisionTransformer` computes, on its weights. Its own form is needed because a
window (WinCLIP, section 3.2 of Jeong et al. 2023, arXiv 2303.14814) is a subset of the tokens that enter the
transformer, and because tokens of several windows can share work. B images, N patches, D token width, E joint width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from anoframe.backbones.clip.linear import linear

# Bytes of activations in flight, at most. On a CPU few tokens at a time stay in the processor's cache.
MAX_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}
_VALUES_PER_TOKEN = 14  # in token widths: input, queries, keys, values, hidden layer before and after its activation


class ImageTokens(NamedTuple):
    """Tokens of B images.

    Attributes:
        embedding: `[B, E]`, the class token after the last block, normalised by the final LayerNorm and projected.
        patches: `[B, N, D]`, the patch tokens after the last block and the final LayerNorm, not projected.
        sequence: `[B, 1 + N, D]`, class and patch tokens with their position embeddings, before the first LayerNorm.
        layers: `[B, N, D]` patch tokens after each requested block, not normalised.
    """

    embedding: Tensor
    patches: Tensor
    sequence: Tensor
    layers: list[Tensor]


def is_supported(tower: Any) -> bool:
    """Return whether a tower is a plain vision transformer, whose class token is pooled after the final LayerNorm."""
    return (
        isinstance(tower, VisionTransformer)
        and tower.pool_type == "tok"
        and tower.attn_pool is None
        and not tower.final_ln_after_pool
        and all(isinstance(block, ResidualAttentionBlock) for block in tower.transformer.resblocks)
    )


def convert_weights(tower: Any, dtype: torch.dtype) -> None:
    """Round the weights of convolutions and matrix products once, so that `torch.autocast` does not at each use."""
    for module in (tower.conv1, *tower.transformer.resblocks.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            for parameter in (module.in_proj_weight, module.in_proj_bias):
                parameter.data = parameter.data.to(dtype)


def embed_patches(tower: Any, pixels: Tensor) -> Tensor:
    """Embed normalised images `[B, 3, H, W]` as the sequence `[B, 1 + N, D]`: class token, then patches row by row."""
    patches = tower.conv1(pixels).flatten(2).transpose(1, 2)
    class_token = tower.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
    return torch.cat([class_token, patches], 1) + tower.positional_embedding.to(patches.dtype)


def encode_sequence(tower: Any, sequence: Tensor, layers: Sequence[int] = ()) -> ImageTokens:
    """Run the transformer on whole sequences `[B, 1 + N, D]`.

    Args:
        tower: a supported tower.
        sequence: from `embed_patches`.
        layers: indices of blocks whose patch tokens are returned, in any order.
    """
    tokens, outputs = tower.ln_pre(sequence), {}
    for index, block in enumerate(tower.transformer.resblocks):
        tokens = _run_block(block, tokens)
        if index in layers:
            outputs[index] = tokens[:, 1:]
    tokens = tower.ln_post(tokens)
    return ImageTokens(tokens[:, 0] @ tower.proj, tokens[:, 1:], sequence, [outputs[index] for index in layers])


def encode_windows(tower: Any, sequence: Tensor, windows: Tensor) -> Tensor:
    """Encode windows: the class token and the patches of a window, through the whole transformer.

    The first LayerNorm and the first block's queries, keys and values are computed once per token and shared by all
    windows; in the last block only the class token is computed. Both leave the result unchanged but for rounding.

    Args:
        tower: a supported tower.
        sequence: `[B, 1 + N, D]` from `embed_patches`; the class token is first.
        windows: `[W, n]` patch indices (0 to N - 1) of each window.

    Returns:
        `[B, W, E]` class tokens, normalised by the final LayerNorm and projected; not of unit length.
    """
    first = tower.transformer.resblocks[0]
    tokens = tower.ln_pre(sequence)
    qkv = _qkv(first, tokens)
    index = torch.cat([torch.zeros_like(windows[:, :1]), windows + 1], 1)  # [W, 1 + n], the class token is token 0
    if torch.compiler.is_exporting():  # one graph for any number of images
        vectors = _encode_window_tokens(tower, tokens[:, index].flatten(0, 1), qkv[:, index].flatten(0, 1))
        return vectors.unflatten(0, (-1, len(windows)))
    outputs = []
    for image in range(len(sequence)):
        for chunk in _chunks(index, tokens):
            outputs.append(_encode_window_tokens(tower, tokens[image, chunk], qkv[image, chunk]))
    return torch.cat(outputs).view(len(sequence), len(windows), -1)


def _chunks(index: Tensor, tokens: Tensor) -> Iterator[Tensor]:
    """Split windows `[W, 1 + n]` into nearly equal chunks whose activations stay below `MAX_BYTES`."""
    limit = MAX_BYTES.get(tokens.device.type, MAX_BYTES["cuda"])
    bytes_per_window = index.shape[1] * tokens.shape[-1] * _VALUES_PER_TOKEN * tokens.element_size()
    windows_per_chunk = max(1, limit // bytes_per_window)
    yield from index.tensor_split(-(-len(index) // windows_per_chunk))


def _encode_window_tokens(tower: Any, tokens: Tensor, qkv: Tensor) -> Tensor:
    """Encode windows `[W, 1 + n, D]` with the first block's queries, keys and values `[W, 1 + n, 3 D]`."""
    *blocks, last = tower.transformer.resblocks
    for index, block in enumerate(blocks):
        tokens = _run_block(block, tokens, qkv if index == 0 else None)
    class_token = _class_token_of_block(last, tokens, None if blocks else qkv)
    return tower.ln_post(class_token) @ tower.proj


def _run_block(block: Any, tokens: Tensor, qkv: Tensor | None = None) -> Tensor:
    """Run a pre-norm block: self-attention, then MLP, each with a residual connection. `[B, L, D]` to `[B, L, D]`."""
    attended = _attention(block, _qkv(block, tokens) if qkv is None else qkv)
    return _finish_block(block, tokens, attended)


def _class_token_of_block(block: Any, tokens: Tensor, qkv: Tensor | None = None) -> Tensor:
    """Run a block for the class token alone, `[B, L, D]` to `[B, D]`: only keys and values need the other tokens."""
    width, weight, bias = tokens.shape[-1], block.attn.in_proj_weight, block.attn.in_proj_bias
    if qkv is None:
        normed = block.ln_1(tokens)
        query = linear(normed[:, :1], weight[:width], bias[:width])
        keys_values = linear(normed, weight[width:], bias[width:])
    else:
        query, keys_values = qkv[:, :1, :width], qkv[..., width:]
    key, value = keys_values.chunk(2, -1)
    attended = _scaled_dot_product(query, key, value, block.attn.num_heads)
    return _finish_block(block, tokens[:, :1], attended)[:, 0]


def _qkv(block: Any, tokens: Tensor) -> Tensor:
    """Queries, keys and values `[B, L, 3 D]` of a block, from its input."""
    return linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)


def _attention(block: Any, qkv: Tensor) -> Tensor:
    query, key, value = qkv.chunk(3, -1)
    return _scaled_dot_product(query, key, value, block.attn.num_heads)


def _scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention `[B, Lq, D]`, before the output projection."""
    split = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def _finish_block(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:
    """Add the projected attention, then the MLP, each as a residual."""
    attention, mlp = block.attn.out_proj, block.mlp
    tokens = tokens + block.ls_1(linear(attended, attention.weight, attention.bias))
    hidden = mlp.gelu(linear(block.ln_2(tokens), mlp.c_fc.weight, mlp.c_fc.bias))
    return tokens + block.ls_2(linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias))
