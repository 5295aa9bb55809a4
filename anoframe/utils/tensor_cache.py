"""Disk cache of tensors: a folder of small files with a size limit, safe to share between processes and to delete.

Nothing depends on a cache: a missing or damaged entry is computed again, so any process may remove any file at any
time. This module is independent of images and methods, and imports torch only when an entry is read or written.
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
from anoframe.utils.paths import expand_path

if TYPE_CHECKING:
    from torch import Tensor

CACHE_KINDS = ("images", "features")  # each with a switch of that name in the `cache` section of a config
TEXT_CACHE = "text"  # features of prompts: always on, a few megabytes
ENGINE_CACHE = "engines"  # exported graphs of frozen networks: on where a config names an engine
NETWORK_CACHE = "networks"  # facts of frozen networks: always on, a few kilobytes
_SMALL_CACHES = (TEXT_CACHE, ENGINE_CACHE, NETWORK_CACHE)
_ENTRY = re.compile(r"\.?[0-9a-f]{40}\.safetensors(\.\d+\.part)?")  # .part: left by an interrupted writer
_KEPT_FREE = 2 * 10**9  # bytes of the file system that stay free, or a tenth of a small one


def cache_root(folder: str | None = None) -> Path:
    """Return the folder of all caches.

    It is `folder`, `$ANOFRAME_CACHE`, `$XDG_CACHE_HOME/anoframe` or `~/.cache/anoframe`, the first that is set.
    """
    if folder:
        return expand_path(folder, "cache.folder")
    if configured := os.environ.get("ANOFRAME_CACHE"):
        return expand_path(configured, "ANOFRAME_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(user_cache) if user_cache else Path.home() / ".cache") / "anoframe"


def clear_caches(root: Path) -> int:
    """Remove every entry of every cache under `root`, and no other file; return the freed bytes."""
    return sum(TensorCache(root / kind, max_bytes=0).clear() for kind in (*CACHE_KINDS, *_SMALL_CACHES))


def cache_key(*parts: Any) -> str:
    """Compute a key of 40 hex digits from JSON-compatible parts; different parts give different keys."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=20).hexdigest()


class TensorCache:
    """Entries by key, each one file with a few named tensors.

    A read maps the file to memory and verifies the checksums of the requested tensors; a damaged file is removed. A
    write is atomic. If a write fails, because the disk is full or read-only, the cache warns once and writes no more.

    Args:
        folder: created with the first entry.
        max_bytes: limit for all files together; the least recently used entries are removed first. 2 GB of the file
            system, or a tenth of it, always stay free. Each further process that writes at the same time may exceed
            the limit by 5 %.
        warn: called with `text=`, at most once per process.
    """

    def __init__(self, folder: Path, max_bytes: int, warn: Callable[..., None] | None = None):
        self.folder = folder
        self.max_bytes = max_bytes
        self._warn = warn
        self._writable = True
        self._allowance = 0  # bytes that may be written before the folder is measured again

    def __contains__(self, key: str) -> bool:
        """Return whether the file of an entry exists; it may still be damaged, or be removed a moment later."""
        return self._path(key).is_file()

    def read(self, key: str, names: Sequence[str] | None = None) -> dict[str, Tensor] | None:
        """Read the named tensors of an entry (all by default); None if it is missing or damaged."""
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
            os.utime(path)  # marks the entry as recently used
        return tensors

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Store named tensors, from any device, under a key."""
        if not self._writable:
            return
        from safetensors.torch import save

        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        entry = save(contiguous, {name: _checksum(key, name, tensor) for name, tensor in contiguous.items()})
        try:
            self._reserve(len(entry))
            replace_file(self._path(key), entry, sync=False)  # the checksums detect what a power failure damages
        except FileNotFoundError:
            return  # another process cleared the folder during the write
        except OSError as error:
            self._writable = False
            if self._warn:
                self._warn(text=f"nothing more is cached in {self.folder}: {error.strerror}")

    def clear(self) -> int:
        """Remove every entry; return the freed bytes."""
        freed = 0
        for _, size, path in list(self._entries()):
            with suppress(OSError):
                path.unlink()
                freed += size
        for folder in [*self.folder.glob("??"), self.folder]:
            with suppress(OSError):
                folder.rmdir()  # fails, as intended, if the folder holds other files
        return freed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of last use, the size in bytes and the path of every file of this cache."""
        for path in self.folder.glob("??/*"):
            if _ENTRY.fullmatch(path.name):
                with suppress(OSError):  # removed by another process in the meantime
                    stat = path.stat()
                    yield stat.st_mtime, stat.st_size, path

    def _reserve(self, size: int) -> None:
        """Make space for `size` bytes; raises OSError if that is not possible."""
        if size > self._allowance:
            self._allowance = self._evict(size)
        self._allowance -= size

    def _evict(self, size: int) -> int:
        """Remove the least recently used entries until `size` more bytes fit; return the bytes that may be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(self._entries())
        total = sum(length for _, length, _ in entries)
        disk = shutil.disk_usage(self.folder)
        limit = min(self.max_bytes, total + disk.free - min(_KEPT_FREE, disk.total // 10))
        if size > limit:
            too_large = size > self.max_bytes
            reason = "the entry exceeds the limit of the cache" if too_large else "too little space is left on the disk"
            raise OSError(errno.ENOSPC, reason)
        target = total if total + size <= limit else 0.9 * limit - size
        for _, length, path in entries:
            if total <= target:
                break
            path.unlink(missing_ok=True)
            total -= length
        return max(size, min(limit - total, limit // 20))


def _read(path: Path, key: str, names: Sequence[str] | None) -> dict[str, Tensor]:
    """Read and verify an entry; raises ValueError if the file is not the entry of `key` or is damaged."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        checksums = file.metadata() or {}
        present = list(file.keys())
        requested = present if names is None else names
        if not requested or not set(requested) <= set(present):
            raise ValueError("another kind of entry")
        tensors = {name: file.get_tensor(name) for name in requested}
    if any(checksums.get(name) != _checksum(key, name, tensor) for name, tensor in tensors.items()):
        raise ValueError("damaged")
    return tensors


def _checksum(key: str, name: str, tensor: Tensor) -> str:
    """Compute the CRC-32, as text, of a tensor together with its key, name, shape and type."""
    import torch

    start = zlib.crc32(f"{key} {name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    return str(zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, start))
