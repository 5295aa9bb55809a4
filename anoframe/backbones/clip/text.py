"""The text tower of a CLIP model, with a cache of its features on disk and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip import get_tokenizer
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from anoframe.backbones.precision import autocast
from anoframe.errors import AnoframeError
from anoframe.utils.parallel import map_images
from anoframe.utils.tensor_cache import TEXT_CACHE, TensorCache, cache_key, cache_root

_FORMAT = 1  # of the cached features: raise it if the code computes others from the same prompts and weights
_BATCH = 16  # prompts that are encoded together; about 40 MB of activations with the largest text towers
_MAX_BYTES = 200 * 10**6  # of the disk cache: 242 prompts of 640 numbers take 0.6 MB


class TextFeatures:
    """Text features by prompts: from memory, else from disk, else computed.

    Args:
        architecture: open_clip's name of the model, which has a tokenizer.
        identity: everything besides the prompts and the device that the features depend on, for the key on disk.
    """

    def __init__(self, architecture: str, identity: Any):
        self._architecture, self._identity = architecture, identity
        self._known: dict[str, Tensor] = {}
        self._tokenizer: Any = None

    def encode(self, model: Any, prompts: Sequence[str], device: torch.device, precision: str) -> Tensor:
        """Return the features `[n, E]` of n prompts, projected, not normalised, float32, on `device`.

        Raises:
            AnoframeError: a prompt is longer than the model's context, or the tokenizer is not available.
        """
        key = cache_key("text", _FORMAT, self._identity, _environment(device), list(prompts))
        if key not in self._known:
            self._known[key] = self._read_or_compute(key, model, prompts, device, precision)
        return self._known[key].to(device, copy=True)

    def _read_or_compute(
        self, key: str, model: Any, prompts: Sequence[str], device: torch.device, precision: str
    ) -> Tensor:
        cache = TensorCache(cache_root() / TEXT_CACHE, _MAX_BYTES)
        entry = cache.read(key)
        if entry is not None and entry.keys() == {"text"} and len(entry["text"]) == len(prompts):
            return entry["text"].clone()
        features = encode_tokens(model, self._tokenize(prompts).to(device), precision).cpu()
        cache.write(key, {"text": features})
        return features

    def encode_context(self, model: Any, context: Tensor, texts: Sequence[str]) -> Tensor:
        """Encode texts after context vectors, with gradients to these; see `ClipEncoder.encode_context`."""
        tokens = self._tokenize([" ".join(["x"] * len(context) + [text]) for text in texts]).to(context.device)
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]  # a token does not see later ones
        embeddings = model.token_embedding(tokens)
        shared = context.expand(len(texts), -1, -1)
        embeddings = torch.cat([embeddings[:, :1], shared, embeddings[:, 1 + len(context) :]], 1)
        return encode_embeddings(model, embeddings, tokens)

    def _tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Return token ids `[n, context]`, after a check that no prompt is cut off."""
        if self._tokenizer is None:
            self._tokenizer = _load_tokenizer(self._architecture)
        if not isinstance(self._tokenizer, SimpleTokenizer):
            return self._tokenizer(list(prompts))
        context = self._tokenizer.context_length
        tokens: Tensor = self._tokenizer(list(prompts), context + 1)
        for prompt, last in zip(prompts, tokens[:, -1].tolist(), strict=True):
            if last:
                raise AnoframeError(
                    f"the prompt {prompt!r} is longer than the {context} tokens of {self._architecture}: shorten it"
                )
        return tokens[:, :-1]


def encode_tokens(model: Any, tokens: Tensor, precision: str = "float32") -> Tensor:
    """Encode token ids `[n, context]` as features `[n, E]`, in batches of equal shape, each with one thread on a CPU.

    The features therefore do not depend on the number of threads.
    """

    def encode_batch(batch: Tensor) -> Tensor:
        with autocast(batch.device, precision):
            return encode_text(model, batch[0]).float()

    padded = nn.functional.pad(tokens, (0, 0, 0, -len(tokens) % _BATCH))
    if is_causal(model):  # a token does not see later ones, so those after the longest prompt change nothing
        padded = padded[:, : int((padded != 0).sum(1).max())]
    batches = padded.view(-1, _BATCH, padded.shape[1])
    return torch.cat(map_images(encode_batch, batches))[: len(tokens)]


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Encode token ids `[n, L]` as features `[n, E]`, not normalised; L may be below the context of a causal model."""
    if not is_causal(model):
        return model.encode_text(tokens, normalize=False)
    return encode_embeddings(model, model.token_embedding(tokens), tokens)


def encode_embeddings(model: Any, embeddings: Tensor, tokens: Tensor) -> Tensor:
    """Encode embeddings of tokens `[n, L, width]` with a causal text tower, `[n, E]`; `tokens` tell where texts end."""
    length = tokens.shape[1]
    states = embeddings + model.positional_embedding[:length]
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    pooled: Tensor = text_global_pool(states, tokens, model.text_pool_type, eos_token_id=model.text_eos_id)
    return pooled @ model.text_projection


def is_causal(model: Any) -> bool:
    """Return whether a model is a plain `CLIP`, whose features are those of the end-of-text token of a causal tower."""
    return (
        getattr(model, "text_pool_type", None) == "argmax"
        and model.attn_mask is not None
        and isinstance(model.text_projection, Tensor)
    )


def _load_tokenizer(architecture: str) -> Any:
    try:
        return get_tokenizer(architecture)
    except Exception as error:  # transformers is not installed, or the hub does not answer
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnoframeError(
            f"the tokenizer of open_clip model {architecture!r} needs the package transformers and once the hub "
            f"({reason}); models with CLIP's own tokenizer, such as ViT-B-16, need neither"
        ) from error


def _environment(device: torch.device) -> list[str]:
    """What rounding depends on besides the weights."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return [torch.__version__, device.type, processor]
