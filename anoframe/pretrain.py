"""Command line of pretraining: `python tools/pretrain.py`. Loads no torch before there is work to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from anoframe.config.discovery import list_configs
from anoframe.config.overrides import dotted_options
from anoframe.distributed import process_group as distributed
from anoframe.registry import LABELLED, PRETRAINING
from anoframe.utils.console import run_command
from anoframe.utils.imports import quick_imports

_EXAMPLES = """\
every value of the config can be set by its dotted name; --print_config shows all names and values:
  --data.name images|classes|cifar10|mvtec|...   --data.also mvtec:DIR visa:DIR   --data.exclude mvtec:DIR
  --trainer.epochs 2      --views.preset industrial      --encoder.architecture resnet50

examples:
  tools/pretrain.py --config configs/simclr/simclr_resnet18_industrial.py --data.root photos/ --data.exclude mvtec:MVTec
  tools/pretrain.py --config configs/simclr/simclr_resnet18_32px.py --data.root cifar-10 --trainer.batch_size 128
  tools/main.py --config configs/patchcore/patchcore_224.py --cls_names bottle --model.backbone.name \\
      exported:runs/simclr_resnet18/pretraining/images/0
"""
_RESUME = "the same command with --resume continues this run"


def main(argv: Sequence[str] | None = None, prog: str = "tools/pretrain.py") -> int:
    """Run the command line; returns 0, 2 for an error the user can correct, or 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(_parse(words, prog), words), _RESUME)


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    from anoframe.config import format_config, load_config
    from anoframe.config.validation import check_pretraining_config

    cfg = load_config(options.config, options.overrides)
    if options.print_config:
        print(format_config(cfg), end="")
        return 0
    check_pretraining_config(cfg)
    if len(cfg.device.split()) > 1 and not distributed.is_torchrun_process():
        from anoframe.distributed.launch import launch

        return launch(words, cfg.device, module="anoframe.pretrain")
    with quick_imports():  # torch
        from anoframe.runs.pretraining_run import pretrain

    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    result = pretrain(cfg, options.output, start)
    if distributed.is_main_process():
        print(f"\nencoder: {result.file}\nreport:  {result.folder / 'report.html'}")
    return 0


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the fixed options; the others become `overrides` of the config by dotted name."""
    configs = "\n".join(f"  {name}" for name in list_configs() if name.startswith("simclr/"))
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Pretrain an encoder described by a config, and export it.",
        epilog=f"{_EXAMPLES}\nconfigs:\n{configs}\n\nlearners: {', '.join(PRETRAINING.names())}\n"
        f"images:   {', '.join(LABELLED.names())}, or a dataset",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", required=True, help="a Python config of pretraining, or config.yaml of such a run")
    add("--seed", metavar="N", help="the same seed gives the same encoder (default 0)")
    add("--device", nargs="+", metavar="D", help="auto, cpu, cuda or a number; several train with one process each")
    add("--output", metavar="DIR", default="runs", help="parent of run folders (default runs)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue an interrupted run in its folder")
    start.add_argument("--overwrite", action="store_true", help="replace the run in the same folder")
    add("--print_config", action="store_true", help="print the config as it would run, and exit")
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    for name in ("seed", "device"):
        value = getattr(options, name)
        if value is not None:
            options.overrides[name] = " ".join(value) if isinstance(value, list) else value
    return options


if __name__ == "__main__":
    sys.exit(main())
