"""Command line: `anoframe` and `python tools/main.py`. Loads no torch before there is work to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from anoframe import __version__
from anoframe.config.discovery import find_run_config, list_configs
from anoframe.config.overrides import dotted_options
from anoframe.distributed import process_group as distributed
from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS, MODELS
from anoframe.utils.console import run_command
from anoframe.utils.tensor_cache import CACHE_KINDS, cache_root, clear_caches

_EXAMPLES = """\
every value of the config can be set by its dotted name; --print_config shows all names and values:
  --data.name mvtec|visa|loco|csv|...  --data.root DIR           --protocol separate|unified|continual
  --model.backbone.name NAME           --model.coreset.ratio 0.01

decoded images and features of the frozen encoder are cached, which makes later runs faster and changes no result:
  --cache off             --cache clear         --cache.folder DIR        --cache.max_gb 20

methods with gradient training can use several devices, one process per device; several machines: docs/distributed.md
  --device 0 1            --device cpu cpu      torchrun --nnodes 2 ... tools/main.py --config ...

examples:
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names bottle screw --data.root MVTec
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names all --protocol unified --seed 1
  anoframe --mode test --checkpoint runs/patchcore_lite0_224/separate/bottle/0
  anoframe --mode predict --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --input parts/
  anoframe --mode export --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --format onnx
  anoframe --config runs/patchcore_lite0_224/separate/bottle/0/config.yaml --output again

encoders of one's own: tools/pretrain.py (configs simclr/*), tools/evaluate_encoder.py (configs probe/*)
"""
_DEVICE = (
    "auto, cpu, cuda, or the number of a GPU: 0 or cuda:0 (default auto); several (0 1) train with one process each"
)
_PROTOCOL = (
    "separate: one detector per category (default); unified: one detector for all; continual: one detector that is "
    "trained on task after task"
)
_RESUME = "the same command with --resume continues this run"
_PREDICT_AGAIN = "scores.csv has the images until then; the same command with --overwrite starts again"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0; 1 if a category failed or a file was not scored; 2 for an error the user can correct; 130 after
        Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(_parse(words), words), _PREDICT_AGAIN if "predict" in words else _RESUME)


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    if options.mode == "predict":
        return _predict(options)
    if options.mode == "export":
        return _export(options)
    if options.print_config or options.diff_config:
        _show_config(options)
        return 0
    if options.cache == "clear" and not options.config and not options.checkpoint:
        _clear(options.overrides.get("cache.folder"))
        return 0
    for name in ("input", "maps", "no_overlays"):
        if getattr(options, name):
            raise AnoframeError(f"--{name} goes with --mode predict")
    for name in ("format", "precision"):
        if getattr(options, name):
            raise AnoframeError(f"--{name} goes with --mode export")
    return _train_or_test(options, words)


def _show_config(options: argparse.Namespace) -> None:
    """Print the config as it would run, or what it changes against its parents."""
    from anoframe.config import diff_config, format_config, load_config

    source = options.config or _raise_missing("--config")
    if options.diff_config:
        print(diff_config(source, options.overrides))
    else:
        cfg = load_config(source, options.overrides)
        cfg.categories = tuple(options.cls_names or cfg.categories)
        print(format_config(cfg), end="")


def _train_or_test(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train or test, here or in one process per device; return 1 if a category failed, else 0."""
    from anoframe.config import ConfigDict, check_config, load_config

    cfg: ConfigDict = load_config(_config_source(options), options.overrides)
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
    from anoframe.runs import api  # imports torch: only after names and values are checked

    output = options.output or "runs"
    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    if options.mode == "test":
        run = api.test(options.checkpoint, cfg, options.cls_names, output, start)
    else:
        run = api.train(cfg, options.cls_names, output, start)
    if not distributed.is_main_process():
        return 0
    print(f"\n{run.results.table()}\n\n{run.timetable()}\n\nreport: {run.folder / 'report.html'}")
    for category, reason in run.failed.items():
        print(f"failed: {category}: {reason}", file=sys.stderr)
    return 1 if run.failed else 0


def _config_source(options: argparse.Namespace) -> str | Path:
    """Return the config to load: --config, or in test mode the config of the checkpoint."""
    if options.mode == "test":
        checkpoint = options.checkpoint or _raise_missing("--checkpoint")
        return str(options.config) if options.config else find_run_config(checkpoint)
    if options.checkpoint:
        raise AnoframeError(
            "--checkpoint goes with --mode test, predict or export: training starts from the weights of the backbone"
        )
    return str(options.config or _raise_missing("--config"))


