"""Content of a run folder, read and checked. It is untrusted data: names are checked before they become paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anoframe.continual.results import STREAM
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.evaluation.disclosure import check_disclosure
from anoframe.evaluation.results import CHOSEN_ON_TEST, Metrics
from anoframe.models.summary import MethodSummary
from anoframe.report.class_record import ClassRecord, ExemplarStrip, read_class_record
from anoframe.report.method_record import read_summary
from anoframe.report.number_checks import finite, read_metrics
from anoframe.report.stream_record import Stream, read_stream
from anoframe.types import GOOD
from anoframe.utils.files import read_json

Curve = dict[str, list[float]]  # "x" and "y"
PICTURE_INDEX, REFERENCE_INDEX = "pictures.json", "references.json"  # in the folder of a category
EXEMPLARS, EXEMPLAR_INDEX = "exemplars", "exemplars.json"  # folder below `pictures/`, and its index
_PROVENANCE_OBJECTS = ("data", "backbone", "versions", "counts", "trainer", "data_fingerprint")
WRONG = ("missed", "false alarm")  # outcomes


@dataclass(frozen=True)
class Scored:
    """Score of a test image.

    Attributes:
        name: file name, with its folder.
        defect: defect type, or "good".
        score: image score.
    """

    name: str
    defect: str
    score: float

    @property
    def is_defect(self) -> bool:
        return self.defect != GOOD

    def outcome(self, threshold: float | None) -> str:
        """Return `missed`, `false alarm`, `found` or `passed`; an empty string without a threshold."""
        if threshold is None:
            return ""
        flagged = bool(is_defect(self.score, threshold))
        if self.is_defect:
            return "found" if flagged else "missed"
        return "false alarm" if flagged else "passed"


@dataclass(frozen=True)
class Picture(Scored):
    """A file in `pictures/`, and the test image that it shows.

    Attributes:
        path: the file.
        kind: why it was selected: `worst`, `borderline` or `best`.
    """

    path: Path
    kind: str


@dataclass(frozen=True)
class Reference:
    """A file in `pictures/` that shows a training image of a few-shot run, and the name of that image."""

    name: str
    path: Path


@dataclass
class Category:
    """Results of one category; None or empty where the run folder has none.

    Attributes:
        failed: why the category has no metrics.
        counts: number of images per split.
        threshold: the stored threshold, with how it was set.
        images: scores of the test images.
        curves: `roc`, `pr`, `pro`, `pixel_roc`, `pixel_pr`, where available.
        method_summary: summary of the method; None if it reported nothing or the run is continual.
    """

    name: str
    metrics: Metrics = field(default_factory=dict)
    failed: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    threshold: Mapping[str, Any] | None = None
    images: list[Scored] | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    method_summary: MethodSummary | None = None

    @property
    def image_threshold(self) -> float | None:
        """The image score from which on an image is a defect."""
        return None if self.threshold is None else float(self.threshold["image"])

    def count_outcomes(self) -> dict[str, int]:
        """Count the test images per outcome; empty without a threshold or scores."""
        counts = {"missed": 0, "false alarm": 0, "found": 0, "passed": 0}
        if self.image_threshold is None or self.images is None:
            return {}
        for image in self.images:
            counts[image.outcome(self.image_threshold)] += 1
        return counts


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training stage.

    Attributes:
        number: from 1.
        losses: mean of each loss over the images of the epoch.
        measurements: means of values that were reported and not trained on.
        lr: learning rate at its end.
        seconds: duration.
        data_seconds: time spent waiting for data.
    """

    number: int
    losses: Mapping[str, float]
    lr: float
    images_per_second: float
    seconds: float
    data_seconds: float
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TestEvaluation:
    """Metrics on the test images, measured during training.

    Attributes:
        phase: title of the training stage.
        epoch: its epoch, from 1.
        metrics: category -> metrics.
    """

    __test__ = False  # not a test class of pytest

    phase: str
    epoch: int
    metrics: Mapping[str, Metrics]


