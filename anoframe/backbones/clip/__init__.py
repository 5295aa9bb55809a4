"""Frozen CLIP models of open_clip: image tower, windows of its tokens, and text tower."""

from anoframe.backbones.clip.encoder import ClipEncoder
from anoframe.backbones.clip.image_tower import ImageTokens

__all__ = ["ClipEncoder", "ImageTokens"]
