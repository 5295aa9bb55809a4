"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError, OutputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or raise OutputError; an earlier one stays until then."""
    try:
        replace_file(path, content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror}. Free space, then go on with --resume")


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write beside the target, then take its place: a reader never sees half a file.

    Args:
        sync: wait until the disk has it, so that not even a power cut leaves half a file.

    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # where the folder is none, there is nothing to clean up
            temporary.unlink()


def digest(data: bytes) -> str:
    """Of a file's content: equal where the bytes are equal."""
    return blake2b(data).hexdigest()


def write_json(path: Path, tree: Any) -> None:
    """JSON with full precision of floats, None as null, and NaN refused."""
    write_atomic(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AnoframeError(f"there is no {path}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise AnoframeError(f"{path} is damaged: {error}") from error
