"""The one exception a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnoframeError(Exception):
    """Something the user can mend: the message names the file or key, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """


class OutputError(AnoframeError):
    """The output folder cannot be written to: no category of a run would get further."""


def suggest(word: object, known: Iterable[str], limit: int = 12) -> str:
    """A sentence tail for an unknown name: the nearest known one, then what exists.

    >>> suggest("botle", ["bottle", "screw"])
    "did you mean 'bottle'? Known: bottle, screw"
    >>> suggest("EWC", ["ewc", "joint"])
    "did you mean 'ewc'? Known: ewc, joint"
    """
    names = sorted(known)
    if not names:
        return "nothing is known here"
    lowered = {name.lower(): name for name in reversed(names)}  # capitals are the commonest slip
    near = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.5)
    shown = ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
    return (f"did you mean {lowered[near[0]]!r}? " if near else "") + f"Known: {shown}"
