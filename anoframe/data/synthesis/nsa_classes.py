"""Settings of NSA for each category of MVTec AD, from the official code (Schlueter et al., ECCV 2022, table 5).

Bounds are half of a side of the patch, as shares of the image side.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NsaClass:
    """Settings of a category.

    Args:
        height: bounds of half of the patch height.
        width: bounds of half of the patch width.
        min_object: smallest share of object pixels in a patch; used with a background only.
        max_patches: largest number of patches in an image.
        slope: k of the logistic label, per grey level.
        midpoint: x0 of the logistic label: change in grey levels that gives the label 0.5.
        background: brightness of the background and largest difference from it, in grey levels; None: no background.
        is_texture: textures use mixed gradients and larger changes of the patch size.
        epochs: of the published training.
    """

    height: tuple[float, float] = (0.03, 0.40)
    width: tuple[float, float] = (0.03, 0.40)
    min_object: float = 0.0
    max_patches: int = 3
    slope: float = 1 / 6
    midpoint: float = 15.0
    background: tuple[float, float] | None = None
    is_texture: bool = False
    epochs: int = 320


_BRIGHT, _DARK = (200.0, 60.0), (20.0, 20.0)
_TEXTURE = NsaClass(max_patches=4, slope=1 / 3, midpoint=7.0, is_texture=True)

NSA_CLASSES = {
    "bottle": NsaClass(min_object=0.70, slope=1 / 12, midpoint=24.0, background=_BRIGHT),
    "cable": NsaClass((0.05, 0.40), (0.05, 0.40), slope=1 / 12, midpoint=24.0),
    "capsule": NsaClass((0.03, 0.15), (0.03, 0.40), 0.70, slope=1 / 2, midpoint=4.0, background=_BRIGHT),
    "hazelnut": NsaClass((0.03, 0.35), (0.03, 0.35), 0.70, 3, 1 / 12, 24.0, _DARK, epochs=560),
    "metal_nut": NsaClass(min_object=0.50, slope=1 / 3, midpoint=7.0, background=_DARK, epochs=560),
    "pill": NsaClass((0.03, 0.20), (0.03, 0.40), 0.70, slope=1 / 3, midpoint=7.0, background=_DARK),
    "screw": NsaClass((0.03, 0.12), (0.03, 0.12), 0.50, 4, 1.0, 3.0, _BRIGHT, epochs=560),
    "toothbrush": NsaClass((0.03, 0.40), (0.03, 0.20), 0.25, background=_DARK),
    "transistor": NsaClass(),
    "zipper": NsaClass((0.03, 0.40), (0.03, 0.20), 0.70, 4, background=_BRIGHT),
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "leather": _TEXTURE,
    "tile": _TEXTURE,
    "wood": NsaClass(max_patches=4, is_texture=True),
}

# Categories without published settings (VisA and others): our choice
GENERIC_OBJECT = NsaClass((0.03, 0.30), (0.03, 0.30))
GENERIC_TEXTURE = NsaClass((0.03, 0.30), (0.03, 0.30), is_texture=True)
GENERIC = {"generic": GENERIC_OBJECT, "generic_texture": GENERIC_TEXTURE}
