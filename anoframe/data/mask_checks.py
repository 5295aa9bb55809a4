"""Checks of masks: missing, shared, empty and lost ones, their sizes and formats, and the pixels they were drawn on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from anoframe.data.file_checks import FileCheck
from anoframe.data.image_decoding import SIDEWAYS, read_image
from anoframe.data.masks import MaskSettings, mask_orientation, read_mask, size_mismatch
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.validation_report import count_of
from anoframe.errors import AnoframeError
from anoframe.types import Sample


def mask_problems(test: list[Sample], checks: Mapping[Path, FileCheck], settings: MaskSettings) -> Iterator[str]:
    """Defects without a mask where others have one, and masks that are shared, misplaced or of a wrong size."""
    any_mask = any(sample.mask for sample in test)
    mask_uses = Counter(sample.mask for sample in test if sample.mask)
    for sample in test:
        if sample.mask is None:
            if any_mask and sample.is_defect:
                size = size_hint(checks[sample.image], settings)
                yield f"{sample.image}: no mask, although other defects have one; add it, or remove all masks{size}"
            continue
        if not sample.is_defect:
            yield f"{sample.mask}: a mask for the good image {sample.image}; remove it, or move the image to its defect"
        if mask_uses[sample.mask] > 1:
            yield (
                f"{sample.mask}: the mask of {mask_uses[sample.mask]} images, one is {sample.image}; rename the images"
            )
        yield from _mask_size_problem(sample.image, sample.mask, checks, settings)


def empty_masks(test: list[Sample], checks: Mapping[Path, FileCheck]) -> Iterator[str]:
    """Masks of defects that mark no pixel."""
    for sample in test:
        if sample.mask and checks[sample.mask].is_empty and sample.is_defect:
            yield f"{sample.mask}: marks no pixel of the defect in {sample.image}; draw it, or move the image to good"


def _mask_size_problem(
    image: Path, mask: Path, checks: Mapping[Path, FileCheck], settings: MaskSettings
) -> Iterator[str]:
    """A mask of another size than its image; if the headers differ, the decoded sizes decide."""
    if checks[image].size == checks[mask].size or checks[image].problem or checks[mask].problem:
        return
    try:
        image_size = read_image(image).size
        mask_height, mask_width = read_mask(mask, mask_orientation(image, settings)).shape
    except AnoframeError as error:
        yield str(error)
        return
    if image_size != (mask_width, mask_height):
        other = "stored" if settings.is_upright else "upright"
        fits_other = image_size == (mask_height, mask_width) and checks[image].orientation in SIDEWAYS
        hint = f", or set data.mask_frame {other} if the masks lie on the {other} picture" if fits_other else ""
        yield size_mismatch(mask, (mask_width, mask_height), image, image_size) + hint


def size_hint(check: FileCheck, settings: MaskSettings) -> str:
    """Size that the mask of an image must have, for an error message; empty for an image that cannot be read."""
    if check.size is None:
        return ""
    width, height = check.size
    if not settings.is_upright and check.orientation in SIDEWAYS:
        width, height = height, width
    return f" (its size is {width} x {height} pixels)"


def format_remarks(images: list[FileCheck], masks: list[FileCheck]) -> Iterator[str]:
    """Unusual pixel formats, JPEG masks and inverted masks."""
    for mode, count in sorted(Counter(check.mode for check in images if not check.problem).items()):
        if mode != "RGB":
            yield f"{count} images of mode {mode} are read as RGB"
    lossy = sum(check.format in ("JPEG", "MPO") for check in masks)
    if lossy:
        yield f"{lossy} masks are JPEG, and their compression noise counts as defect; save masks as PNG"
    full = sum(bool(check.is_full) for check in masks)
    if full:
        yield f"{full} masks mark every pixel: are they inverted?"


def frame_remarks(test: list[Sample], checks: Mapping[Path, FileCheck], settings: MaskSettings) -> Iterator[str]:
    """Images that EXIF turns or mirrors, with masks whose size does not show on which pixels they were drawn."""
    turned = [
        sample.image
        for sample in test
        if sample.mask
        and checks[sample.image].orientation != checks[sample.mask].orientation
        and (checks[sample.image].orientation not in SIDEWAYS or _is_square(checks[sample.image]))
    ]
    if turned:
        other = "stored" if settings.is_upright else "upright"
        are = "is" if len(turned) == 1 else "are"
        yield (
            f"{count_of(turned, 'image')} with a mask {are} turned or mirrored by EXIF, and the masks are taken to lie "
            f"on the {settings.frame} picture; if they do not, set data.mask_frame {other}: {turned[0]}"
        )


def _is_square(check: FileCheck) -> bool:
    return check.size is not None and check.size[0] == check.size[1]


def lost_mask_remarks(
    masks: list[Path],
    checks: Mapping[Path, FileCheck],
    settings: MaskSettings,
    preprocessing: Preprocessing | None,
) -> Iterator[str]:
    """Masks of which no defect pixel is left at the resolution of a run."""
    lost = [mask for mask in masks if checks[mask].is_lost]
    if lost and preprocessing:
        lose = "loses" if len(lost) == 1 else "lose"
        yield (
            f"{count_of(lost, 'mask')} {lose} every defect pixel at data.resize {preprocessing.resize}, data.crop "
            f"{preprocessing.crop} and data.mask_rule {settings.rule}: {lost[0]}"
        )
