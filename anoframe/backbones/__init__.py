"""Frozen feature extractors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anoframe.backbones.timm_pyramid import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.registry import check_arguments
from anoframe.utils.type_check import matches_type

if TYPE_CHECKING:
    from anoframe.backbones.clip import ClipEncoder

__all__ = ["FeaturePyramid", "build_backbone"]


def build_backbone(section: Mapping[str, Any]) -> FeaturePyramid | ClipEncoder:
    """Build the backbone described by `model.backbone` of a config.

    A name that starts with `open_clip:` builds a `ClipEncoder`, any other a `FeaturePyramid` of a timm model. open_clip
    is imported only for the former.

    Raises:
        AnoframeError: unknown or missing argument, wrong type, or weights that are not available.
    """
    if not matches_type(section, Mapping):
        raise AnoframeError(f"model.backbone must be a section of keys, got {section!r}")
    if str(section.get("name", "")).startswith("open_clip:"):
        from anoframe.backbones.clip.sharing import build_shared

        return build_shared({key: value for key, value in section.items() if (key, value) != ("engine", "torch")})
    check_arguments(FeaturePyramid, section, "model.backbone")
    return FeaturePyramid(**section)