@dataclass
class TrainingCurves:
    """Training curves of one fit, or in `remark` why there are none.

    Attributes:
        fit: name of the fit.
        phases: (title, epochs) of each training stage.
        evaluations: evaluations on the test set during training.
    """

    fit: str
    phases: list[tuple[str, list[Epoch]]] = field(default_factory=list)
    evaluations: list[TestEvaluation] = field(default_factory=list)
    remark: str = ""


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
    metrics, run = _read_object(folder / "metrics.json"), _read_object(folder / "run.json")
    with _naming_file(folder / "metrics.json"):
        measured = {name: read_metrics(values) for name, values in metrics.get("categories", {}).items()}
        mean = read_metrics(metrics.get("mean", {}))
        has_no_detector = run.keys() & {"encoder", "probes", "classifier"}  # so there is no metrics.json
        known = run.get("provenance", {}) if has_no_detector else {}
        provenance = _with_objects(metrics.get("provenance", known), *_PROVENANCE_OBJECTS)
        check_disclosure(provenance)
        counts = {name: dict(values) for name, values in provenance.get("counts", {}).items()}
    with _naming_file(folder / "run.json"):
        failed = {name: str(reason) for name, reason in (run.get("failed") or {}).items()}
        run = _with_objects(run, "machine")
        stages = [_stage(name, values) for name, values in (run.get("stages") or {}).items()]
    stream, classes = _read_stream_file(folder)
    written = sorted(p.stem for p in (folder / "results").glob("*.json") if stream is None or p.name != STREAM)
    categories = []
    for name in dict.fromkeys([*measured, *written, *failed]):
        category = Category(name, measured.get(name, {}), failed.get(name), counts.get(name, {}))
        _add_results(folder, category)
        category.pictures = list(_pictures(folder, name))
        category.references = list(_references(folder, name))
        categories.append(category)
    training = list(_training(folder, "trainer" in provenance))
    return RunRecord(folder, config, text, run, mean, provenance, categories, stages, training, stream, classes)


def _read_stream_file(folder: Path) -> tuple[Stream | None, ClassRecord | None]:
    """Results of a stream; None for other runs, where a category may have the name of this file."""
    path = folder / "results" / STREAM
    tree = _read_object(path)
    if "cl_metrics" not in tree:
        return None, None
    with _naming_file(path):
        stream, classes = read_stream(tree), read_class_record(tree)
    if classes is not None:
        classes.strips.extend(_exemplar_strips(folder))
    return stream, classes


def _exemplar_strips(folder: Path) -> Iterator[ExemplarStrip]:
    place = folder / "pictures" / EXEMPLARS
    index = place / EXEMPLAR_INDEX
    rows = read_json(index) if index.is_file() else []
    with _naming_file(index):
        for row in rows:
            path = _path_inside(place, row["file"], "picture")
            yield ExemplarStrip(str(row["class"]), path, int(row["shown"]), int(row["images"]))


def _stage(name: str, values: Mapping[str, Any]) -> StageTotal:
    return StageTotal(
        name,
        finite(values["seconds"]),
        int(finite(values.get("peak_bytes") or 0)),
        int(finite(values.get("gpu_peak_bytes") or 0)),
    )


def _add_results(folder: Path, category: Category) -> None:
    """Add the content of `results/<category>.json`, if there is one."""
    path = _path_inside(folder / "results", f"{category.name}.json", "category")
    tree = _read_object(path)
    if not tree:
        return
    with _naming_file(path):
        category.metrics = category.metrics or read_metrics(tree.get("metrics") or {})
        category.counts = category.counts or dict(tree.get("counts") or {})
        category.curves = {name: _curve(curve) for name, curve in (tree.get("curves") or {}).items() if curve}
        category.threshold = tree.get("threshold")
        if category.threshold is not None:
            finite(category.threshold["image"])
        rows = tree.get("images")
        category.images = None if rows is None else [_scored(row) for row in rows]
        summary = tree.get("method_summary")
        category.method_summary = None if summary is None else read_summary(summary)


# ------------------------------------------------------------------------------------------------ training


def _training(folder: Path, trained: bool) -> Iterator[TrainingCurves]:
    """Yield the curves of each fit. No result depends on them, so a damaged or missing file is a remark, no error."""
    written = {path.stem for path in (folder / "training").glob("*.json") if path.is_file()}
    fitted = {path.parent.name for path in (folder / "checkpoint").glob("*/detector.json")} if trained else set()
    for fit in sorted(written | fitted):
        try:
            yield _training_curves(folder, fit)
        except AnoframeError as error:
            yield TrainingCurves(fit, remark=str(error).replace(f"{folder}/", ""))  # no absolute paths in a report


