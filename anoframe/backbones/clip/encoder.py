"""A frozen CLIP model as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from anoframe.backbones.clip import image_tower
from anoframe.backbones.clip.building import build_model
from anoframe.backbones.clip.image_tower import ImageTokens
from anoframe.backbones.clip.text import TextFeatures, is_causal
from anoframe.backbones.clip.weights import find_source, model_settings, normalisation
from anoframe.backbones.precision import autocast, check_precision
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_files import fingerprint

PREFIX = "open_clip:"


class ClipEncoder(nn.Module):
    """Frozen CLIP model of open_clip: images and texts in, vectors of one joint space out.

    It normalises images with the mean and std of its weights, stays in eval mode after a call of `train()`, and none
    of its parameters requires a gradient. B images, N patches, D token width, E joint width.

    Args:
        name: `open_clip:` and a model name of open_clip, for example `open_clip:ViT-B-16-plus-240`.
        weights: source of the weights, see :mod:`anoframe.backbones.clip.weights`; required.
        precision: `"float32"`, or `"bfloat16"` for convolutions and matrix products. bfloat16 is faster on a
            processor that supports it, and is an error on any other. Outputs are float32 in both cases.
        compile: must be False; `torch.compile` is not supported here.

    Attributes:
        image_size: side of the square input images, in pixels.
        embed_dim: E.
        width: D; 0 if the image tower is not a plain vision transformer.
        grid: rows and columns of patches; (0, 0) if the image tower is not a plain vision transformer.
        weights: source of the weights.
        sha256: fingerprint of the weights in use.
        quick_gelu: whether the model has QuickGELU, as OpenAI's models, instead of GELU.
        has_text: whether there is a text encoder.
        text_width: width of the tokens of the text tower; 0 if it is no plain causal transformer.
        text_features: the cache of text features; encoders that share weights also share it.

    Raises:
        AnoframeError: unknown model, or weights that are missing, do not fit or need another activation.
    """

    has_text = True
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str = "", precision: str = "float32", compile: bool = False):
        super().__init__()
        check_precision(precision)
        if compile:
            raise AnoframeError("a CLIP backbone does not support torch.compile: --model.backbone.compile False")
        self.name, self.precision = name, precision
        architecture = name.removeprefix(PREFIX)
        settings = model_settings(architecture)
        source = find_source(architecture, weights)
        self.weights = source.label
        self.network = build_model(architecture, source)
        self.sha256 = fingerprint(self.network.state_dict())
        self.quick_gelu = bool(settings.get("quick_gelu", False))
        self.embed_dim = int(settings["embed_dim"])
        self.text_width = len(self.network.ln_final.weight) if is_causal(self.network) else 0
        self._read_geometry(settings)
        if precision == "bfloat16" and self._has_tokens:
            image_tower.convert_weights(self.network.visual, torch.bfloat16)
        mean, std = normalisation(architecture, source)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.text_features = TextFeatures(architecture, self.encoding())
        self.requires_grad_(False).eval()

    def _read_geometry(self, settings: dict[str, Any]) -> None:
        size = getattr(self.network.visual, "image_size", settings["vision_cfg"].get("image_size", 224))
        self._input = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.image_size = self._input[0]
        self._has_tokens = image_tower.is_supported(self.network.visual)
        self.width, self.grid = 0, (0, 0)
        if self._has_tokens:
            self.width, self.grid = len(self.network.visual.class_embedding), self.network.visual.grid_size

    def train(self, mode: bool = True) -> ClipEncoder:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the embeddings of RGB images.

        Args:
            images: `[B, 3, image_size, image_size]`, uint8, or float in [0, 1].

        Returns:
            `[B, E]` float32, projected, not of unit length.

        Raises:
            AnoframeError: images of another size, or bfloat16 on a device without it.
        """
        if self._has_tokens:
            return self.image_tokens(images).embedding
        with autocast(self.mean.device, self.precision):
            embedding: Tensor = self.network.encode_image(self._normalise(images), normalize=False)
        return embedding.float()

    @torch.no_grad()
    def image_tokens(self, images: Tensor, layers: Sequence[int] = ()) -> ImageTokens:
        """Compute embeddings and tokens of RGB images, as for `forward`.

        Args:
            images: `[B, 3, image_size, image_size]`, uint8, or float in [0, 1].
            layers: indices of transformer blocks, from 0 or negative from the end, whose patch tokens are returned.

        Raises:
            AnoframeError: as for `forward`; no such block; or an image tower that is no plain vision transformer.
        """
        self._require_tokens("image_tokens")
        tower = self.network.visual
        indices = self._block_indices(layers)
        with autocast(self.mean.device, self.precision):
            sequence = image_tower.embed_patches(tower, self._normalise(images))
            tokens = image_tower.encode_sequence(tower, sequence, indices)
        outputs = [layer.float() for layer in tokens.layers]
        return ImageTokens(tokens.embedding.float(), tokens.patches.float(), tokens.sequence.float(), outputs)

    @torch.no_grad()
    def encode_windows(self, sequence: Tensor, windows: Tensor) -> Tensor:
        """Compute embeddings of windows: the class token and some patches, through the whole transformer.

        Activations in flight stay below `image_tower.MAX_BYTES`.

        Args:
            sequence: `[B, 1 + N, D]` of `image_tokens`.
            windows: `[W, n]` int64, patch indices (0 to N - 1) of each window.

        Returns:
            `[B, W, E]` float32, projected, not of unit length.
        """
        self._require_tokens("encode_windows")
        with autocast(sequence.device, self.precision):
            return image_tower.encode_windows(self.network.visual, sequence, windows.to(sequence.device)).float()

    @torch.no_grad()
    def project(self, tokens: Tensor) -> Tensor:
        """Project tokens `[..., D]`, after the final LayerNorm, to the joint space `[..., E]`."""
        self._require_tokens("project")
        projected: Tensor = tokens @ self.network.visual.proj
        return projected

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Compute the embeddings of texts, each of unit length: `[n, E]` float32. See `encode_text_raw`."""
        return functional.normalize(self.encode_text_raw(prompts), dim=-1)

    @torch.no_grad()
    def encode_text_raw(self, prompts: Sequence[str]) -> Tensor:
        """Compute the embeddings of texts, not normalised: `[n, E]` float32.

        They are cached in memory and on disk (folder `text` of the caches) by prompts and weights.

        Raises:
            AnoframeError: a prompt is longer than the model's context, or its tokenizer is not available.
        """
        if not prompts:
            return self.mean.new_zeros(0, self.embed_dim)
        return self.text_features.encode(self.network, prompts, self.mean.device, self.precision)

    def encode_context(self, context: Tensor, texts: Sequence[str]) -> Tensor:
        """Compute the embeddings of texts that start with learned vectors, with gradients to these vectors.

        Args:
            context: `[n, text_width]`, in place of the embeddings of the first n tokens.
            texts: what follows.

        Returns:
            `[len(texts), E]`, not normalised.

        Raises:
            AnoframeError: a text is too long for the model's context.
        """
        return self.text_features.encode_context(self.network, context, texts)

    def describe(self) -> dict[str, Any]:
        """Return the description of the backbone that is stored with results and checkpoints."""
        network = {"name": self.name, "weights": self.weights, "sha256": self.sha256, "precision": self.precision}
        return {**network, "quick_gelu": self.quick_gelu, "open_clip": open_clip.__version__}

    def encoding(self) -> dict[str, Any]:
        """Return everything that determines the features; the values of the weights count, not their source."""
        network = {"name": self.name, "sha256": self.sha256, "quick_gelu": self.quick_gelu}
        normalisation = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        return {**network, **normalisation, "precision": self.precision, "open_clip": open_clip.__version__}

    def _normalise(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != self._input:
            height, width = images.shape[-2:]
            raise AnoframeError(
                f"{self.name} takes images of {self._input[0]} x {self._input[1]} pixels, got {height} x {width}: "
                f"--data.crop {self.image_size}"
            )
        pixels = images / 255 if images.dtype == torch.uint8 else images
        return (pixels - self.mean) / self.std

    def _block_indices(self, layers: Sequence[int]) -> list[int]:
        count = len(self.network.visual.transformer.resblocks)
        for layer in layers:
            if not -count <= layer < count:
                raise AnoframeError(f"{self.name} has no layer {layer!r}; it has 0 to {count - 1}")
        return [layer % count for layer in layers]

    def _require_tokens(self, method: str) -> None:
        if not self._has_tokens:
            raise AnoframeError(
                f"the image tower of {self.name} ({type(self.network.visual).__name__}) is not a plain vision "
                f"transformer, so it has no {method}: use a model such as open_clip:ViT-B-16-plus-240"
            )
