"""Dataset, categories and fits of a run. Loads no torch: the command line checks names before it imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anoframe.config import ConfigDict
from anoframe.config.validation import check_text
from anoframe.continual.names import strategy_name
from anoframe.data.dataset import Dataset, NormalSplit, choose_categories, open_dataset
from anoframe.data.preprocessing import RECTANGLE
from anoframe.data.rectangle import read_aspects, rectangle
from anoframe.data.splits import FEW_SHOT, OFFICIAL, Split
from anoframe.data.task_streams import STREAMS, Task, parse_tasks
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.files import check_plain_name

PROTOCOLS = ("separate", "unified", "continual")


@dataclass(frozen=True)
class Fit:
    """One detector to train and to evaluate.

    Attributes:
        name: folder of its checkpoint: the category, the protocol, or the task of a stream.
        categories: categories the detector has been trained on after this fit; it is evaluated on each.
        new_categories: categories whose training images this fit uses, where these are not all of `categories`: those
            of the current task of a stream.
    """

    name: str
    categories: tuple[str, ...]
    new_categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.categories):  # these become folder names of checkpoints and pictures
            check_plain_name(name, "category")

    @property
    def training_categories(self) -> tuple[str, ...]:
        """Categories whose training images this fit uses."""
        return self.categories if self.new_categories is None else self.new_categories


def plan_fits(protocol: str, categories: Sequence[str]) -> list[Fit]:
    """Plan one fit per category (`separate`) or one fit for all categories (`unified`, `continual`)."""
    if protocol == "separate":
        return [Fit(category, (category,)) for category in categories]
    if protocol in ("unified", "continual"):
        return [Fit(protocol, tuple(categories))]
    raise AnoframeError(f"unknown protocol {protocol!r}: {suggest(protocol, PROTOCOLS)}")


def plan_tasks(cfg: ConfigDict) -> list[Task]:
    """Return the tasks of the stream that a config describes; raises AnoframeError if it describes none."""
    return parse_tasks(cfg.protocol.tasks, cfg.categories, cfg.protocol.order_seed)


def config_for_run(cfg: ConfigDict, categories: Sequence[str] | None) -> ConfigDict:
    """Copy a config for a run: categories filled in, a renamed `protocol.strategy` replaced by its present name.

    Args:
        cfg: from `load_config`; it is not changed.
        categories: names, or `["all"]`; None takes those in the config.

    Raises:
        AnoframeError: no category is given, or the categories are not those of the stream.
    """
    own = cfg.copy_and_resolve_references()
    if categories is not None:
        check_text(categories, "categories", "arguments")
        own.categories = tuple(categories)
    own.protocol.strategy = strategy_name(own.protocol.strategy)
    if own.protocol.name == "continual" and own.protocol.tasks:
        own.categories = _categories_of_stream(own)
    if not own.categories:
        raise AnoframeError("no category given: --cls_names NAME [NAME ...], or --cls_names all")
    return own


def choose_shape(cfg: ConfigDict) -> list[str]:
    """Replace `data.keep_aspect "rectangle"` by the size that fits to the training images.

    The rectangle has the median aspect ratio of all training images of the run, and about the number of pixels of
    `data.crop`; the whole photograph is resized to it. Where it is a square, `data.resize` and `data.crop` stay. A pair
    of height and width in the config is the rectangle.

    Args:
        cfg: from `config_for_run`; it is changed.

    Returns:
        A remark if categories of the run would have other rectangles by themselves.

    Raises:
        AnoframeError: the dataset cannot be read.
    """
    data = cfg.data
    if data.keep_aspect != RECTANGLE:
        return []
    size: int | tuple[int, int] = data.crop
    remarks: list[str] = []
    if isinstance(data.resize, int) and isinstance(data.crop, int):
        size, remarks = _fitting_size(cfg)
    with cfg.ignore_type():
        if size not in (data.crop, (data.crop, data.crop)):
            if "image_size" in cfg.get("model", {}) and cfg.model.image_size == data.crop:
                cfg.model.image_size = size  # follows data.crop, as in the shipped configs
            data.resize = data.crop = size
        data.keep_aspect = False
    return remarks


def _fitting_size(cfg: ConfigDict) -> tuple[tuple[int, int], list[str]]:
    """Return height and width for the training images of a run, and a remark if its categories differ."""
    dataset, images = open_run_dataset(cfg), {}
    for category in resolve_categories(dataset, cfg):
        images[category] = [s.image for s in dataset.samples(category) if s.split == "train"]
    aspects = {category: read_aspects(files) for category, files in images.items()}
    size = rectangle([aspect for values in aspects.values() for aspect in values], cfg.data.crop)
    others = {category: own for category, v in aspects.items() if (own := rectangle(v, cfg.data.crop)) != size}
    if not others:
        return size, []
    names = ", ".join(f"{category} ({height} x {width})" for category, (height, width) in others.items())
    return size, [
        f"all categories of this run are resized to {size[0]} x {size[1]}, which is not the shape of {names}: run them "
        "by themselves to give each its own"
    ]


def check_categories(cfg: ConfigDict, categories: Sequence[str] | None) -> None:
    """Check that the dataset and the categories of a run exist, without torch.

    Raises:
        AnoframeError: unknown dataset, missing folder, or unknown category.
    """
    own = config_for_run(cfg, categories)
    resolve_categories(open_run_dataset(own), own)


def open_run_dataset(cfg: ConfigDict) -> Dataset:
    """Open the dataset that a config names, divided by its split.

    Raises:
        AnoframeError: it is not on disk, or the keys of the split are wrong.
    """
    normal_split = NormalSplit(cfg.data.train_share, cfg.data.split_seed)
    return open_dataset(cfg.data.name, cfg.data.root or Path("data") / cfg.data.name, normal_split, split_of(cfg))


def split_of(cfg: ConfigDict) -> Split:
    """Return the split that a config names.

    The seed of the run draws the images of `few_shot`, so that runs of several seeds average several draws;
    `data.split_seed` draws those of the other splits, which all seeds share.

    Raises:
        AnoframeError: `data.split` is unknown, or `data.shots` does not fit to it.
    """
    data = cfg.data
    if data.split == OFFICIAL:
        return Split(shots=data.shots)
    return Split(data.split, cfg.seed if data.split == FEW_SHOT else data.split_seed, data.shots)


def resolve_categories(dataset: Dataset, cfg: ConfigDict) -> list[str]:
    """Replace "all" by the categories on disk and check every name.

    Raises:
        AnoframeError: a category is not in the dataset. For a named stream the message says which dataset it needs.
    """
    try:
        return choose_categories(dataset, cfg.categories)
    except AnoframeError as error:
        tasks = cfg.protocol.tasks.strip()
        if cfg.protocol.name != "continual" or tasks not in STREAMS:
            raise
        raise AnoframeError(
            f"protocol.tasks {tasks} is a stream of {STREAMS[tasks][0].name}: set --data.name and --data.root to that "
            f"dataset, or give tasks of this one as in 'a,b;c;d'; {error}"
        ) from error


def _categories_of_stream(cfg: ConfigDict) -> tuple[str, ...]:
    """Return the categories of `protocol.tasks`; raises AnoframeError if the config names other categories."""
    names = tuple(name for task in parse_tasks(cfg.protocol.tasks) for name in task)
    given = set(cfg.categories) - {"all"}
    if given and given != set(names):
        differing = ", ".join(sorted(given ^ set(names)))
        raise AnoframeError(f"--cls_names and protocol.tasks differ in {differing}: leave out --cls_names")
    return names
