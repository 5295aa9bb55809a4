"""How the categories of a run are cut into fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anoframe.errors import AnoframeError, suggest
from anoframe.files import plain_name

PROTOCOLS = ("separate", "unified", "continual")


@dataclass(frozen=True)
class Fit:
    """One detector to be learned: from the training images of its categories, and evaluated on each of them."""

    name: str
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (self.name, *self.categories):  # they name folders of the checkpoint and of the pictures
            plain_name(name, "category")


def plan_fits(protocol: str, categories: Sequence[str]) -> list[Fit]:
    """`separate` is a detector a category, `unified` and `continual` are one for all."""
    if protocol == "separate":
        return [Fit(category, (category,)) for category in categories]
    if protocol in ("unified", "continual"):
        return [Fit(protocol, tuple(categories))]
    raise AnoframeError(f"unknown protocol {protocol!r}: {suggest(protocol, PROTOCOLS)}")