def _predict(options: argparse.Namespace) -> int:
    """Predict on new images; return 1 if a file could not be scored, else 0."""
    checkpoint = options.checkpoint or _raise_missing("--checkpoint")
    source = options.input or _raise_missing("--input")
    if options.resume:
        raise AnoframeError("--mode predict cannot resume: use --overwrite, or another --output")
    for name in options.overrides.keys() - {"device"}:
        raise AnoframeError(f"--mode predict takes no --{name}: all values come from the checkpoint")
    names = options.cls_names or [None]
    if len(names) > 1:
        raise AnoframeError(f"--mode predict uses one detector, got --cls_names {' '.join(names)}: name one category")
    from anoframe.runs.predict import predict  # imports torch: only after the options are checked

    summary = predict(
        checkpoint,
        source,
        options.output or "predictions",
        category=names[0],
        device=str(options.overrides.get("device", "auto")),
        maps=options.maps or "npy",
        overlays=not options.no_overlays,
        overwrite=options.overwrite,
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
    for reason in summary.bad.values():
        print(f"not scored: {reason}", file=sys.stderr)
    return 1 if summary.bad else 0


def _export(options: argparse.Namespace) -> int:
    """Export a trained detector; returns 0."""
    checkpoint = options.checkpoint or _raise_missing("--checkpoint")
    for name in ("config", "input", "maps", "no_overlays", "resume"):
        if getattr(options, name):
            raise AnoframeError(f"--mode export takes no --{name}: all values come from the checkpoint")
    for name in options.overrides.keys() - {"data.root"}:
        raise AnoframeError(f"--mode export takes no --{name}: all values come from the checkpoint")
    names = options.cls_names or [None]
    if len(names) > 1:
        raise AnoframeError(f"--mode export uses one detector, got --cls_names {' '.join(names)}: name one category")
    from anoframe.exporting.api import export  # imports torch: only after the options are checked

    exported = export(
        checkpoint,
        options.format or "onnx",
        options.precision or "fp32",
        options.output or "exported",
        category=names[0],
        data_root=options.overrides.get("data.root"),
        overwrite=options.overwrite,
    )
    for note in exported.notes:
        print(f"note: {note}")
    for file in exported.files:
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the fixed options; the others become `overrides` of the config by dotted name."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    for option, name in (("seed", "seed"), ("device", "device"), ("protocol", "protocol.name")):
        value = getattr(options, option)
        if value is not None:
            options.overrides[name] = " ".join(value) if isinstance(value, list) else value
    if options.cache in ("on", "off"):
        options.overrides |= {f"cache.{kind}": options.cache == "on" for kind in CACHE_KINDS}
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anoframe",
        description="Train and evaluate industrial anomaly detectors described by a config.",
        epilog=f"{_EXAMPLES}\nconfigs:\n{_column(list_configs())}\n\nmodels:   {', '.join(MODELS.names())}\n"
        f"datasets: {', '.join(DATASETS.names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="a Python config, on disk or one listed below; or config.yaml of a run")
    add("--cls_names", nargs="+", metavar="NAME", help="categories of the dataset, or all")
    add("--mode", choices=("train", "test", "predict", "export"), default="train", help="train also tests (default)")
    add("--checkpoint", metavar="DIR", help="for test, predict and export: a run folder or its checkpoint folder")
    add("--input", nargs="+", metavar="PATH", help="for predict: images, or folders of images")
    add("--maps", choices=("npy", "png", "none"), help="for predict: float32 maps (default), 16-bit pictures, or none")
    add("--no_overlays", action="store_true", help="for predict: write no pictures with a heatmap")
    add("--format", choices=("onnx", "openvino", "torch"), help="for export: format of the model (default onnx)")
    add("--precision", choices=("fp32", "fp16", "int8"), help="for export: of the weights (default fp32)")
    add("--seed", metavar="N", help="the same seed gives the same result (default 0)")
    add("--device", nargs="+", metavar="D", help=_DEVICE)
    add("--protocol", metavar="P", help=_PROTOCOL)
    add(
        "--output",
        metavar="DIR",
        help="parent of run folders (default runs); for predict and export: folder (default predictions, exported)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue an interrupted run in its folder")
    start.add_argument("--overwrite", action="store_true", help="replace the run in the same folder")
    add("--cache", choices=("on", "off", "clear"), help="use the caches (default) or not; clear: empty them first")
    add("--print_config", action="store_true", help="print the config as it would run, and exit")
    add("--diff_config", action="store_true", help="print what the config changes against its parents, and exit")
    add("--version", action="version", version=f"anoframe {__version__}")
    return parser


def _clear(folder: object) -> None:
    """Empty the caches in a folder, or in the default folder."""
    root = cache_root(str(folder) if folder else None)
    print(f"cache {root}: {clear_caches(root) / 1e6:,.1f} MB freed")


def _column(names: Sequence[str]) -> str:
    return "\n".join(f"  {name}" for name in names)


def _raise_missing(option: str) -> NoReturn:
    raise AnoframeError(f"{option} is needed here, see --help")
