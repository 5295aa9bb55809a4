"""What a run folder says of its run. Everything in it is data: names are checked before they become paths."""

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
from anoframe.evaluation.results import CHOSEN_ON_TEST, Metrics
from anoframe.report.number_checks import finite, metrics_of
from anoframe.report.stream_record import Stream, stream_of
from anoframe.types import GOOD
from anoframe.utils.files import read_json

Curve = dict[str, list[float]]  # "x" and "y"
PICTURE_INDEX = "pictures.json"


@dataclass(frozen=True)
class Scored:
    """One test image."""

    name: str
    defect: str
    score: float

    @property
    def is_defect(self) -> bool:
        return self.defect != GOOD

    def outcome(self, threshold: float | None) -> str:
        """`missed`, `false alarm`, `found` or `passed`; empty where nothing was decided."""
        if threshold is None:
            return ""
        flagged = bool(is_defect(self.score, threshold))
        if self.is_defect:
            return "found" if flagged else "missed"
        return "false alarm" if flagged else "passed"


WRONG = ("missed", "false alarm")


@dataclass(frozen=True)
class Picture(Scored):
    """A strip in `pictures/`, and what it shows."""

    path: Path
    kind: str  # worst, borderline or best


@dataclass
class Category:
    """What is known of one category; what is None or empty was not written."""

    name: str
    metrics: Metrics = field(default_factory=dict)
    failed: str | None = None  # the reason
    counts: Mapping[str, int] = field(default_factory=dict)
    threshold: Mapping[str, Any] | None = None
    images: list[Scored] | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    has_results: bool = False  # whether there is a results/<category>.json

    @property
    def limit(self) -> float | None:
        """The image score at which an image is a defect."""
        return None if self.threshold is None else float(self.threshold["image"])

    def decided(self) -> dict[str, int]:
        """How many images each outcome has; empty where nothing was decided."""
        found = {"missed": 0, "false alarm": 0, "found": 0, "passed": 0}
        if self.limit is None or self.images is None:
            return {}
        for image in self.images:
            found[image.outcome(self.limit)] += 1
        return found


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a phase gave."""

    number: int  # from 1
    losses: Mapping[str, float]  # means over its images
    lr: float
    images_per_second: float
    seconds: float
    data_seconds: float  # of these, waiting for data


@dataclass(frozen=True)
class Look:
    """Metrics on the test images after an epoch of a phase, a category each."""

    phase: str
    epoch: int
    metrics: Mapping[str, Metrics]


@dataclass
class FitCurves:
    """How one detector was trained, or in `remark` why that is not known."""

    fit: str
    phases: list[tuple[str, list[Epoch]]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    remark: str = ""


@dataclass(frozen=True)
class StageTotal:
    """What one stage of the run took."""

    name: str
    seconds: float
    peak_bytes: int
    gpu_peak_bytes: int


@dataclass
class RunRecord:
    """A run as its folder has it."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    run: dict[str, Any]
    mean: Metrics
    provenance: dict[str, Any]
    categories: list[Category]
    stages: list[StageTotal]
    training: list[FitCurves] = field(default_factory=list)
    stream: Stream | None = None  # of a continual run

    @property
    def name(self) -> str:
        return str(self.config.get("config_name") or self.folder.name)

    @property
    def chosen_on_test(self) -> bool:
        """Whether test metrics decided which epoch is reported."""
        return self.provenance.get("selected") == CHOSEN_ON_TEST

    @property
    def evaluated(self) -> list[Category]:
        return [category for category in self.categories if category.metrics]


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder, finished or not, of this version or an earlier one.

    Raises:
        AnoframeError: it is no run folder, a file of it is damaged, or a picture's name leads out of its folder.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise AnoframeError(f"{folder} is not a run folder, it has no config.yaml: give one that a run has written")
    text, config = _config(folder / "config.yaml")
    metrics, run = _optional(folder / "metrics.json"), _optional(folder / "run.json")
    with _damage_in(folder / "metrics.json"):
        measured = {name: metrics_of(values) for name, values in metrics.get("categories", {}).items()}
        mean = metrics_of(metrics.get("mean", {}))
        provenance = _with_objects(metrics.get("provenance", {}), "data", "backbone", "versions", "counts", "trainer")
        counts = {name: dict(values) for name, values in provenance.get("counts", {}).items()}
    with _damage_in(folder / "run.json"):
        failed = {name: str(reason) for name, reason in (run.get("failed") or {}).items()}
        run = _with_objects(run, "machine")
        stages = [_stage(name, values) for name, values in (run.get("stages") or {}).items()]
    stream = _stream(folder / "results" / STREAM)
    written = sorted(p.stem for p in (folder / "results").glob("*.json") if stream is None or p.name != STREAM)
    categories = []
    for name in dict.fromkeys([*measured, *written, *failed]):
        category = Category(name, measured.get(name, {}), failed.get(name), counts.get(name, {}))
        _read_results(folder, category)
        category.pictures = list(_pictures(folder, name))
        categories.append(category)
    training = list(_training(folder, "trainer" in provenance))
    return RunRecord(folder, config, text, run, mean, provenance, categories, stages, training, stream)


def _stream(path: Path) -> Stream | None:
    """What a continual run gave; None for any other, where a category may have that name."""
    tree = _optional(path)
    if "cl_metrics" not in tree:
        return None
    with _damage_in(path):
        return stream_of(tree)


def _stage(name: str, values: Mapping[str, Any]) -> StageTotal:
    return StageTotal(
        name,
        finite(values["seconds"]),
        int(finite(values.get("peak_bytes") or 0)),
        int(finite(values.get("gpu_peak_bytes") or 0)),
    )


