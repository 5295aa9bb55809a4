"""Command line: `anoframe` and `python tools/main.py`. Loads no torch before there is work to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from anoframe import __version__
from anoframe.cli_options import only_clears, parse
from anoframe.commands import COMMANDS, MODES, run_subcommand
from anoframe.config.discovery import find_run_config
from anoframe.distributed import process_group as distributed
from anoframe.errors import AnoframeError
from anoframe.utils.console import run_command
from anoframe.utils.imports import quick_imports
from anoframe.utils.tensor_cache import cache_root, clear_caches

_RESUME = "the same command with --resume continues this run"
_PREDICT_AGAIN = "scores.csv has the images until then; the same command with --overwrite starts again"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0; 1 if a category failed or a file was not scored; 2 for an error the user can correct; 130 after
        Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return run_subcommand(words[0], words[1:])
    if words and words[0] in MODES:
        words = ["--mode", *words]
    return run_command(lambda: _run(parse(words), words), _PREDICT_AGAIN if "predict" in words else _RESUME)


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    if options.mode == "predict":
        return _predict(options)
    if options.mode == "threshold":
        return _set_threshold(options)
    if options.mode == "export":
        return _export(options)
    if options.print_config or options.diff_config:
        _show_config(options)
        return 0
    if options.cache == "clear" and only_clears(options):
        _clear(options.overrides.get("cache.folder"))
        return 0
    return _train_or_test(options, words)


def _show_config(options: argparse.Namespace) -> None:
    """Print the config as it would run, or what it changes against its parents."""
    from anoframe.config import diff_config, format_config, load_config

    source = _config_source(options)
    if options.diff_config:
        print(diff_config(source, options.overrides))
    else:
        cfg = load_config(source, options.overrides)
        cfg.categories = tuple(options.cls_names or cfg.categories)
        print(format_config(cfg), end="")


def _train_or_test(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train or test, here or in one process per device; return 1 if a category failed, else 0."""
    from anoframe.config import ConfigDict, check_config, load_config
    from anoframe.config.validation import is_class_stream

    cfg: ConfigDict = load_config(_config_source(options), options.overrides)
    if is_class_stream(cfg):
        return _train_classes(options, cfg)
    check_config(cfg)
    if options.mode == "train":
        from anoframe.runs.protocols import check_categories

        check_categories(cfg, options.cls_names)
    if len(cfg.device.split()) > 1 and not distributed.is_torchrun_process():
        from anoframe.distributed.launch import launch

        if options.mode == "train":  # here, before processes are started, which takes seconds
            from anoframe.runs.plan import check_devices

            check_devices(cfg)
        return launch(words, cfg.device)
    if options.cache == "clear" and distributed.is_local_main():
        _clear(cfg.cache.folder)
    _announce(options, cfg.config_name)
    with quick_imports():  # torch: only after names and values are checked
        from anoframe.runs import api
    output = options.output or "runs"
    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    if options.mode == "test":
        run = api.test(options.checkpoint, cfg, options.cls_names, output, start, options.threshold)
    else:
        run = api.train(cfg, options.cls_names, output, start)
    if not distributed.is_main_process():
        return 0
    print(f"\n{run.results.table()}\n\n{run.timetable()}\n\nreport: {run.folder / 'report.html'}")
    for category, reason in run.failed.items():
        print(f"failed: {category}: {reason}", file=sys.stderr)
    return 1 if run.failed else 0


def _announce(options: argparse.Namespace, name: str) -> None:
    """Print what begins, before torch is imported, which takes seconds."""
    if distributed.is_main_process():
        print(f"anoframe {__version__}: {options.mode} {name}", flush=True)


def _train_classes(options: argparse.Namespace, cfg: Any) -> int:
    """Train a classifier of labelled images whose classes arrive task by task."""
    if options.mode != "train":
        raise AnoframeError("a stream of classes of labelled images has no --mode test: --mode train also tests")
    if options.cls_names:
        raise AnoframeError("--cls_names names categories of a detector: --protocol.tasks 'a,b;c,d' names classes")
    if options.cache == "clear":
        _clear(cfg.cache.folder)
    _announce(options, cfg.config_name)
    with quick_imports():  # torch: only after the options are checked
        from anoframe.runs.class_incremental_run import run_class_stream

    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    run = run_class_stream(cfg, options.output or "runs", start)
    print(f"\nreport: {run.folder / 'report.html'}")
    return 0


