"""Options of `anoframe`: parsing, and the check that each of them has an effect in the mode. Loads no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from anoframe import __version__
from anoframe.commands import COMMANDS, MODES, describe_commands
from anoframe.config.discovery import list_configs
from anoframe.config.overrides import dotted_options
from anoframe.errors import AnoframeError, suggest
from anoframe.registry import DATASETS, MODELS
from anoframe.utils.tensor_cache import CACHE_KINDS

_EXAMPLES = """\
every value of the config can be set by its dotted name; --print_config shows all names and values:
  --data.name mvtec|visa|loco|csv|...  --data.root DIR           --protocol separate|unified|continual
  --model.backbone.name NAME           --model.coreset.ratio 0.01

decoded images and features of the frozen encoder are cached, which makes later runs faster and changes no result:
  --cache off             --cache clear         --cache.folder DIR        --cache.max_gb 20

methods with gradient training can use several devices, one process per device; several machines: docs/distributed.md
  --device 0 1            --device cpu cpu      torchrun --nnodes 2 ... tools/main.py --config ...

test and predict can decide with another threshold than the stored one; --mode threshold stores another:
  --threshold.false_positive_rate 0.001         --threshold.value 2.5     --threshold.pixel_value 3.1

examples:
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names bottle screw --data.root MVTec
  anoframe --config patchcore/patchcore_lite0_224.py --cls_names all --protocol unified --seed 1
  anoframe --mode test --checkpoint runs/patchcore_lite0_224/separate/bottle/0
  anoframe --mode predict --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --input parts/
  anoframe --mode export --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --format onnx
  anoframe --mode threshold --checkpoint runs/patchcore_lite0_224/separate/bottle/0 --false_positive_rate 0.001
  anoframe --config runs/patchcore_lite0_224/separate/bottle/0/config.yaml --output again

commands with their own options, see --help of each:
"""
_DEVICE = (
    "auto, cpu, cuda, or the number of a GPU: 0 or cuda:0 (default auto); several (0 1) train with one process each"
)
_MAPS = (
    "for predict: maps at the size of the photograph, float32 (npy, default) or 16-bit pictures (png); float32 at the "
    "size of the network's image (frame); or none"
)
_PROTOCOL = (
    "separate: one detector per category (default); unified: one detector for all; continual: one detector that is "
    "trained on task after task"
)

# ------------------------------------------------------------------------------------------------ effect of an option

_RUNS = ("train", "test")
_DECIDING = ("test", "predict", "threshold", "export")
MODES_OF_OPTIONS: dict[str, Sequence[str]] = {  # option -> modes in which it has an effect
    "config": _RUNS,
    "checkpoint": _DECIDING,
    "input": ("predict",),
    "maps": ("predict",),
    "no_overlays": ("predict",),
    "format": ("export",),
    "precision": ("export",),
    "false_positive_rate": ("threshold",),
    "seed": ("train",),
    "device": (*_RUNS, "predict"),
    "protocol": ("train",),
    "output": (*_RUNS, "predict", "export"),
    "resume": _RUNS,
    "overwrite": (*_RUNS, "predict", "export"),
    "cache": _RUNS,
    "print_config": _RUNS,
    "diff_config": _RUNS,
}
THRESHOLD_KEYS = ("false_positive_rate", "value", "pixel_value")  # of `--threshold.<key>`
_TRAINED_WITH = (
    "seed",
    "protocol.",
    "threshold.held_back",
    "threshold.fits",
    "trainer.save_minutes",
)  # keys of a config that a test does not read
_READ_BESIDE_CHECKPOINT = (("device", "predict"), ("data.root", "export"))  # dotted options and their mode
_HINTS = {  # option and mode -> what to do instead
    ("seed", "test"): "a test has the seed that the checkpoint was trained with",
    ("protocol", "test"): "a test has the protocol that the checkpoint was trained with",
    ("resume", "predict"): "a prediction cannot resume, use --overwrite or another --output",
    ("checkpoint", "train"): "training starts from the weights of the backbone",
    ("config", "predict"): "all values come from the checkpoint",
}


def check_effective(options: argparse.Namespace) -> None:
    """Check that every given option has an effect in the mode.

    Raises:
        AnoframeError: one has none; names the modes that it goes with.
    """
    mode = options.mode
    for name, modes in MODES_OF_OPTIONS.items():
        if getattr(options, name) and mode not in modes:
            hint = _HINTS.get((name, mode))
            if name == "false_positive_rate" and mode in _DECIDING:
                hint = "give --threshold.false_positive_rate"
            raise AnoframeError(
                f"--{name} goes with --mode {' or '.join(modes)}, and has no effect with --mode {mode}"
                f"{f': {hint}' if hint else ''}"
            )
    for name in options.overrides:
        _check_dotted(name, mode)


def only_clears(options: argparse.Namespace) -> bool:
    """Whether `--cache clear` stands alone, so that nothing is run."""
    others = (name for name in ("cls_names", *MODES_OF_OPTIONS) if name != "cache" and getattr(options, name))
    return next(others, None) is None and not options.overrides.keys() - {"cache.folder"}


def _check_dotted(name: str, mode: str) -> None:
    """Check that a dotted option has an effect in a mode; its spelling is checked when the config is loaded."""
    section, _, key = name.partition(".")
    deciding = section == "threshold" and key in THRESHOLD_KEYS
    if mode == "train":
        if deciding and key != "false_positive_rate":
            raise AnoframeError(
                f"--{name} goes with --mode {' or '.join(_DECIDING)}: training estimates a threshold from held-back "
                "images, for --threshold.false_positive_rate"
            )
    elif mode == "test":
        if name.startswith(_TRAINED_WITH):
            raise AnoframeError(
                f"--{name} has no effect with --mode test: the checkpoint is trained already; leave it out"
            )
    elif not deciding and (name, mode) not in _READ_BESIDE_CHECKPOINT:
        raise AnoframeError(f"--mode {mode} takes no --{name}: all values come from the checkpoint")


# ------------------------------------------------------------------------------------------------ parsing


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the fixed options; the others become `overrides` of the config by dotted name.

    `threshold` has the options of a threshold that are no values of the config: all of them, except in training.

    Raises:
        AnoframeError: an unknown option, or one without an effect in the mode.
    """
    if argv and not argv[0].startswith("-"):
        known = [*COMMANDS, *MODES]
        raise AnoframeError(
            f"unexpected argument {argv[0]!r}: {suggest(argv[0], known)}; options start with --, see --help"
        )
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    check_effective(options)
    options.threshold = _take_threshold(options) if options.mode != "train" else {}
    for option, name in (("seed", "seed"), ("device", "device"), ("protocol", "protocol.name")):
        value = getattr(options, option)
        if value is not None:
            options.overrides[name] = " ".join(value) if isinstance(value, list) else value
    if options.cache in ("on", "off"):
        options.overrides |= {f"cache.{kind}": options.cache == "on" for kind in CACHE_KINDS}
    return options


