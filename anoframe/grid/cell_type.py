"""What the scheduler, the processes and Ray need to know of a cell. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from anoframe.config import ConfigDict


class AnyCell(Protocol):
    """One run of a grid: of a detector, of an encoder, or an evaluation of one. It can be sent to another process."""

    @property
    def cfg(self) -> ConfigDict:
        """Resolved config of the run."""

    @property
    def name(self) -> str:
        """One line for the console, unique in the grid."""

    @property
    def categories(self) -> tuple[str, ...]:
        """What the run evaluates; a reason why all of it failed stands once in the list of failures."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    def is_done(self) -> bool:
        """Whether the run has finished and its folder holds everything that the tables need."""

    def run(self) -> dict[str, str]:
        """Begin or resume the run; returns failed category -> reason."""
