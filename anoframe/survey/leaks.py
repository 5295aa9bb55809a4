"""No encoder of a survey was trained on a test image of its evaluations, by the SHA-256 of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anoframe.data.file_checks import THREADS
from anoframe.errors import AnoframeError
from anoframe.runs.folder import recorded_files
from anoframe.runs.plan import Plan
from anoframe.runs.pretraining_plan import PROTOCOL as PRETRAINING
from anoframe.runs.probe_run import PROTOCOL as PROBE
from anoframe.runs.probe_run import ProbePlan

_SHOWN = 3  # images in a message


def hash_test_images(plans: Iterable[Plan | ProbePlan]) -> dict[str, str]:
    """Hash the test images of evaluations: hash -> name of the image."""
    hashes: dict[str, str] = {}
    for plan in plans:
        if isinstance(plan, ProbePlan):
            hashes |= {content: name for name, content in plan.files[PROBE]["test"].items()}
        else:
            hashes |= _detector_images(plan)
    return hashes


def _detector_images(plan: Plan) -> dict[str, str]:
    samples = [sample for category in plan.categories for sample in plan.dataset.samples(category)]
    paths = [sample.image for sample in samples if sample.split == "test"]
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(pool.map(_hash, paths), map(str, paths), strict=True))


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise AnoframeError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error


def check_not_trained_on(encoder: str, trained: Iterable[str], tests: Mapping[str, str]) -> None:
    """Check the images that an encoder was or will be trained on.

    Args:
        encoder: name of it.
        trained: hashes of its training images.
        tests: hash -> name of the test images.

    Raises:
        AnoframeError: some are test images.
    """
    if leaked := [tests[content] for content in dict.fromkeys(trained) if content in tests]:
        more = ", ..." if len(leaked) > _SHOWN else ""
        raise AnoframeError(
            f"encoder {encoder} is trained on {len(leaked)} test image{'s' * (len(leaked) > 1)} of the survey: "
            f"{', '.join(leaked[:_SHOWN])}{more}. Leave them out with data.exclude and train it again"
        )


def recorded_training_images(export: Path) -> list[str] | None:
    """Return the hashes of the training images of an exported encoder; None if it lies beside no run that has them."""
    folder = export if export.is_dir() else export.parent
    files = recorded_files(folder).get(PRETRAINING)
    return None if files is None else list(files.get("train", {}).values())
