"""A run: one execution and its folder, from Python as from the command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anoframe.cache import KINDS, Cache, cache_root
from anoframe.config import ConfigDict, check_config, load_config, plain, save_config
from anoframe.config_files import config_of
from anoframe.data.check import check
from anoframe.data.dataset import Dataset, choose_categories, open_dataset
from anoframe.data.loader import load_image
from anoframe.data.reader import Reader
from anoframe.data.transforms import Preprocessing
from anoframe.detector import Detector
from anoframe.devices import choose_device
from anoframe.encoding import EncodedSamples
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.collect import CategoryPredictions, collect
from anoframe.evaluation.provenance import git_commit, machine, versions
from anoframe.evaluation.results import Metrics, Results, category_metrics, percent
from anoframe.files import inside, read_json, write_json
from anoframe.models import build_detector
from anoframe.report.write import write_category_pictures, write_report
from anoframe.tracking.clock import Clock
from anoframe.tracking.tracker import Console, JsonLines, Tracker, Trackers
from anoframe.trainers.checkpoint import Checkpoint, find_checkpoints, holder_of, load_checkpoint, save_checkpoint
from anoframe.trainers.learn import learn, seed_everything
from anoframe.trainers.protocols import Fit, plan_fits
from anoframe.types import Prediction, Sample

ImageLike = str | Path | Image.Image | np.ndarray
_PREPROCESSING = tuple(field.name for field in fields(Preprocessing))


# ------------------------------------------------------------------------------------------------ the doors


def train(
    cfg: ConfigDict,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    overwrite: bool = False,
) -> Run:
    """Fit a detector for each category (or one for all, by the protocol), evaluate it, write the run folder.

    Args:
        cfg: from `load_config`.
        categories: names, or `["all"]`; by default those in the config.
        output: parent of run folders.
        overwrite: start afresh where the run folder has results already.

    Raises:
        AnoframeError: whatever can be known to be wrong, before any work starts.
    """
    session = _Session(_with_categories(cfg, categories), output, overwrite)
    for fit in session.fits:
        session.learn(fit)
    return session.finish()


def test(
    checkpoint: str | Path,
    cfg: ConfigDict | None = None,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    overwrite: bool = False,
) -> Run:
    """Evaluate fitted detectors again, into a run folder of its own (`<seed>-test`).

    Args:
        checkpoint: a run folder or its `checkpoint/`.
        cfg: says what data to test on; by default the config of the run that the checkpoint is in. Its `model` section
            must be the one that the checkpoint was fitted with.
        categories, output, overwrite: as for `train`; by default all categories that the checkpoint learned.
    """
    folders = find_checkpoints(Path(checkpoint))
    cfg = load_config(config_of(checkpoint)) if cfg is None else cfg
    device = choose_device(cfg.device)
    loaded = [load_checkpoint(folder, device) for folder in folders.values()]
    learned = [category for one in loaded for category in one.categories]
    _check_same_model(cfg, loaded[0], Path(checkpoint))
    if list(categories or ["all"]) == ["all"]:
        categories = [category for category in cfg.categories if category in learned] or learned
    chosen = _with_categories(cfg, categories)
    for category in chosen.categories:
        if category not in learned:
            raise AnoframeError(f"{checkpoint} has not learned category {category!r}: {suggest(category, learned)}")
    chosen.seed = loaded[0].seed  # what a number says is how its detector was learned
    if any(len(one.categories) > 1 for one in loaded):
        chosen.protocol.name = "unified"
    session = _Session(chosen, output, overwrite, suffix="-test")
    for category in session.categories:
        session.evaluate(next(one for one in loaded if category in one.categories), category)
    return session.finish()


def load_run(path: str | Path) -> Run:
    """A run that was finished, to look at and to predict with.

    Raises:
        AnoframeError: no such folder, or no results in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise AnoframeError(f"there is no run folder {folder}")
    return Run(folder, load_config(folder), Results.read(folder))


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: where everything is.
        config: what was run, resolved.
        results: metrics and provenance.
    """

    folder: Path
    config: ConfigDict
    results: Results
    _loaded: dict[str, Checkpoint] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, Metrics]:
        """Category -> metric -> value in [0, 1], or None where it is not available."""
        return self.results.categories

    @property
    def mean(self) -> Metrics:
        return self.results.mean

    def timetable(self) -> str:
        """Seconds and peak memory a stage, as `run.json` has them."""
        stages = read_json(self.folder / "run.json")["stages"]
        lines = [f"{n:<10} {s['seconds']:8.1f} s  {s['peak_bytes'] / 1e9:6.2f} GB" for n, s in stages.items()]
        return "\n".join(["stage         seconds  peak memory so far", *lines])

    def predict(self, image: ImageLike, category: str | None = None) -> Prediction:
        """Score one image: a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]` or `[H, W, 4]`.

        Args:
            category: which detector to ask; needed where the run has several.

        Returns:
            Prediction with a score `[]` and an anomaly map `[H, W]` at the resolution the detector works at.
        """
        checkpoint = self._checkpoint(category)
        pixels = load_image(image, checkpoint.preprocessing)
        device = next(checkpoint.detector.buffers()).device
        prediction = checkpoint.detector.predict(pixels[None].to(device))
        extra = {name: maps[0].cpu() for name, maps in prediction.extra_maps.items()}
        return Prediction(prediction.score[0].cpu(), prediction.anomaly_map[0].cpu(), extra)

    def _checkpoint(self, category: str | None) -> Checkpoint:
        if not self._loaded:
            device = choose_device(self.config.device)
            self._loaded = {n: load_checkpoint(f, device) for n, f in find_checkpoints(self.folder).items()}
        if category is None and len(self._loaded) == 1:
            return next(iter(self._loaded.values()))
        learned = [name for one in self._loaded.values() for name in one.categories]
        if category is None:
            raise AnoframeError(f"this run has a detector a category, say which: {', '.join(learned)}")
        found = holder_of(list(self._loaded.values()), category)
        if found is None:
            raise AnoframeError(f"this run has not learned category {category!r}: {suggest(category, learned)}")
        return found


# ------------------------------------------------------------------------------------------------ one execution


class _Session:
    """What `train` and `test` share: everything checked first, then categories one by one, then the results."""

    def __init__(self, cfg: ConfigDict, output: str | Path, overwrite: bool, suffix: str = ""):
        _refuse_what_makes_no_sense(cfg)
        _refuse_what_comes_later(cfg)
        self.cfg = cfg
        self.device = choose_device(cfg.device)
        self.preprocessing = Preprocessing(**{name: cfg.data[name] for name in _PREPROCESSING})
        self.dataset = _open(cfg)
        self.categories = choose_categories(self.dataset, cfg.categories)
        cfg.categories = tuple(self.categories)  # config.yaml names them, whatever "all" means later
        self.fits = plan_fits(cfg.protocol.name, self.categories)
        report = check(self.dataset, self.categories, follow_links=cfg.data.follow_links)
        report.raise_if_broken()
        if not suffix:
            build_detector(plain(cfg.model), cfg.seed)  # a wrong name, argument or weights is told before any writing
        self.folder = run_folder(cfg, self.categories, output, suffix)
        _claim(self.folder, overwrite)
        save_config(cfg, self.folder / "config.yaml")
        self.tracker = Trackers(Console(), JsonLines(self.folder / "log.jsonl"))
        self.clock = Clock(self.tracker)
        images, self.features = _caches(cfg, self.tracker)
        self.reader = Reader(self.preprocessing, images)
        self.results = Results(provenance=_provenance(cfg, self.dataset.name))
        self.tracker.log("run", folder=str(self.folder), config=plain(cfg))
        for remark in report.remarks:
            self.tracker.log("warning", text=remark)

    def learn(self, fit: Fit) -> None:
        """Fit one detector, save it, and evaluate it on each of its categories."""
        seed_everything(self.cfg.seed)
        by_category = {c: self._samples(c, "train") for c in fit.categories}
        samples = [sample for chosen in by_category.values() for sample in chosen]
        self.tracker.log("fit", name=fit.name, images=len(samples))
        model = plain(self.cfg.model)
        with self.clock.stage("build"):
            detector = build_detector(model, self.cfg.seed).to(self.device).eval()
        learn(detector, self._encoded(detector, samples), len(samples), self.clock)
        counts = {category: len(chosen) for category, chosen in by_category.items()}
        fitted = Checkpoint(detector, self.preprocessing, model, self.cfg.seed, counts)
        with self.clock.stage("save"):
            save_checkpoint(self.folder / "checkpoint" / fit.name, fitted)
        for category in fit.categories:
            self.evaluate(fitted, category)

    def evaluate(self, fitted: Checkpoint, category: str) -> None:
        """Predict the test images of a category, measure, and draw."""
        samples = self._samples(category, "test")
        with self.clock.stage("predict"):
            batches = self._encoded(fitted.detector, samples)
            found = collect(fitted.detector, batches, len(samples), self.preprocessing.crop)
        with self.clock.stage("measure"):
            limits, thresholds = self.cfg.evaluation.aupro_limits, self.cfg.evaluation.pixel_thresholds
            metrics = category_metrics(found, limits, thresholds)
        with self.clock.stage("draw"):
            write_category_pictures(self.folder, category, found, self.reader, self.cfg.report.pictures)
        self._record(fitted, category, found, metrics)

    def finish(self) -> Run:
        """Write what the run found and show its table."""
        stages = {name: asdict(stage) for name, stage in self.clock.stages.items()}
        self.results.write(self.folder)
        write_json(self.folder / "run.json", {"machine": machine(), "device": str(self.device), "stages": stages})
        write_report(self.folder, self.cfg, self.results, stages)
        self.tracker.log("finished", metrics=self.results.mean)
        return Run(self.folder, self.cfg, self.results)

    def _record(self, fitted: Checkpoint, category: str, found: CategoryPredictions, metrics: Metrics) -> None:
        self.results.categories[category] = metrics
        self.results.provenance["backbone"] = fitted.detector.backbone.describe()  # type: ignore[operator]
        defects = int(found.labels.sum())
        counts = {"train": fitted.train_images[category], "test_good": len(found.labels) - defects}
        lost = found.masks_lost_to_crop
        self.results.provenance["counts"][category] = {**counts, "test_defect": defects, "defects_cropped_away": lost}
        missing = [name for name, value in metrics.items() if value is None]
        if missing:
            self.results.provenance["not_available"][category] = missing
        if lost:
            self.tracker.log(
                "warning", text=f"{category}: {lost} defects lie outside the crop, no pixel of them is left"
            )
        summary = ", ".join(f"{name} {percent(metrics[name])}" for name in ("image_auroc", "pixel_auroc", "aupro"))
        self.tracker.log("evaluated", category=category, summary=summary, metrics=metrics)

    def _samples(self, category: str, split: str) -> list[Sample]:
        return [sample for sample in self.dataset.samples(category) if sample.split == split]

    def _encoded(self, detector: Detector, samples: list[Sample]) -> EncodedSamples:
        data = self.cfg.data
        return EncodedSamples(
            detector, samples, self.reader, data.batch_size, data.workers, self.tracker, self.features
        )


def run_folder(cfg: ConfigDict, categories: Sequence[str], output: str | Path, suffix: str = "") -> Path:
    """`<output>/<config>/<protocol>/<categories>/<seed>`; a long list of categories is shortened to its number."""
    joined = "+".join(categories)
    if len(joined) > 80:
        joined = f"{categories[0]}+{len(categories) - 1}"
    names = {"config_name": cfg.config_name, "protocol": cfg.protocol.name, "category": joined}
    return inside(output, **names, seed=f"{cfg.seed}{suffix}")


def _claim(folder: Path, overwrite: bool) -> None:
    """Make the folder; one that has results is kept unless told otherwise."""
    if (folder / "metrics.json").exists() and not overwrite:
        raise AnoframeError(
            f"{folder} has the results of an earlier run: choose another --output, or replace it with --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("metrics.json", "metrics.csv", "run.json", "log.jsonl", "report.html"):
            (folder / stale).unlink(missing_ok=True)
        for stale in ("checkpoint", "pictures"):
            if (folder / stale).exists():
                shutil.rmtree(folder / stale)
    except OSError as error:
        raise AnoframeError(f"cannot use {folder} ({error.strerror}): choose another --output") from error
    if not os.access(folder, os.W_OK):
        raise AnoframeError(f"{folder} is read-only: choose another --output")


def _with_categories(cfg: ConfigDict, categories: Sequence[str] | None) -> ConfigDict:
    chosen = cfg.copy_and_resolve_references()
    check_config(chosen)
    if categories is not None:
        chosen.categories = tuple(categories)
    if not chosen.categories:
        raise AnoframeError("no category given: --cls_names NAME [NAME ...], or --cls_names all")
    return chosen


def _open(cfg: ConfigDict) -> Dataset:
    return open_dataset(cfg.data.name, cfg.data.root or Path("data") / cfg.data.name)


def _caches(cfg: ConfigDict, tracker: Tracker) -> list[Cache | None]:
    """The caches of images and of features, None for one that is off."""
    root, limit = cache_root(cfg.cache.folder), int(cfg.cache.max_gb * 1e9)
    warn = partial(tracker.log, "warning")
    return [Cache(root / kind, limit, warn) if cfg.cache[kind] else None for kind in KINDS]


def _refuse_what_makes_no_sense(cfg: ConfigDict) -> None:
    if not 0 <= cfg.seed < 2**32:
        raise AnoframeError(f"seed is a whole number from 0 to 2**32 - 1, got {cfg.seed}")
    for limit in cfg.evaluation.aupro_limits:
        if not isinstance(limit, float) or not 0 < limit <= 1:
            raise AnoframeError(f"each limit of evaluation.aupro_limits lies in (0, 1], got {limit!r}")
    for threshold in cfg.evaluation.pixel_thresholds:
        if type(threshold) not in (int, float):
            raise AnoframeError(f"evaluation.pixel_thresholds takes numbers, got {threshold!r}")
    if cfg.data.batch_size < 1:
        raise AnoframeError(f"data.batch_size is 1 or more, got batch size {cfg.data.batch_size}")
    if not -1 <= cfg.data.workers <= 256:
        raise AnoframeError(f"data.workers lies from -1 to 256, got {cfg.data.workers}")
    if not cfg.cache.max_gb > 0:
        raise AnoframeError(f"cache.max_gb is above 0, got {cfg.cache.max_gb}: --cache off uses none")


def _refuse_what_comes_later(cfg: ConfigDict) -> None:
    if cfg.wandb.enable:
        raise AnoframeError("Weights & Biases tracking is not in this version: --wandb.enable False")


def _check_same_model(cfg: ConfigDict, fitted: Checkpoint, path: Path) -> None:
    wanted = plain(cfg.model)
    if wanted != fitted.model:
        keys = [key for key in {**wanted, **fitted.model} if wanted.get(key) != fitted.model.get(key)]
        raise AnoframeError(
            f"{path} was fitted with another model section than this config: {', '.join(sorted(keys))} differ. "
            "Leave out --config to test with the checkpoint's own"
        )
    for key, value in asdict(fitted.preprocessing).items():
        if cfg.data[key] != value:
            raise AnoframeError(f"{path} was fitted with data.{key} {value}, not {cfg.data[key]}: leave it as it was")


def _provenance(cfg: ConfigDict, dataset: str) -> dict[str, Any]:
    data = {"name": dataset, **{key: cfg.data[key] for key in _PREPROCESSING}}
    head = {"config": cfg.config_name, "protocol": cfg.protocol.name, "seed": cfg.seed, "data": data}
    return {
        **head,
        "counts": {},
        "not_available": {},
        "model": plain(cfg.model),
        "versions": versions(),
        "git": git_commit(),
    }
