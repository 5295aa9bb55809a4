"""Content of a run folder, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anoframe.continual.results import STREAM
from anoframe.errors import AnoframeError
from anoframe.evaluation.disclosure import check_disclosure
from anoframe.evaluation.results import CHOSEN_ON_TEST, Metrics
from anoframe.report.category_record import Category, read_category
from anoframe.report.checked_reading import check_object, check_objects, naming_file, path_inside, read_object
from anoframe.report.class_record import ClassRecord, ExemplarStrip, read_class_record
from anoframe.report.number_checks import finite, read_metrics
from anoframe.report.stream_record import Stream, read_stream
from anoframe.report.training_record import TrainingCurves, read_training
from anoframe.utils.files import read_json

EXEMPLARS, EXEMPLAR_INDEX = "exemplars", "exemplars.json"  # folder below `pictures/`, and its index
_PROVENANCE_OBJECTS = ("data", "backbone", "versions", "counts", "trainer", "data_fingerprint")


@dataclass(frozen=True)
class StageTotal:
    """Time and peak memory of one stage of the run."""

    name: str
    seconds: float
    peak_bytes: int
    gpu_peak_bytes: int


@dataclass
class RunRecord:
    """A run, as read from its folder.

    Attributes:
        config, config_text: `config.yaml`, parsed and as it is.
        run: `run.json`.
        mean: mean of each metric over the categories.
        provenance: of `metrics.json`.
        training: training curves of each fit.
        stream: results of a continual run; None for other runs.
        class_record: what a classifier of images measured besides; None for detectors.
    """

    folder: Path
    config: dict[str, Any]
    config_text: str
    run: dict[str, Any]
    mean: Metrics
    provenance: dict[str, Any]
    categories: list[Category]
    stages: list[StageTotal]
    training: list[TrainingCurves] = field(default_factory=list)
    stream: Stream | None = None
    class_record: ClassRecord | None = None

    @property
    def name(self) -> str:
        return str(self.config.get("config_name") or self.folder.name)

    @property
    def chosen_on_test(self) -> bool:
        """Whether the reported epoch was chosen by test metrics."""
        return self.provenance.get("selected") == CHOSEN_ON_TEST

    @property
    def evaluated(self) -> list[Category]:
        """Categories with metrics."""
        return [category for category in self.categories if category.metrics]


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder, finished or not, written by this version or an earlier one.

    Raises:
        AnoframeError: if it is not a run folder, a file is damaged, or a name points outside its folder.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise AnoframeError(f"{folder} is not a run folder, it has no config.yaml: give the folder of a run")
    text, config = _read_config(folder / "config.yaml")
    metrics, run = read_object(folder / "metrics.json"), read_object(folder / "run.json")
    with naming_file(folder / "metrics.json"):
        measured = {name: read_metrics(values) for name, values in metrics.get("categories", {}).items()}
        mean = read_metrics(metrics.get("mean", {}))
        has_no_detector = run.keys() & {"encoder", "probes", "classifier"}  # so there is no metrics.json
        known = run.get("provenance", {}) if has_no_detector else {}
        provenance = check_objects(metrics.get("provenance", known), *_PROVENANCE_OBJECTS)
        check_disclosure(provenance)
        counts = {name: dict(values) for name, values in provenance.get("counts", {}).items()}
    with naming_file(folder / "run.json"):
        failed = {name: str(reason) for name, reason in (run.get("failed") or {}).items()}
        run = check_objects(run, "machine")
        stages = [_stage(name, values) for name, values in (run.get("stages") or {}).items()]
    stream, classes = _read_stream_file(folder)
    written = sorted(p.stem for p in (folder / "results").glob("*.json") if stream is None or p.name != STREAM)
    categories = []
    for name in dict.fromkeys([*measured, *written, *failed]):
        category = Category(name, measured.get(name, {}), failed.get(name), counts.get(name, {}))
        read_category(folder, category)
        categories.append(category)
    training = list(read_training(folder, "trainer" in provenance))
    return RunRecord(folder, config, text, run, mean, provenance, categories, stages, training, stream, classes)


def _read_stream_file(folder: Path) -> tuple[Stream | None, ClassRecord | None]:
    """Results of a stream; None for other runs, where a category may have the name of this file."""
    path = folder / "results" / STREAM
    tree = read_object(path)
    if "cl_metrics" not in tree:
        return None, None
    with naming_file(path):
        stream, classes = read_stream(tree), read_class_record(tree)
    if classes is not None:
        classes.strips.extend(_exemplar_strips(folder))
    return stream, classes


def _exemplar_strips(folder: Path) -> Iterator[ExemplarStrip]:
    place = folder / "pictures" / EXEMPLARS
    index = place / EXEMPLAR_INDEX
    rows = read_json(index) if index.is_file() else []
    with naming_file(index):
        for row in rows:
            path = path_inside(place, row["file"], "picture")
            yield ExemplarStrip(str(row["class"]), path, int(row["shown"]), int(row["images"]))


def _stage(name: str, values: Mapping[str, Any]) -> StageTotal:
    return StageTotal(
        name,
        finite(values["seconds"]),
        int(finite(values.get("peak_bytes") or 0)),
        int(finite(values.get("gpu_peak_bytes") or 0)),
    )


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnoframeError(f"{path} is damaged: {error}") from error
    return text, check_object(path, tree)
