"""The one door: `anoframe` and `python tools/main.py`. Loads no torch until there is work to do."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from anoframe import __version__
from anoframe.config.discovery import config_of, list_configs
from anoframe.config.overrides import dotted_options
from anoframe.distributed import process_group as distributed
from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS, MODELS
from anoframe.utils.tensor_cache import KINDS, cache_root, clear

_EXAMPLES = """\
any value of the config can be set by its dotted name:
  --data.name mvtec|visa|folder|demo   --data.root DIR           --protocol separate|unified|continual
  --model.backbone.name NAME           --model.coreset.ratio 0.01
--print_config shows them all with their values

decoded images and features of the frozen encoder are kept for the next run, which then is faster and gives the same:
  --cache off             --cache clear         --cache.folder DIR        --cache.max_gb 20

methods that are trained can learn on several devices, a process each; over several machines: docs/distributed.md
  --device 0 1            --device cpu cpu      torchrun --nnodes 2 ... tools/main.py --config ...

examples:
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names bottle screw --data.root MVTec
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names all --protocol unified --seed 1
  anoframe --mode test --checkpoint runs/patchcore_lite0_224/separate/bottle/0
  anoframe --mode predict --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --input parts/
  anoframe --config runs/patchcore_lite0_224/separate/bottle/0/config.yaml --output again
