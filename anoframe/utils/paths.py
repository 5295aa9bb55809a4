"""Paths as users write them: `~` and environment variables stand for folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

from anoframe.errors import AnoframeError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([^{}]+)\})")  # $NAME or ${NAME}


def expand_path(path: str | Path, name: str) -> Path:
    """Replace a leading `~` or `~user` by that home folder, and `$NAME` and `${NAME}` by environment variables.

    The shell does this for an unquoted word, but not in `--output=~/runs`, in a config file or in Python. A path with
    a variable or user that does not exist is taken as it is if it exists: `$` and `~` are allowed in file names.

    Args:
        path: as the user wrote it.
        name: option, key or argument that the path was given for, for the error message.

    Raises:
        AnoframeError: an environment variable is not set or empty, or there is no such user.

    >>> expand_path("~/parts", "data.root") == Path.home() / "parts"
    True
    """
    text = os.fspath(path)
    variables = [plain or braced for plain, braced in _VARIABLE.findall(text)]
    unset = [variable for variable in variables if not os.environ.get(variable)]
    expanded = os.path.expanduser(_VARIABLE.sub(lambda match: os.environ.get(match[1] or match[2], ""), text))
    if not unset and not expanded.startswith("~"):
        return Path(expanded)
    if os.path.lexists(text):
        return Path(text)
    if unset:
        raise AnoframeError(
            f"{name} {text}: the environment variable {unset[0]} is not set, or empty: set it, or write the whole path"
        )
    user = expanded.partition("/")[0]
    raise AnoframeError(f"{name} {text}: there is no home folder of a user {user[1:]!r}: write the whole path")