def _config_source(options: argparse.Namespace) -> str | Path:
    """Return the config to load: --config, or in test mode the config of the checkpoint."""
    if options.mode == "test":
        checkpoint = options.checkpoint or _raise_missing("--checkpoint")
        return str(options.config) if options.config else find_run_config(checkpoint)
    return str(options.config or _raise_missing("--config"))


def _predict(options: argparse.Namespace) -> int:
    """Predict on new images; return 1 if a file could not be scored, else 0."""
    checkpoint = options.checkpoint or _raise_missing("--checkpoint")
    source = options.input or _raise_missing("--input")
    names = options.cls_names or [None]
    if len(names) > 1:
        raise AnoframeError(f"--mode predict uses one detector, got --cls_names {' '.join(names)}: name one category")
    _announce(options, checkpoint)
    with quick_imports():  # torch: only after the options are checked
        from anoframe.runs.predict import predict
    summary = predict(
        checkpoint,
        source,
        options.output or "predictions",
        category=names[0],
        device=str(options.overrides.get("device", "auto")),
        maps=options.maps or "npy",
        overlays=not options.no_overlays,
        overwrite=options.overwrite,
        threshold=options.threshold,
    )
    decisions = "no threshold, so no decisions" if summary.defects is None else f"{summary.defects} defects"
    for note in summary.notes:
        print(f"note: {note}")
    for remark in summary.remarks:
        print(f"remark: {remark}")
    if summary.not_drawn:
        first = next(iter(summary.not_drawn.values()))
        print(f"warning: map or overlay of {len(summary.not_drawn)} images not written, the first: {first}")
    print(f"{summary.images} images scored, {decisions}: {summary.folder / 'scores.csv'}")
    print(f"gallery: {summary.folder / 'predictions.html'}")
    for reason in summary.bad.values():
        print(f"not scored: {reason}", file=sys.stderr)
    return 1 if summary.bad else 0


def _set_threshold(options: argparse.Namespace) -> int:
    """Store other thresholds in a checkpoint, and print them."""
    checkpoint = options.checkpoint or _raise_missing("--checkpoint")
    with quick_imports():  # torch: only after the options are checked
        from anoframe.runs.thresholds import set_threshold
    for stored in set_threshold(checkpoint, options.cls_names, options.threshold):
        before = "none" if stored.before is None else f"{stored.before.image:.6g}"
        pixel = "" if stored.now.pixel is None else f", pixels {stored.now.pixel:.6g}"
        print(f"{stored.category}: threshold {before} -> {stored.now.image:.6g}{pixel}")
        if stored.remark:
            print(f"warning: {stored.category}: {stored.remark}", file=sys.stderr)
    print("stored: tests and predictions from now on use it; earlier results keep the threshold that they name")
    return 0


def _export(options: argparse.Namespace) -> int:
    """Export a trained detector; returns 0."""
    checkpoint = options.checkpoint or _raise_missing("--checkpoint")
    names = options.cls_names or [None]
    if len(names) > 1:
        raise AnoframeError(f"--mode export uses one detector, got --cls_names {' '.join(names)}: name one category")
    _announce(options, checkpoint)
    with quick_imports():  # torch: only after the options are checked
        from anoframe.exporting.api import export
    exported = export(
        checkpoint,
        options.format or "onnx",
        options.precision or "fp32",
        options.output or "exported",
        category=names[0],
        data_root=options.overrides.get("data.root"),
        overwrite=options.overwrite,
        threshold=options.threshold,
    )
    for note in exported.notes:
        print(f"note: {note}")
    for file in exported.files:
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _clear(folder: object) -> None:
    """Empty the caches in a folder, or in the default folder."""
    root = cache_root(str(folder) if folder else None)
    print(f"cache {root}: {clear_caches(root) / 1e6:,.1f} MB freed")


def _raise_missing(option: str) -> NoReturn:
    raise AnoframeError(f"{option} is needed here, see --help")