"""
_DEVICE = "auto, cpu, cuda, or the number of a GPU (default auto); several, as 0 1, train with a process for each"
_PROTOCOL = (
    "separate: a detector a category (default); unified: one for all; continual: one that learns task after task"
)
_GOES_ON = "the same command with --resume goes on with what is done"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 where a category failed, or 2 for what the user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(_parse(words), words)
    except AnoframeError as error:
        return _failed(f"error: {error}", 2)
    except OSError as error:  # what no door has told in its own words: a name too long, a disk that fails
        return _failed(f"error: {error}: check that path, its permissions, and the space on the disk", 2)
    except KeyboardInterrupt:
        return _failed(f"interrupted: {_GOES_ON}", 130)
    except Exception as error:
        if distributed.is_lost_peer(error):
            return _failed(f"error: another process of this run has gone: {_GOES_ON}", 2)
        if not distributed.is_joined():
            raise
        return _failed(traceback.format_exc().rstrip(), 1)


def _failed(text: str, status: int) -> int:
    """Tell what ends the command, once where several processes do; returns the status, or ends a process of several."""
    if distributed.should_report_error():
        print(text, file=sys.stderr)
    distributed.exit_immediately(status)
    return status


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    from anoframe.config import check_config, diff_config, format_config, load_config

    if options.mode == "predict":
        return _predict(options)
    if options.print_config or options.diff_config:
        source = options.config or _missing("--config")
        if options.diff_config:
            print(diff_config(source, options.overrides))
        else:
            cfg = load_config(source, options.overrides)
            cfg.categories = tuple(options.cls_names or cfg.categories)
            print(format_config(cfg), end="")
        return 0
    if options.cache == "clear" and not options.config and not options.checkpoint:
        _clear(options.overrides.get("cache.folder"))
        return 0
    names = options.cls_names
    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    _only_for_predict(options)
    if options.mode == "test":
        checkpoint = options.checkpoint or _missing("--checkpoint")
        cfg = load_config(options.config or config_of(checkpoint), options.overrides)
    else:
        if options.checkpoint:
            raise AnoframeError(
                "--checkpoint goes with --mode test or predict: training starts from the backbone's weights alone"
            )
        cfg = load_config(options.config or _missing("--config"), options.overrides)
    check_config(cfg)
    if options.mode == "train":
        from anoframe.runs.protocols import check_categories

        check_categories(cfg, names)
    if len(cfg.device.split()) > 1 and not distributed.is_torchrun_process():
        from anoframe.distributed.launch import launch

        if options.mode == "train":
            from anoframe.config import plain
            from anoframe.models.factory import build_detector
            from anoframe.training.distributed_loss import check_multi_device

            check_multi_device(build_detector(plain(cfg.model), cfg.seed), cfg.protocol.name, f"--device {cfg.device}")
        return launch(words, cfg.device)
    if options.cache == "clear" and distributed.is_local_main():
        _clear(cfg.cache.folder)
    from anoframe.runs import api as runs  # torch: after what can be wrong with words

    if options.mode == "test":
        run = runs.test(checkpoint, cfg, names, options.output or "runs", start)
    else:
        run = runs.train(cfg, names, options.output or "runs", start)
    if not distributed.is_main_process():
        return 0
    print(f"\n{run.results.table()}\n\n{run.timetable()}\n\nreport: {run.folder / 'report.html'}")
    for category, reason in run.failed.items():
        print(f"failed: {category}: {reason}", file=sys.stderr)
    return 1 if run.failed else 0


def _predict(options: argparse.Namespace) -> int:
    """Predict on new images: 0, or 1 where a file could not be scored."""
    checkpoint, source = options.checkpoint or _missing("--checkpoint"), options.input or _missing("--input")
    if options.resume:
        raise AnoframeError("--mode predict has nothing to resume: --overwrite, or another --output")
    for name in options.overrides.keys() - {"device"}:
        raise AnoframeError(f"--mode predict takes no --{name}: the checkpoint says all about its detector")
    names = options.cls_names or [None]
    if len(names) > 1:
        raise AnoframeError(f"--mode predict asks one detector, --cls_names {' '.join(names)} are several")
    from anoframe.runs.predict import predict  # torch: after what can be wrong with words

    done = predict(
        checkpoint,
        source,
        options.output or "predictions",
        category=names[0],
        device=str(options.overrides.get("device", "auto")),
        maps=options.maps or "npy",
        overlays=not options.no_overlays,
        overwrite=options.overwrite,
    )
    decided = "no threshold, so no decisions" if done.defects is None else f"{done.defects} defects"
    print(f"{done.images} images scored, {decided}: {done.folder / 'scores.csv'}")
    for reason in done.bad.values():
        print(f"not scored: {reason}", file=sys.stderr)
    return 1 if done.bad else 0


def _only_for_predict(options: argparse.Namespace) -> None:
    for name in ("input", "maps", "no_overlays"):
        if getattr(options, name):
            raise AnoframeError(f"--{name} goes with --mode predict")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Known options, and the rest as overrides of the config by dotted name."""
    options, rest = _parser().parse_known_args(argv)
    options.overrides = dotted_options(rest, _parser())
    for option, name in (("seed", "seed"), ("device", "device"), ("protocol", "protocol.name")):
        value = getattr(options, option)
        if value is not None:
            options.overrides[name] = " ".join(value) if isinstance(value, list) else value
    if options.cache in ("on", "off"):
        options.overrides |= {f"cache.{kind}": options.cache == "on" for kind in KINDS}
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anoframe",
        description="Fit and evaluate industrial anomaly detectors that a config describes.",
        epilog=f"{_EXAMPLES}\nconfigs:\n{_column(list_configs())}\n\nmodels:   {', '.join(MODELS.names())}\n"
        f"datasets: {', '.join(DATASETS.names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="a Python config, on disk or one listed below; or config.yaml of a run")
    add("--cls_names", nargs="+", metavar="NAME", help="categories of the dataset, or all")
    add("--mode", choices=("train", "test", "predict"), default="train", help="train also tests (default)")
    add("--checkpoint", metavar="DIR", help="for test and predict: a run folder or its checkpoint folder")
    add("--input", metavar="PATH", help="for predict: an image, or a folder of images")
    add("--maps", choices=("npy", "png", "none"), help="for predict: float32 maps (default), 16-bit pictures, or none")
    add("--no_overlays", action="store_true", help="for predict: draw nothing")
    add("--seed", metavar="N", help="one seed gives one result (default 0)")
    add("--device", nargs="+", metavar="D", help=_DEVICE)
    add("--protocol", metavar="P", help=_PROTOCOL)
    add(
        "--output",
        metavar="DIR",
        help="parent of run folders (default runs); for predict: folder (default predictions)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run in the same folder where it stopped")
    start.add_argument("--overwrite", action="store_true", help="replace the run in the same folder")
    add(
        "--cache", choices=("on", "off", "clear"), help="use the caches (default), or not; clear: empty them, and go on"
    )
    add("--print_config", action="store_true", help="print the config as it would run, and stop")
    add("--diff_config", action="store_true", help="print what the config changes against its parents, and stop")
    add("--version", action="version", version=f"anoframe {__version__}")
    return parser


def _clear(folder: object) -> None:
    """Empty the caches in a folder, or in the usual place."""
    root = cache_root(str(folder) if folder else None)
    print(f"cache {root}: {clear(root) / 1e6:,.1f} MB freed")


def _column(names: Sequence[str]) -> str:
    return "\n".join(f"  {name}" for name in names)


def _missing(option: str) -> str:
    raise AnoframeError(f"{option} is needed here, see --help")
