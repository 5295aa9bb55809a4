"""Which data and categories a run is of, and how they are cut into fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anoframe.config import ConfigDict
from anoframe.data.dataset import Dataset, choose_categories, open_dataset
from anoframe.data.task_streams import STREAMS, stream
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.files import plain_name

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


def check_categories(cfg: ConfigDict, categories: Sequence[str] | None) -> None:
    """Look for the data and the categories of a run, without torch: what is misspelt is told before that is loaded.

    Raises:
        AnoframeError: no such dataset, folder or category.
    """
    categories_of(dataset_of(cfg), with_categories(cfg, categories))


def dataset_of(cfg: ConfigDict) -> Dataset:
    """What a config says of its data, opened; AnoframeError where it is not there."""
    return open_dataset(cfg.data.name, cfg.data.root or Path("data") / cfg.data.name)


def categories_of(dataset: Dataset, cfg: ConfigDict) -> list[str]:
    """What a config's categories come to; one that is not there is told, with the named stream that brought it."""
    try:
        return choose_categories(dataset, cfg.categories)
    except AnoframeError as error:
        named = cfg.protocol.tasks.strip()
        if cfg.protocol.name != "continual" or named not in STREAMS:
            raise
        raise AnoframeError(
            f"protocol.tasks {named} is a stream of {STREAMS[named][0].name}: give --data.name and --data.root of that "
            f"dataset, or tasks of this one as in 'a,b;c;d'; {error}"
        ) from error


def with_categories(cfg: ConfigDict, categories: Sequence[str] | None) -> ConfigDict:
    """A copy of a config that names the categories to run; AnoframeError where there are none."""
    chosen = cfg.copy_and_resolve_references()
    if categories is not None:
        chosen.categories = tuple(categories)
    if chosen.protocol.name == "continual" and chosen.protocol.tasks:
        chosen.categories = _categories_of_stream(chosen)
    if not chosen.categories:
        raise AnoframeError("no category given: --cls_names NAME [NAME ...], or --cls_names all")
    return chosen


def _categories_of_stream(cfg: ConfigDict) -> tuple[str, ...]:
    """Those of a stream that the config spells out; AnoframeError where others were named."""
    names = tuple(name for task in stream(cfg.protocol.tasks) for name in task)
    named = set(cfg.categories) - {"all"}
    if named and named != set(names):
        differing = ", ".join(sorted(named ^ set(names)))
        raise AnoframeError(f"--cls_names and protocol.tasks differ in {differing}: leave out --cls_names")
    return names
