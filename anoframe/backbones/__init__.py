"""Frozen feature extractors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anoframe.backbones.timm_pyramid import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.registry import check_arguments
from anoframe.utils.type_check import matches_type

__all__ = ["FeaturePyramid", "build_backbone"]


def build_backbone(section: Mapping[str, Any]) -> FeaturePyramid:
    """Build the backbone described by `model.backbone` of a config.

    Raises:
        AnoframeError: unknown or missing argument, wrong type, or weights that are not available.
    """
    if not matches_type(section, Mapping):
        raise AnoframeError(f"model.backbone must be a section of keys, got {section!r}")
    check_arguments(FeaturePyramid, section, "model.backbone")
    return FeaturePyramid(**section)
