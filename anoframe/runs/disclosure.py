"""What stands beside every result of a run: protocol tag, held-out counts, notes, and where a transfer comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from anoframe.data.fingerprint import FileHashes
from anoframe.data.splits import Split, relative_name
from anoframe.data.validation_report import CategoryReport
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector
from anoframe.runs.protocols import Fit
from anoframe.training.checkpoint import Checkpoint
from anoframe.types import Sample

RANDOM_WEIGHTS = "the backbone weights are random: the figures say nothing about accuracy"


def disclose(
    detector: Detector, split: Split, counts: Sequence[CategoryReport], tested: Checkpoint | None = None
) -> dict[str, Any]:
    """Return the keys of the provenance that tell how results may be compared; without keys that say nothing.

    Args:
        detector: of the run.
        split: of its data.
        counts: of each category, after the split.
        tested: the checkpoint of a run that only tests; it keeps the tag of the run that trained it.

    Returns:
        Of `protocol_tag`, `held_out` (category -> number of `good` and `defect` test images), `notes` and
        `transfer_from` (the trained categories, if another one is tested).
    """
    facts: dict[str, Any] = {}
    if detector.is_supervised:
        facts["protocol_tag"] = (tested.training.get("protocol_tag") if tested else None) or split.protocol_tag
    if detector.is_supervised or split.trains_on_defects:
        facts["held_out"] = {c.name: {"good": c.test_good, "defect": sum(c.defects.values())} for c in counts}
    if notes := list_notes(detector):
        facts["notes"] = notes
    if tested and any(category.name not in tested.categories for category in counts):
        facts["transfer_from"] = list(tested.categories)
    return facts


def list_notes(detector: Detector) -> list[str]:
    """List the sentences that stand beside every result: on random weights, then those of the detector."""
    describe = getattr(detector.backbone, "describe", None)
    is_random = describe is not None and str(describe().get("weights", "")).startswith("random")
    return [*([RANDOM_WEIGHTS] if is_random else []), *detector.notes()]


def check_training_defects(
    detector: Detector, split: Split, fits: Iterable[Fit], counts: Sequence[CategoryReport]
) -> None:
    """Check that each fit of a supervised detector has defects to learn from.

    Raises:
        AnoframeError: names the detector, the categories, the split and the way out.
    """
    if not detector.is_supervised:
        return
    defects = {category.name: category.train_defects for category in counts}
    for fit in fits:
        if not any(defects[name] for name in fit.training_categories):
            remedy = "--data.split raml trains on 80 % of the test images, and tests on the others"
            if split.trains_on_defects:
                remedy = "it needs two or more images of defects, of one type for raml_grouped: add images"
            raise AnoframeError(
                f"{type(detector).__name__} learns from labelled defects, and the training images of "
                f"{', '.join(fit.training_categories)} have none with data.split {split.name}: {remedy}"
            )


def check_not_trained_on(samples: Iterable[Sample], files: FileHashes, trained: FileHashes, root: Path) -> None:
    """Check that no test image was a training image of a supervised detector, by content.

    Args:
        samples: of the test.
        files: hashes of their files.
        trained: hashes of the files of the run that trained the detector.
        root: of the dataset of the samples.

    Raises:
        AnoframeError: names the first such image, their number and the way out.
    """
    names = {digest: name for parts in trained.values() for name, digest in parts.get("train", {}).items()}
    tested = {relative_name(s.image, root): s.category for s in samples if s.split == "test"}
    digests = {name: files.get(category, {}).get("test", {}).get(name, "") for name, category in tested.items()}
    leaked = [(name, names[digest]) for name, digest in digests.items() if digest in names]
    if leaked:
        name, original = leaked[0]
        raise AnoframeError(
            f"{len(leaked)} of {len(tested)} test images are images that this supervised detector was trained on, the "
            f"first is {name} (trained on as {original}): test it on its held-out images with --data.split raml, or "
            "whatever split and data.split_seed it was trained with, or on other data"
        )
