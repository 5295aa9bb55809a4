"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError, OutputError

_NAME_BYTES = 200  # file systems take 255, and a name gets a prefix or an ending


def plain_name(name: object, what: str) -> str:
    """The name, where it may become that of a file or folder in the output.

    Raises AnoframeError for one that would lead out of its folder, or that no file can have; `what` says what it names.
    """
    separators = {"/", "\\", os.sep} & set(str(name))
    if isinstance(name, str) and name.strip(". ") and not separators and name.isprintable():
        if len(name.encode()) <= _NAME_BYTES:
            return name
        raise AnoframeError(f"{what} {name[:40]!r}... names a folder of the output: at most {_NAME_BYTES} bytes")
    raise AnoframeError(
        f"{what} {name!r} names a folder of the output: give it a plain name, without slashes and not '..'"
    )


def inside(folder: str | Path, **names: object) -> Path:
    """The folder below `folder` that these names lead to, each one step: what a name stands for -> the name.

    None of them leads out of it. Names of fits and categories pass `plain_name` when a fit is planned.
    """
    return Path(folder, *(plain_name(name, what.replace("_", " ")) for what, name in names.items()))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or raise OutputError; an earlier one stays until then."""
    try:
        replace_file(path, content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror}. Free space and start again; a run goes on with --resume"
    )


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
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise AnoframeError(f"{path} is damaged: {error}; restore it from a copy, or make it again") from error
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error
