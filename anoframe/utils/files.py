"""Atomic file writes, JSON files, and safe names for output files and folders.

A file name of the input may have bytes that are not UTF-8; Python reads them as lone surrogates. Text with surrogates
is written with `\\udcXX` in their place, which JSON reads back as the same name.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from anoframe.errors import AnoframeError, OutputError

_MAX_NAME_BYTES = 200  # file systems allow 255, and a prefix or suffix may be added
_REMEDIES = {  # of an output that cannot be written, by the reason
    errno.ENOSPC: "Free space and start again; a run goes on with --resume",
    errno.EDQUOT: "Free space or raise the quota, and start again; a run goes on with --resume",
    errno.EACCES: "Allow this user to write there, or choose another --output",
    errno.EPERM: "Allow this user to write there, or choose another --output",
    errno.EROFS: "The file system is read-only: choose another --output",
    errno.ENAMETOOLONG: "The name is too long for this file system: choose a shorter --output",
}
_OTHER_REMEDY = "Check the disk and the folder, or choose another --output; a run goes on with --resume"


def check_plain_name(name: object, description: str) -> str:
    """Return `name` if it can be used as a file or folder name in the output.

    Args:
        name: from a config, the command line or a checkpoint.
        description: what the name stands for, used in the error message.

    Raises:
        AnoframeError: the name would lead out of its folder, or no file can have it.
    """
    separators = {"/", "\\", os.sep} & set(str(name))
    if isinstance(name, str) and name.strip(". ") and not separators and name.isprintable():
        if len(name.encode()) <= _MAX_NAME_BYTES:
            return name
        raise AnoframeError(
            f"{description} {name[:40]!r}... names a folder of the output: use at most {_MAX_NAME_BYTES} bytes"
        )
    raise AnoframeError(
        f"{description} {name!r} names a folder of the output: give it a plain name, without slashes and not '..'"
    )


def safe_path(folder: str | Path, **names: object) -> Path:
    """Join `folder` and names from outside, one path component each, so that the result stays in `folder`.

    Args:
        folder: the parent folder.
        names: keyword = what the name stands for (used in the error message), value = the name.

    Raises:
        AnoframeError: a name is rejected by `check_plain_name`.
    """
    parts = (check_plain_name(name, keyword.replace("_", " ")) for keyword, name in names.items())
    return Path(folder, *parts)


def file_name(text: str, suffix: str) -> str:
    """Build a name for an output file from the name of an input: one that every common file system accepts.

    A text that is a good file name stays as it is. Otherwise separators and characters that cannot be printed become
    `_`, the text is cut to a bounded number of bytes, and a part of its hash keeps different texts different.

    >>> file_name("broken_large_000", ".png")
    'broken_large_000.png'
    >>> file_name("a/b", ".png")
    'a_b-295d2248.png'
    """
    printable = "".join("_" if char in "/\\" or not char.isprintable() else char for char in text)
    limit = _MAX_NAME_BYTES - len(suffix.encode())
    if printable == text and len(text.encode()) <= limit:
        return text + suffix
    mark = f"-{digest(text.encode('utf-8', 'surrogatepass'))[:8]}"
    return printable.encode()[: limit - len(mark)].decode(errors="ignore") + mark + suffix


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a complete file; an earlier file is kept until the new one is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        replace_file(path, content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> OutputError:
    """Build the error for a file or folder of the output that cannot be written: its reason, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, _OTHER_REMEDY)
    return OutputError(f"cannot write {path}: {error.strerror or error}. {remedy}")


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a temporary file next to `path` and rename it, so that a reader never sees an incomplete file.

    Args:
        path: the target; missing parent folders are created.
        data: the content.
        sync: wait until the data is on the disk, so that even a power failure leaves no incomplete file.

    Raises:
        OSError: the file cannot be written.
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
        with suppress(OSError):  # if the folder could not be created, there is no temporary file
            temporary.unlink()


def digest(data: bytes) -> str:
    """Compute a hash of file content, equal only for equal bytes."""
    return blake2b(data).hexdigest()


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with all digits of floats and None as null.

    Raises:
        OutputError: the file cannot be written.
        ValueError: a value is NaN or infinite.
    """
    write_atomic(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        AnoframeError: the file is missing, damaged or unreadable.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AnoframeError(f"there is no {path}") from error
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise AnoframeError(f"{path} is damaged: {error}; restore it from a copy, or make it again") from error
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error
