"""Options of a command line by dotted name: what a parser does not know is a key of the config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from anoframe.errors import AnoframeError, suggest


def dotted_options(words: Sequence[str], parser: argparse.ArgumentParser) -> dict[str, object]:
    """`--a.b value`, `--a.b v1 v2` and `--a.b=value` as a mapping.

    Args:
        words: what the parser has left.
        parser: whose options a misspelt one is compared with.
    """
    overrides: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if "." not in name:
                known = [word.removeprefix("--") for word in parser._option_string_actions if word.startswith("--")]
                raise AnoframeError(
                    f"unknown option --{name}: {suggest(name, known)}; a value of the config goes by its dotted name, "
                    "as --data.root"
                )
            overrides[name] = [value] if equals else []
        elif name:
            overrides[name].append(word)
        else:
            raise AnoframeError(f"unexpected argument {word!r}: options start with --, see --help")
    for name, values in overrides.items():
        if not values:
            raise AnoframeError(f"--{name} needs a value")
    return {name: values[0] if len(values) == 1 else values for name, values in overrides.items()}