def _take_threshold(options: argparse.Namespace) -> dict[str, float]:
    """Move the threshold options out of the overrides, converted to numbers."""
    asked: dict[str, object] = {}
    for key in THRESHOLD_KEYS:
        if (name := f"threshold.{key}") in options.overrides:
            asked[key] = options.overrides.pop(name)
    if options.false_positive_rate is not None:
        if "false_positive_rate" in asked:
            raise AnoframeError(
                "--false_positive_rate and --threshold.false_positive_rate are the same: give one of them"
            )
        asked["false_positive_rate"] = options.false_positive_rate
    return {key: _number(f"threshold.{key}", value) for key, value in asked.items()}


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise AnoframeError(f"{name} takes a number, got {value!r}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anoframe",
        description="Train and evaluate industrial anomaly detectors described by a config.",
        epilog=f"{_EXAMPLES}{describe_commands()}\n\nconfigs:\n{_column(list_configs())}\n\n"
        f"models:   {', '.join(MODELS.names())}\ndatasets: {', '.join(DATASETS.names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="a Python config, on disk or one listed below; or config.yaml of a run")
    add("--cls_names", nargs="+", metavar="NAME", help="categories of the dataset, or all")
    add(
        "--mode",
        choices=("train", "test", "predict", "threshold", "export"),
        default="train",
        help="train also tests (default); threshold stores another threshold in a checkpoint; export writes a model",
    )
    add("--checkpoint", metavar="DIR", help="for every mode but train: a run folder or its checkpoint folder")
    add("--input", nargs="+", metavar="PATH", help="for predict: images, or folders of images")
    add("--maps", choices=("npy", "png", "frame", "none"), help=_MAPS)
    add("--no_overlays", action="store_true", help="for predict: write no pictures with a heatmap")
    add("--format", choices=("onnx", "openvino", "torch"), help="for export: format of the model (default onnx)")
    add("--precision", choices=("fp32", "fp16", "int8"), help="for export: of the weights (default fp32)")
    add("--false_positive_rate", metavar="R", help="for threshold: accepted share of normal images called defects")
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


def _column(names: Sequence[str]) -> str:
    return "\n".join(f"  {name}" for name in names)
