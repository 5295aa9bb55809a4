"""Tensors that are made once and read often: a folder of small files, bounded, safe to share and safe to delete.

Nothing in a cache is needed: what is not there, or not whole, is made again. So any process may remove any file at any
time. This module knows nothing of images or methods, and loads no torch before there is an entry to read or write.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anoframe.utils.files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("images", "features")
_ENTRY = re.compile(r"\.?[0-9a-f]{40}\.safetensors(\.\d+\.part)?")  # part: what an interrupted writer left
_KEPT_FREE = 2 * 10**9  # bytes of the file system, or a tenth of a small one


def cache_root(folder: str | None = None) -> Path:
    """Where the caches are: the folder given, `$ANOFRAME_CACHE`, `$XDG_CACHE_HOME/anoframe`, `~/.cache/anoframe`."""
    if named := folder or os.environ.get("ANOFRAME_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "anoframe"


def clear(root: Path) -> int:
    """Remove every entry of every cache under a root, and nothing else; returns the bytes freed."""
    return sum(Cache(root / kind, max_bytes=0).clear() for kind in KINDS)


def key_of(*parts: Any) -> str:
    """A key, 40 hex digits, that differs when any of the parts (JSON types) does."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=20).hexdigest()


class Cache:
    """Entries of a few named tensors, a file each, by key.

    Reading maps a file to memory and checks the tensors asked for against their checksums; a file that is not whole is
    removed. Writing is atomic. A write that fails, on a full or read-only disk, is told once, and nothing more is
    written.

    Args:
        folder: is made with the first entry.
        max_bytes: what all files may take together; the least recently used go first. A file system is never filled:
            2 GB, or a tenth of it, stay free. Each further process that writes at the same time may add 5 %.
        warn: takes `text=`, once for each process.
    """

    def __init__(self, folder: Path, max_bytes: int, warn: Callable[..., None] | None = None):
        self.folder = folder
        self.max_bytes = max_bytes
        self._warn = warn
        self._writable = True
        self._allowance = 0  # bytes that may be written before the folder is looked at again

    def __contains__(self, key: str) -> bool:
        """Whether there is such a file: a hint, for it may be damaged, or be gone the next moment."""
        return self._path(key).is_file()

    def read(self, key: str, names: Sequence[str] | None = None) -> dict[str, Tensor] | None:
        """The tensors of those names, or all; None where the entry is missing or not whole."""
        from safetensors import SafetensorError

        path = self._path(key)
        try:
            tensors = _read(path, key, names)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # what was used lately is removed last
        return tensors

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep named tensors of any device under a key."""
        if not self._writable:
            return
        from safetensors.torch import save

        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        entry = save(whole, {name: _checksum(key, name, tensor) for name, tensor in whole.items()})
        try:
            self._make_room(len(entry))
            replace_file(self._path(key), entry, sync=False)  # a checksum finds what a power cut leaves
        except FileNotFoundError:
            return  # the folder was cleared at this very moment
        except OSError as error:
            self._writable = False
            if self._warn:
                self._warn(text=f"nothing more is cached in {self.folder}: {error.strerror}")

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed."""
        freed = 0
        for _, size, path in list(self._entries()):
            with suppress(OSError):
                path.unlink()
                freed += size
        for folder in [*self.folder.glob("??"), self.folder]:
            with suppress(OSError):
                folder.rmdir()  # only where nothing is left in it
        return freed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Last use, size in bytes and path of every file of this cache."""
        for path in self.folder.glob("??/*"):
            if _ENTRY.fullmatch(path.name):
                with suppress(OSError):  # another process has just removed it
                    stat = path.stat()
                    yield stat.st_mtime, stat.st_size, path

    def _make_room(self, size: int) -> None:
        if size > self._allowance:
            self._allowance = self._tidy(size)
        self._allowance -= size

    def _tidy(self, size: int) -> int:
        """Remove what was not used for longest, where `size` bytes more are too many; returns what may be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(self._entries())
        held = sum(length for _, length, _ in entries)
        disk = shutil.disk_usage(self.folder)
        bound = min(self.max_bytes, held + disk.free - min(_KEPT_FREE, disk.total // 10))
        if size > bound:
            why = "the cache may not hold as much" if size > self.max_bytes else "too little space is left on the disk"
            raise OSError(errno.ENOSPC, why)
        target = held if held + size <= bound else 0.9 * bound - size
        for _, length, path in entries:
            if held <= target:
                break
            path.unlink(missing_ok=True)
            held -= length
        return max(size, min(bound - held, bound // 20))


def _read(path: Path, key: str, names: Sequence[str] | None) -> dict[str, Tensor]:
    """Raises ValueError for a file that is not the entry of that key, or not what was written."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        checksums = file.metadata() or {}
        present = list(file.keys())
        wanted = present if names is None else names
        if not wanted or not set(wanted) <= set(present):
            raise ValueError("another kind of entry")
        tensors = {name: file.get_tensor(name) for name in wanted}
    if any(checksums.get(name) != _checksum(key, name, tensor) for name, tensor in tensors.items()):
        raise ValueError("damaged")
    return tensors


def _checksum(key: str, name: str, tensor: Tensor) -> str:
    """CRC-32 of a tensor and of what it is and belongs to, as text."""
    import torch

    start = zlib.crc32(f"{key} {name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    return str(zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, start))
