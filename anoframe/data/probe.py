"""What is wrong with one image file, found without decoding it where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.data.images import opened, read_image, read_mask, refuse_depth, refuse_frames, upright_size
from anoframe.errors import AnoframeError
from anoframe.utils.files import digest

THREADS = 8
_HEAD = 1 << 16


@dataclass(frozen=True)
class Probe:
    """What is known of a file; `problem` names the file, and stands alone when it cannot be read."""

    problem: str | None = None
    mode: str = ""  # Pillow's name for the kind of pixel
    format: str = ""  # by content
    size: tuple[int, int] | None = None  # width and height in pixels, upright
    empty: bool | None = None  # a mask without a single defect pixel; None for a photograph
    full: bool | None = None  # a mask without a single normal pixel


def probe_all(images: Iterable[Path], masks: Iterable[Path], decode: bool) -> dict[Path, Probe]:
    """Probes of all files, made by threads since a disk answers many readers sooner than one.

    Args:
        decode: all of each photograph, not only its head.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = _mapped(pool, partial(probe_image, decode=decode), images)
        return found | _mapped(pool, probe_mask, masks)


def _mapped(pool: ThreadPoolExecutor, probe: Callable[[Path], Probe], paths: Iterable[Path]) -> dict[Path, Probe]:
    unique = list(dict.fromkeys(paths))
    return dict(zip(unique, pool.map(probe, unique), strict=True))


def probe_image(path: Path, decode: bool) -> Probe:
    """A photograph; it is decoded when asked, or when its last bytes look cut off."""
    try:
        with opened(path) as image:
            refuse_frames(image, path)
            refuse_depth(image, path)
            header = _header(image)
        if decode or _looks_cut(path, header["format"]):
            header["size"] = read_image(path).size
    except AnoframeError as error:
        return Probe(problem=str(error))
    return Probe(**header)


def probe_mask(path: Path) -> Probe:
    """A mask; it is decoded, since only its pixels say whether it marks anything."""
    try:
        with opened(path) as image:
            header = _header(image)
        mask = read_mask(path)
    except AnoframeError as error:
        return Probe(problem=str(error))
    header["size"] = mask.shape[::-1]
    return Probe(**header, empty=not mask.any(), full=bool(mask.all()))


def _header(image: Image.Image) -> dict[str, Any]:
    return {"mode": image.mode, "format": image.format or "", "size": upright_size(image)}


def _looks_cut(path: Path, format_: str) -> bool:
    """Whether the file may end too soon: True is a suspicion, to be settled by decoding."""
    with path.open("rb") as file:
        head = file.read(12)
        length = file.seek(0, 2)
        file.seek(max(0, length - 1024))
        tail = file.read()
    if format_ in ("JPEG", "MPO"):
        return b"\xff\xd9" not in tail
    if format_ == "PNG":
        return b"IEND" not in tail
    if format_ == "BMP":
        return int.from_bytes(head[2:6], "little") > length
    if format_ == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > length
    return True


def same_bytes(first: Iterable[Path], second: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of a file of `first` and one of `second` with the same content; most files are told apart by size alone."""
    sides = [list(first), list(second)]
    keys: list[dict[Path, object]] = []
    for key in (_length, _head_digest, _digest):
        keys = [{path: key(path) for path in side} for side in sides]
        common = set(keys[0].values()) & set(keys[1].values())
        sides = [[path for path in side if known[path] in common] for side, known in zip(sides, keys, strict=True)]
    original = {keys[0][path]: path for path in sides[0]}
    yield from ((original[keys[1][path]], path) for path in sides[1])


def _length(path: Path) -> int:
    return path.stat().st_size


def _head_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return _length(path).to_bytes(8, "little") + blake2b(file.read(_HEAD)).digest()


def _digest(path: Path) -> str:
    return digest(path.read_bytes())
