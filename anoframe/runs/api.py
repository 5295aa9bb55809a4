"""Python interface of runs: train and test; `finished.py` has the run that they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict, check_config, load_config, result_keys, to_plain
from anoframe.config.comparison import fill_later_keys
from anoframe.config.discovery import find_run_config
from anoframe.config.display import flatten
from anoframe.data.fingerprint import FileHashes
from anoframe.data.preprocessing import RECTANGLE
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.decision import ThresholdOptions
from anoframe.runs.category_run import evaluate_checkpoints, train_fits
from anoframe.runs.context import RunContext, open_run
from anoframe.runs.finished import Run, load_run
from anoframe.runs.folder import DATA_FILE, data_changes, recorded_files
from anoframe.runs.protocols import choose_shape, config_for_run, open_run_dataset, resolve_categories
from anoframe.runs.stream_run import StreamRun
from anoframe.runs.thresholds import Asked, check_one_detector, rate_remarks, threshold_options, with_thresholds
from anoframe.training.checkpoint import (
    Checkpoint,
    accept_new_categories,
    list_checkpoints,
    load_checkpoint,
    select_checkpoint,
)
from anoframe.utils.paths import expand_path

__all__ = ["Run", "load_run", "test", "train"]


def train(
    cfg: ConfigDict,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    start: str = "new",
) -> Run:
    """Train a detector per category (or one for all, by the protocol), evaluate it, and write the run folder.

    Args:
        cfg: from `load_config`.
        categories: names, or `["all"]`; None takes those in the config.
        output: parent of run folders.
        start: what to do if the folder has a run: `"new"` raises, `"resume"` continues with what is not done yet and
            gives the result of an uninterrupted run, `"overwrite"` begins again.

    Returns:
        The finished run; `failed` names categories with an error, which does not affect the other categories.

    Raises:
        AnoframeError: something in the config, data or folder is wrong, found before any work starts; or nothing could
            be written.
    """
    check_config(cfg)
    output = expand_path(output, "output")
    cfg = config_for_run(cfg, categories)
    remarks = choose_shape(cfg)
    with open_run(cfg, output, start) as run:
        for text in remarks:
            run.recorder.tracker.log("warning", text=text)
        if run.plan.tasks:
            StreamRun(run).run()
        else:
            train_fits(run)
        return _finish(run)


def test(
    checkpoint: str | Path,
    cfg: ConfigDict | None = None,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    start: str = "new",
    threshold: Asked = None,
) -> Run:
    """Evaluate trained detectors again, into a run folder of their own (`<seed>-test`).

    Args:
        checkpoint: a run folder or its `checkpoint/`.
        cfg: names the test data; None takes the config of the run that the checkpoint belongs to. Its `model` section
            must be the one the checkpoint was trained with.
        categories, output, start: as for `train`; by default all categories the checkpoint was trained on. Others can
            be named, or `["all"]` of another dataset, if its only detector accepts new categories.
        threshold: decide with another threshold than the stored one: a dict with `false_positive_rate`, or with `value`
            (a score) and `pixel_value` (a map value). No metric but misses and false alarms depends on it.

    Raises:
        AnoframeError: as `train`; no checkpoint, one that does not belong to this config or category, a test image
            that a supervised detector was trained on, or a rate without held-back scores to estimate it on.
    """
    checkpoint, output = expand_path(checkpoint, "checkpoint"), expand_path(output, "output")
    options = threshold_options(threshold)
    folders = list_checkpoints(checkpoint)
    cfg = load_config(find_run_config(checkpoint)) if cfg is None else cfg
    check_config(cfg)
    device = join(cfg.device).device
    loaded = [load_checkpoint(folder, device) for folder in folders.values()]
    cfg = _with_trained_shape(cfg, loaded[0])
    _check_same_model(cfg, loaded[0], checkpoint)
    _check_same_regions(cfg, loaded, checkpoint)
    if loaded[0].detector.phase_names():
        _check_same_training(cfg, checkpoint)
    own = _config_for_test(cfg, loaded, categories, checkpoint)
    trained_files = _trained_files(checkpoint)
    asked: dict[str, Any] = {}
    if options.asked:
        loaded = _with_asked_thresholds(loaded, own, options)
        asked = {"threshold": options.asked}
    tested = replace(loaded[0], ignored={name: each for one in loaded for name, each in one.ignored.items()})
    with open_run(own, output, start, tested, trained_files, asked) as run:
        _warn_about_other_data(run, Path(checkpoint))
        if run.plan.is_supervised and not trained_files:
            text = f"{checkpoint} has no {DATA_FILE} of its run: whether it was trained on a test image is not known"
            run.recorder.tracker.log("warning", text=text)
        for text in rate_remarks(loaded, run.plan.categories) if options.asked else ():
            run.recorder.tracker.log("warning", text=text)
        evaluate_checkpoints(run, loaded)
        return _finish(run)


def _finish(run: RunContext) -> Run:
    return Run(run.recorder.folder.path, run.plan.cfg, run.recorder.finish())


def _config_for_test(
    cfg: ConfigDict, loaded: Sequence[Checkpoint], categories: Sequence[str] | None, path: Path
) -> ConfigDict:
    """Copy a config for a test: seed and protocol are those the checkpoints were trained with.

    So are the categories, unless others are named and the detector accepts new ones.
    """
    trained = [category for checkpoint in loaded for category in checkpoint.categories]
    accept_new = accept_new_categories(loaded)
    if categories is None or (list(categories or ["all"]) == ["all"] and not accept_new):
        categories = [category for category in cfg.categories if category in trained] or trained
    own = cfg.copy_and_resolve_references()
    if own.protocol.name == "continual":  # the last checkpoint of a stream is one detector for all categories
        own.protocol.name = "unified"
    own = config_for_run(own, categories)
    for category in own.categories:
        if category not in trained and not accept_new:
            raise AnoframeError(_not_trained_on(category, trained, loaded, path))
    own.seed = loaded[0].seed
    if any(len(checkpoint.categories) > 1 for checkpoint in loaded):
        own.protocol.name = "unified"
    return own


def _with_asked_thresholds(
    loaded: Sequence[Checkpoint], cfg: ConfigDict, options: ThresholdOptions
) -> list[Checkpoint]:
    """Give the checkpoints of a test the thresholds that the user asks for."""
    categories = resolve_categories(open_run_dataset(cfg), cfg)
    decided = [[name for name in categories if select_checkpoint(loaded, name) is each] for each in loaded]
    check_one_detector(options, decided)
    return [with_thresholds(each, names, options) for each, names in zip(loaded, decided, strict=True)]


def _not_trained_on(category: str, trained: Sequence[str], loaded: Sequence[Checkpoint], path: Path) -> str:
    """Return the error about a category that no checkpoint was trained on."""
    text = f"{path} was not trained on category {category!r}: {suggest(category, trained)}"
    if not all(checkpoint.detector.accepts_new_categories for checkpoint in loaded):
        return text
    return f"{text}; or choose one of its detectors, for example --checkpoint {path / 'checkpoint' / trained[0]}"


def _trained_files(checkpoint: Path) -> FileHashes | None:
    """Return the hashes of the files of the run that trained a checkpoint; None for a checkpoint without its run."""
    try:
        return recorded_files(find_run_config(checkpoint).parent)
    except AnoframeError:
        return None


def _warn_about_other_data(run: RunContext, path: Path) -> None:
    """Warn if the test images are not those of the run that trained the checkpoint."""
    plan = run.plan
    try:
        trained = find_run_config(path).parent
        changes = data_changes(trained, plan.categories, plan.provenance, plan.files, ("test",))
    except AnoframeError:  # a checkpoint without its run: there is nothing to compare with
        return
    if changes:
        text = f"the test images are not those of the run that trained this checkpoint, {trained}: {'; '.join(changes)}"
        run.recorder.tracker.log("warning", text=f"{text}. The results are not comparable with those of that run")


def _with_trained_shape(cfg: ConfigDict, trained: Checkpoint) -> ConfigDict:
    """Replace `data.keep_aspect "rectangle"` by the size that the run of the checkpoint has chosen; return a config."""
    if cfg.data.keep_aspect != RECTANGLE:
        return cfg
    own, shape = cfg.copy_and_resolve_references(), trained.preprocessing
    with own.ignore_type():
        own.data.resize, own.data.crop, own.data.keep_aspect = shape.resize, shape.crop, shape.keep_aspect
        if "image_size" in own.model and "image_size" in trained.model:  # it follows data.crop
            size = trained.model["image_size"]
            own.model.image_size = tuple(size) if isinstance(size, list) else size
    return own


def _check_same_regions(cfg: ConfigDict, loaded: Sequence[Checkpoint], path: Path) -> None:
    """Raise AnoframeError if a config asks for ignored regions that the checkpoints do not have.

    The regions of a test are those in the checkpoints. The file that they were read from may be gone.
    """
    if cfg.data.ignore is None:
        return
    if not any(each.ignored for each in loaded):
        raise AnoframeError(
            f"{path} was trained without ignored regions, got data.ignore {cfg.data.ignore}: leave it out, or train "
            "again"
        )
    try:
        trained = load_config(find_run_config(path)).data.ignore
    except AnoframeError:  # a checkpoint without its run
        return
    if cfg.data.ignore != trained:
        raise AnoframeError(f"{path} was trained with data.ignore {trained}, got {cfg.data.ignore}: leave it unchanged")


def _check_same_model(cfg: ConfigDict, trained: Checkpoint, path: Path) -> None:
    """Raise AnoframeError if a config has another model section or preprocessing than the checkpoint."""
    model, own = (
        fill_later_keys(dict(flatten({"model": section}))) for section in (to_plain(cfg.model), trained.model)
    )
    if model != own:
        keys = {key.split(".")[1] for key in {**model, **own} if model.get(key) != own.get(key)}
        raise AnoframeError(
            f"{path} was trained with another model section than this config: {', '.join(sorted(keys))} differ. "
            "Leave out --config to test with the config of the checkpoint"
        )
    shape = trained.preprocessing.settings()
    if trained.tiling or cfg.data.tile is not None:
        tiles = trained.tiling.settings() if trained.tiling else {"tile": None, "overlap": 0}
        shape |= {"tile": tiles["tile"], "tile_overlap": tiles["overlap"]}
    for key, value in shape.items():
        given = list(cfg.data[key]) if isinstance(cfg.data[key], tuple) else cfg.data[key]
        if given != value and not (key in ("resize", "crop", "tile") and given == [value, value]):
            raise AnoframeError(f"{path} was trained with data.{key} {value}, got {given}: leave it unchanged")


def _check_same_training(cfg: ConfigDict, path: Path) -> None:
    """Raise AnoframeError if a config has other training settings than the run that trained the checkpoint.

    The results of a test name the training settings of its config, and these must be true.
    """
    try:
        trained = result_keys(load_config(find_run_config(path)), prefix="trainer.")
    except AnoframeError:  # a checkpoint without its run: there is nothing to compare with
        return
    given = result_keys(cfg, prefix="trainer.")
    for key in sorted(trained.keys() | given.keys()):
        if trained.get(key) != given.get(key):
            raise AnoframeError(
                f"{path} was trained with {key} {trained.get(key)}, got {given.get(key)}: leave it unchanged"
            )
