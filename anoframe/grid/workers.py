"""The option `--workers` of grids: where cells run. Loads no torch."""

from __future__ import annotations

from typing import Literal

from anoframe.errors import AnoframeError

Workers = int | Literal["ray"]  # 0: this process; N: N processes


def parse_workers(text: str, address: str | None = None, cores: int | None = None) -> Workers:
    """Parse the options `--workers`, `--ray` and `--cores` of a command line.

    >>> parse_workers("2"), parse_workers("ray")
    (2, 'ray')
    """
    for name, value in (("ray", address), ("cores", cores)):
        if value and text != "ray":
            raise AnoframeError(f"--{name} requires --workers ray")
    if text == "ray":
        return "ray"
    if not text.isdecimal():
        raise AnoframeError(f"--workers must be 0, a number of processes, or ray; got {text!r}")
    return int(text)
