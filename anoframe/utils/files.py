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
_WAYS_OUT = {  # number of an OSError -> what to do
    errno.ENOSPC: "Free space and start again",
    errno.EDQUOT: "Free space in your quota and start again",
    errno.EACCES: "Change its permissions, or choose another --output",
    errno.EPERM: "Change its permissions, or choose another --output",
    errno.EROFS: "Choose another --output",
    errno.ENAMETOOLONG: "Choose a shorter --output, or shorten the names of files and folders",
    errno.ENOTDIR: "Move the file that is in place of a folder, or choose another --output",
    errno.EEXIST: "Move the file that is in place of a folder, or choose another --output",
    errno.EISDIR: "Move the folder that is in place of a file, or choose another --output",
}
_OTHER_WAY_OUT = "Check that path and the disk, and start again"
_FULL = (errno.ENOSPC, errno.EDQUOT)


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


def bounded_name(name: str, max_bytes: int = _MAX_NAME_BYTES, original: str | None = None) -> str:
    r"""Return a file name that every file system takes: short names unchanged, long ones cut.

    Bytes that are not UTF-8 are escaped. A changed name ends with a hash of the whole name, so names stay different.

    Args:
        name: a file name.
        max_bytes: limit of the result in bytes.
        original: text that `name` was made from, if it was changed before.

    >>> bounded_name("000.png"), bounded_name("a" * 300, 24), bounded_name("caf\udce9.png")
    ('000.png', 'aaaaaaaaaaaaaaa~a2ff3040', 'caf\\xe9.png~ba8d1f86')
    """
    content = _name_bytes(name if original is None else original)
    text = _name_bytes(name).decode("utf-8", "backslashreplace")
    if text == (name if original is None else original) and len(content) <= max_bytes:
        return name
    beginning = text.encode()[: max_bytes - 9].decode("utf-8", "ignore")
    return f"{beginning}~{digest(content)[:8]}"


def file_name(text: str, suffix: str) -> str:
    """Build the name of an output file from any text, for example a defect type and the name of an image.

    Separators and characters that cannot be printed become `_`; the rest is the rule of `bounded_name`.

    >>> file_name("broken_large_000", ".png")
    'broken_large_000.png'
    >>> file_name("a/b", ".png")
    'a_b~295d2248.png'
    """
    printable = "".join("_" if char in "/\\" or not char.isprintable() else char for char in text)
    return bounded_name(printable, _MAX_NAME_BYTES - len(suffix.encode()), original=text) + suffix


def _name_bytes(name: str) -> bytes:
    """Bytes of a file name; Python decodes bytes that are not UTF-8 to surrogates."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other surrogates
        return name.encode("utf-8", "surrogatepass")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a complete file; an earlier file is kept until the new one is complete.

    Text is written as UTF-8; what is not Unicode in it, from a file name for example, is escaped.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        replace_file(path, content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> OutputError:
    """Build the error for a file or folder of the output that cannot be written."""
    return OutputError(f"cannot write {path}: {error.strerror or error}. {way_out(error)}")


def way_out(error: OSError) -> str:
    """Return what the user can do about an error of the operating system."""
    return _WAYS_OUT.get(error.errno or 0, _OTHER_WAY_OUT)


def is_interruption(error: BaseException) -> bool:
    """Return whether an error stopped work that goes on in the same place later: a full disk, one that fails.

    The other errors of writing call for another output, or for other permissions.

    Args:
        error: an OSError, or an error that one caused.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and (cause.errno in _FULL or cause.errno not in _WAYS_OUT)


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a temporary file next to `path` and rename it, so that a reader never sees an incomplete file.

    Args:
        path: the target; missing parent folders are created.
        data: the content.
        sync: wait until the data is on the disk, so that even a power failure leaves no incomplete file.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{bounded_name(path.name)}.{os.getpid()}.part")
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


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def read_json(path: Path) -> Any:
    """Read a JSON file. NaN and infinity, which are no JSON and which `write_json` never writes, count as damage.

    Raises:
        AnoframeError: the file is missing, damaged or unreadable.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise AnoframeError(f"there is no {path}") from error
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise AnoframeError(f"{path} is damaged: {error}; restore it from a copy, or make it again") from error
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error
