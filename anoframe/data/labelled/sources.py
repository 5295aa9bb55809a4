"""Sources of labelled images by their names, `KIND:PATH`, and the exclusion of test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.labelled.base import ImageFiles, JoinedImages, LabelledImages, SelectedImages, manifest_hash
from anoframe.errors import AnoframeError, suggest
from anoframe.registry import DATASETS, LABELLED
from anoframe.utils.paths import expand_path


@dataclass(frozen=True)
class TrainingSet:
    """Images for pretraining, without those of any test split.

    Attributes:
        images: in the order of the sources.
        hashes: SHA-256 of the content of each.
        manifest: hash of all contents and classes.
        excluded: number of images that were left out because they are test images, by the source of the test split.
    """

    images: SelectedImages
    hashes: list[str]
    manifest: str
    excluded: dict[str, int] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """State how many images were left out."""
        return [
            f"{count} training image{'s are' if count > 1 else ' is'} left out: also in the test split of {source}"
            for source, count in self.excluded.items()
            if count
        ]


def open_training_set(sources: Sequence[str], exclude: Sequence[str], reader: Reader, workers: int = 0) -> TrainingSet:
    """Open the union of sources without the images of test splits, which are compared by the hash of their content.

    The test splits are those of the sources themselves and of `exclude`. An image that was saved again in another
    format or size has another hash and is not recognised.

    Args:
        sources: `KIND:PATH` each.
        exclude: `KIND:PATH` of further data whose test images are left out; of the kind `images` all images.
        reader: of the image files.
        workers: processes that draw views.

    Raises:
        AnoframeError: an unknown kind, a missing path, or no image left.
    """
    images = JoinedImages([open_source(source, "train", reader) for source in sources])
    hashes = images.hashes()
    owner: dict[str, str] = {}
    for source in (*(source for source in sources if has_test_split(source)), *exclude):
        for content in open_source(source, "test", reader).hashes():
            owner.setdefault(content, source)
    kept = [row for row, content in enumerate(hashes) if content not in owner]
    if not kept:
        raise AnoframeError(
            f"no image left to train on, of {len(images)} in {', '.join(sources)}: add images, or shorten data.exclude"
        )
    excluded = {source: 0 for source in exclude}
    for content in hashes:
        if content in owner:
            excluded[owner[content]] = excluded.get(owner[content], 0) + 1
    selected = SelectedImages(images, kept, workers)
    own_hashes = [hashes[row] for row in kept]
    return TrainingSet(selected, own_hashes, manifest_hash(selected, own_hashes), excluded)


def open_source(source: str, split: str, reader: Reader) -> LabelledImages:
    """Open one source.

    Args:
        source: `KIND:PATH`; a kind of `LABELLED`, or a dataset, of which the train split has normal images only.
        split: `"train"` or `"test"`; STL-10 also has `"unlabeled"`. The kind `images` has no split.
        reader: of image files, and its preprocessing for arrays.

    Raises:
        AnoframeError: an unknown kind, or a path that does not exist or holds other data.
    """
    kind, path = _parse(source)
    if kind in DATASETS.names():
        dataset = open_dataset(kind, path)
        samples = [s for category in dataset.categories for s in dataset.samples(category) if s.split == split]
        return ImageFiles(samples, reader)
    root = expand_path(path, "data.root")
    if not root.exists():
        raise AnoframeError(f"{source}: {root} does not exist; correct --data.root, data.also or data.exclude")
    images: LabelledImages = LABELLED.build(kind, root=root, split=split, reader=reader)
    return images


def has_test_split(source: str) -> bool:
    """Return whether the images of a source are only a part of its data."""
    kind, path = _parse(source)
    if kind == "classes":
        root = expand_path(path, "data.root")
        return (root / "train").is_dir() and any((root / name).is_dir() for name in ("test", "val"))
    return kind not in ("images", "stl10_unlabeled")


def _parse(source: str) -> tuple[str, str]:
    kind, colon, path = source.partition(":")
    kinds = list(kind_names())
    if not colon or not path:
        raise AnoframeError(f"a source of images is written KIND:PATH, got {source!r}: KIND is {', '.join(kinds)}")
    if kind not in kinds:
        raise AnoframeError(f"unknown kind of images {kind!r} in {source!r}: {suggest(kind, kinds)}")
    return kind, path


def kind_names() -> Iterable[str]:
    """Return all kinds of sources."""
    return (*LABELLED.names(), *DATASETS.names())
