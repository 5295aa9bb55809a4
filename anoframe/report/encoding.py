"""Pictures as bytes: PNG for files of a run, WebP for the page where Pillow has it, else JPEG."""

from __future__ import annotations

import io

from PIL import Image, features
from PIL.PngImagePlugin import PngInfo


def encode_png(picture: Image.Image, info: PngInfo | None = None) -> bytes:
    """Compress a picture without loss. Level 4 takes two thirds of the time of the usual 6, for 3 % more bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def encode_for_page(picture: Image.Image, quality: int) -> tuple[str, bytes]:
    """Compress a picture with loss.

    Args:
        quality: 0 to 100.

    Returns:
        `"webp"` or `"jpeg"`, and the bytes. JPEG has no transparency.
    """
    buffer = io.BytesIO()
    if not features.check("webp"):
        picture.convert("RGB").save(buffer, "JPEG", quality=quality)
        return "jpeg", buffer.getvalue()
    picture.save(buffer, "WEBP", quality=quality, method=2)  # half the time of the usual 4, for 4 % more bytes
    return "webp", buffer.getvalue()