def _training_curves(folder: Path, fit: str) -> TrainingCurves:
    path = _path_inside(folder / "training", f"{fit}.json", "fit")
    tree = _read_object(path)
    if not tree:
        return TrainingCurves(fit, remark=f"the run folder has no training/{fit}.json")
    with _naming_file(path):
        phases = [(_phase_title(phase), _epochs(phase["epochs"])) for phase in tree["phases"]]
        return TrainingCurves(fit, phases, [_test_evaluation(row) for row in tree.get("looks") or []])


def _phase_title(phase: Mapping[str, Any]) -> str:
    """The title by which evaluations name their stage as well."""
    return f"{phase['name']} {phase.get('label', '')}".rstrip()


def _epochs(rows: Iterable[Mapping[str, Any]]) -> list[Epoch]:
    epochs = [_epoch(row) for row in rows]
    numbers = [epoch.number for epoch in epochs]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"the epochs of a stage are not in order: {numbers}")
    return epochs


def _epoch(row: Mapping[str, Any]) -> Epoch:
    values = {name: finite(row[name]) for name in ("lr", "images_per_second", "seconds", "data_seconds")}
    if min(values.values()) < 0:
        raise ValueError(f"an epoch has {min(values, key=lambda name: values[name])} below 0")
    losses = {str(name): finite(value) for name, value in row["losses"].items()}
    measurements = {str(name): finite(value) for name, value in row.get("measurements", {}).items()}
    return Epoch(_epoch_number(row), losses, **values, measurements=measurements)


def _test_evaluation(row: Mapping[str, Any]) -> TestEvaluation:
    metrics = {str(category): read_metrics(values) for category, values in row["metrics"].items()}
    if not all(0 <= value <= 1 for values in metrics.values() for value in values.values() if value is not None):
        raise ValueError("a metric on the test set is outside [0, 1]")
    return TestEvaluation(str(row["phase"]), _epoch_number(row), metrics)


def _epoch_number(row: Mapping[str, Any]) -> int:
    number = row["epoch"]
    if type(number) is not int or number < 1:
        raise ValueError(f"epoch is {number!r}, expected a whole number from 1")
    return number


# ------------------------------------------------------------------------------------------------ checked reading


def _with_objects(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return the tree after checking that these keys, where present, hold JSON objects."""
    for key in keys:
        if not isinstance(tree.get(key, {}), dict):
            raise TypeError(f"{key} holds {type(tree[key]).__name__}, expected keys and values")
    return dict(tree)


def _curve(curve: Mapping[str, Any]) -> Curve:
    x, y = ([finite(value) for value in curve[axis]] for axis in ("x", "y"))
    if len(x) != len(y):
        raise ValueError(f"a curve has {len(x)} x and {len(y)} y")
    if not all(0 <= value <= 1 for value in x + y) or x != sorted(x):
        raise ValueError("a curve leaves the unit square, or its x does not rise")
    return {"x": x, "y": y}


def _scored(row: Mapping[str, Any]) -> Scored:
    return Scored(str(row["name"]), str(row["defect"]), finite(row["score"]))


def _pictures(folder: Path, category: str) -> Iterator[Picture]:
    category_folder = _path_inside(folder / "pictures", category, "category")
    index = category_folder / PICTURE_INDEX
    rows = read_json(index) if index.is_file() else []
    with _naming_file(index):
        for row in rows:
            path = _path_inside(category_folder, row["file"], "picture")
            yield Picture(str(row["name"]), str(row["defect"]), finite(row["score"]), path, str(row["kind"]))


def _references(folder: Path, category: str) -> Iterator[Reference]:
    category_folder = _path_inside(folder / "pictures", category, "category")
    index = category_folder / REFERENCE_INDEX
    rows = read_json(index) if index.is_file() else []
    with _naming_file(index):
        for row in rows:
            yield Reference(str(row["name"]), _path_inside(category_folder, row["file"], "picture"))


def _path_inside(folder: Path, name: Any, what: str) -> Path:
    """Return the path of a name in a folder; raise AnoframeError if the name or a link points outside it."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
    path = folder / name if plain else folder
    if not plain or path.resolve().parent != folder.resolve():
        raise AnoframeError(f"{folder}: the {what} name {name!r} points outside this folder: correct or remove it")
    return path


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnoframeError(f"{path} is damaged: {error}") from error
    return text, _object(path, tree)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file."""
    return _object(path, read_json(path)) if path.is_file() else {}


def _object(path: Path, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path} is damaged: it holds {type(tree).__name__}, expected keys and values")
    return tree


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    """Turn errors of reading damaged content into an AnoframeError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnoframeError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore it, or run the category again"
        ) from error
