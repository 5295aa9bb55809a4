"""Construction of open_clip models, and strict loading of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from open_clip import CLIP, CoCa, CustomTextCLIP
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from anoframe.backbones.clip.weights import Source, load_state, model_settings
from anoframe.errors import AnoframeError

State = dict[str, Tensor]

# Entries of published files that are not weights: numbers in OpenAI's files, an index in old Hugging Face models.
IGNORED = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")


def build_model(architecture: str, source: Source) -> Any:
    """Build an open_clip model with the weights of a source, frozen and in eval mode.

    Returns:
        `CLIP`, `CustomTextCLIP` or `CoCa`, on the CPU, in float32.

    Raises:
        AnoframeError: unknown model, a model that needs a package or the hub, or weights that do not fit it.
    """
    state = load_state(architecture, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed or 0)
        model = _construct(architecture)
    if state is not None:
        _load(model, state, architecture, source.label)
    return model.requires_grad_(False).eval()


def _construct(architecture: str) -> Any:
    """Build a model with random weights, as open_clip's `create_model` does without any download."""
    settings = model_settings(architecture)
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    has_own_text = settings.pop("custom_text", False)
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"], has_own_text = False, True
    kind = CLIP if not has_own_text else CoCa if "multimodal_cfg" in settings else CustomTextCLIP
    try:
        return kind(**settings)
    except Exception as error:  # a missing package, no connection, or a timm model that this timm does not have
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AnoframeError(
            f"open_clip cannot build its model {architecture!r} here ({reason}): use another --model.backbone.name"
        ) from error


def _load(model: nn.Module, state: State, architecture: str, label: str) -> None:
    """Load a state dict, of which every tensor must be used and every tensor of the model must be given."""
    expected = model.state_dict()
    state = _convert(state, expected)
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    other = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if missing or extra or other:
        found = _describe_misfit(state, expected, missing, extra, other)
        raise AnoframeError(
            f"weights {label!r} do not fit open_clip model {architecture!r}: {found}. Use the file of that model, or "
            "the --model.backbone.name of the file"
        )
    model.load_state_dict(state)


def _convert(state: State, expected: Mapping[str, Tensor]) -> State:
    """Bring names and shapes of a published state dict into the form of the model."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    if "positional_embedding" in state and "positional_embedding" not in expected:
        state = convert_to_custom_text_state_dict(state)
    state = {name: value for name, value in state.items() if name in expected or name not in IGNORED}
    for name in ("logit_scale", "logit_bias"):  # a scalar in some files, a vector of one element in others
        if name in state and name in expected and state[name].numel() == expected[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    return state


def _describe_misfit(
    state: State, expected: Mapping[str, Tensor], missing: list[str], extra: list[str], other: list[str]
) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} of the model's {len(expected)} tensors are missing, first {missing[0]!r}")
    if other:
        shapes = f"{_shape(state[other[0]])} instead of {_shape(expected[other[0]])}"
        parts.append(f"{len(other)} have another shape, first {other[0]!r}: {shapes}")
    if extra:
        parts.append(f"{len(extra)} of the file's {len(state)} tensors are not in the model, first {extra[0]!r}")
    return "; ".join(parts)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