def _read_results(folder: Path, category: Category) -> None:
    path = _inside(folder / "results", f"{category.name}.json", "a category")
    tree = _optional(path)
    if not tree:
        return
    with _damage_in(path):
        category.has_results = True
        category.metrics = category.metrics or metrics_of(tree.get("metrics") or {})
        category.counts = category.counts or dict(tree.get("counts") or {})
        category.curves = {name: _curve(curve) for name, curve in (tree.get("curves") or {}).items() if curve}
        category.threshold = tree.get("threshold")
        if category.threshold is not None:
            finite(category.threshold["image"])
        rows = tree.get("images")
        category.images = None if rows is None else [_scored(row) for row in rows]


# ------------------------------------------------------------------------------------------------ training


def _training(folder: Path, trained: bool) -> Iterator[FitCurves]:
    """Curves of each fit. They explain a result and are no part of it: damaged or missing ones are a remark."""
    written = {path.stem for path in (folder / "training").glob("*.json") if path.is_file()}
    learned = {path.parent.name for path in (folder / "checkpoint").glob("*/detector.json")} if trained else set()
    for fit in sorted(written | learned):
        try:
            yield _fit_curves(folder, fit)
        except AnoframeError as error:
            yield FitCurves(fit, remark=str(error).replace(f"{folder}/", ""))  # a page tells nobody where it was made


def _fit_curves(folder: Path, fit: str) -> FitCurves:
    path = _inside(folder / "training", f"{fit}.json", "a fit")
    tree = _optional(path)
    if not tree:
        return FitCurves(fit, remark=f"this run folder does not hold them (training/{fit}.json)")
    with _damage_in(path):
        phases = [(_title(phase), _epochs(phase["epochs"])) for phase in tree["phases"]]
        return FitCurves(fit, phases, [_look(row) for row in tree.get("looks") or []])


def _title(phase: Mapping[str, Any]) -> str:
    """By which its looks name a phase too."""
    return f"{phase['name']} {phase.get('label', '')}".rstrip()


def _epochs(rows: Iterable[Mapping[str, Any]]) -> list[Epoch]:
    epochs = [_epoch(row) for row in rows]
    numbers = [epoch.number for epoch in epochs]
    if numbers != sorted(set(numbers)):
        raise ValueError("epochs of a phase do not follow each other")
    return epochs


def _epoch(row: Mapping[str, Any]) -> Epoch:
    rates = {name: finite(row[name]) for name in ("lr", "images_per_second", "seconds", "data_seconds")}
    if min(rates.values()) < 0:
        raise ValueError(f"an epoch has {min(rates, key=lambda name: rates[name])} below 0")
    losses = {str(name): finite(value) for name, value in row["losses"].items()}
    return Epoch(_number_of_epoch(row), losses, **rates)


def _look(row: Mapping[str, Any]) -> Look:
    metrics = {str(category): metrics_of(values) for category, values in row["metrics"].items()}
    if not all(0 <= value <= 1 for values in metrics.values() for value in values.values() if value is not None):
        raise ValueError("a metric of a look leaves [0, 1]")
    return Look(str(row["phase"]), _number_of_epoch(row), metrics)


def _number_of_epoch(row: Mapping[str, Any]) -> int:
    number = row["epoch"]
    if type(number) is not int or number < 1:
        raise ValueError(f"epoch {number!r} is no number of an epoch")
    return number


# ------------------------------------------------------------------------------------------------ checks


def _with_objects(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The tree, with what is to hold keys and values of its own checked to do so."""
    for key in keys:
        if not isinstance(tree.get(key, {}), dict):
            raise TypeError(f"{key} holds {type(tree[key]).__name__}, expected keys and values")
    return dict(tree)


def _curve(curve: Mapping[str, Any]) -> Curve:
    x, y = ([finite(value) for value in curve[axis]] for axis in ("x", "y"))
    if len(x) != len(y):
        raise ValueError(f"a curve has {len(x)} x and {len(y)} y")
    if not all(0 <= value <= 1 for value in x + y) or x != sorted(x):
        raise ValueError("a curve leaves the unit square, or turns back")
    return {"x": x, "y": y}


def _scored(row: Mapping[str, Any]) -> Scored:
    return Scored(str(row["name"]), str(row["defect"]), finite(row["score"]))


def _pictures(folder: Path, category: str) -> Iterator[Picture]:
    home = _inside(folder / "pictures", category, "a category")
    index = home / PICTURE_INDEX
    rows = read_json(index) if index.is_file() else []
    with _damage_in(index):
        for row in rows:
            path = _inside(home, row["file"], "a picture")
            yield Picture(str(row["name"]), str(row["defect"]), finite(row["score"]), path, str(row["kind"]))


def _inside(home: Path, name: Any, what: str) -> Path:
    """The file of that name in a folder, and in no other: neither by its name nor through a link."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
    path = home / name if plain else home
    if not plain or path.resolve().parent != home.resolve():
        raise AnoframeError(f"{home}: the name of {what}, {name!r}, leads out of this folder: mend or remove it")
    return path


def _config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnoframeError(f"{path} is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path} is damaged: it holds {type(tree).__name__}, expected keys and values")
    return text, tree


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file."""
    tree = read_json(path) if path.is_file() else {}
    if not isinstance(tree, dict):
        raise AnoframeError(f"{path} is damaged: it holds {type(tree).__name__}, expected keys and values")
    return tree


@contextmanager
def _damage_in(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnoframeError(
            f"{path} is damaged ({type(error).__name__}: {error}): restore it, or run the category again"
        ) from error
