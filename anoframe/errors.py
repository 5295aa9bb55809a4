"""The exception for errors that a user can fix, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnoframeError(Exception):
    """An error that the user can fix: the message names the file or key, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class OutputError(AnoframeError):
    """The output folder cannot be written; the run stops, because every other category would fail as well."""


def suggest(word: object, known: Iterable[str], limit: int = 12, prefix: str = "") -> str:
    """Build the end of an error message for an unknown name: the most similar known name, and the known names.

    Args:
        word: the unknown name; "" if only the known names are to be listed.
        known: all valid names.
        limit: number of names to list.
        prefix: written before each name, for example `--` of options.
        prefix: written before each name, for example `--` of options.

    >>> suggest("botle", ["bottle", "screw"])
    "did you mean 'bottle'? Known: bottle, screw"
    >>> suggest("EWC", ["ewc", "joint"])
    "did you mean 'ewc'? Known: ewc, joint"
    >>> suggest("sede", ["seed"], prefix="--")
    "did you mean '--seed'? Known: --seed"
    >>> suggest("sede", ["seed"], prefix="--")
    "did you mean '--seed'? Known: --seed"
    """
    names = sorted(known)
    if not names:
        return "there are no known names"
    lowered = {name.lower(): name for name in reversed(names)}  # wrong capitals are the most common mistake
    similar = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.5)
    shown = ", ".join(prefix + name for name in names[:limit])
    shown += f", and {len(names) - limit} more" if len(names) > limit else ""
    return (f"did you mean {prefix + lowered[similar[0]]!r}? " if similar else "") + f"Known: {shown}"
