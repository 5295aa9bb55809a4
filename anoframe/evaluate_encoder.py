"""Command line of the evaluation of encoders: `python tools/evaluate_encoder.py`. Loads torch only for work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from anoframe.config.overrides import dotted_options
from anoframe.registry import LABELLED, PROBES
from anoframe.utils.console import run_command
from anoframe.utils.imports import quick_imports

_EXAMPLES = """\
every value of the config can be set by its dotted name; --print_config shows all names and values

examples:
  tools/evaluate_encoder.py --encoder.name exported:runs/simclr_resnet18_32px/pretraining/cifar10/0 --data.root cifar-10
  tools/evaluate_encoder.py --encoder.name resnet18 --encoder.weights random --data.name stl10 --data.root DIR
"""


def main(argv: Sequence[str] | None = None, prog: str = "tools/evaluate_encoder.py") -> int:
    """Run the command line; returns 0, 2 for an error the user can correct, or 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(_parse(words, prog)), "the same command with --resume continues this run")


def _run(options: argparse.Namespace) -> int:
    from anoframe.config import format_config, load_config

    cfg = load_config(options.config, options.overrides)
    if options.print_config:
        print(format_config(cfg), end="")
        return 0
    with quick_imports():  # torch
        from anoframe.runs.probe_run import evaluate_encoder

    start = "resume" if options.resume else "overwrite" if options.overwrite else "new"
    result = evaluate_encoder(cfg, options.output, start)
    for name, values in result.metrics.items():
        print(f"{name:<8} " + "   ".join(f"{key} {100 * value:.2f} %" for key, value in values.items()))
    print(f"report:  {result.folder / 'report.html'}")
    return 0


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the fixed options; the others become `overrides` of the config by dotted name."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Evaluate an encoder by classification: linear probe and nearest neighbours on frozen features.",
        epilog=f"{_EXAMPLES}\nimages: {', '.join(LABELLED.names())}\nprobes: {', '.join(PROBES.names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", default="probe/probe.py", help="a Python config (default probe/probe.py)")
    add("--seed", metavar="N", help="of the linear probe (default 0)")
    add("--device", metavar="D", help="auto, cpu, cuda or a number")
    add("--output", metavar="DIR", default="runs", help="parent of run folders (default runs)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue an interrupted run in its folder")
    start.add_argument("--overwrite", action="store_true", help="replace the run in the same folder")
    add("--print_config", action="store_true", help="print the config as it would run, and exit")
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    for name in ("seed", "device"):
        if getattr(options, name) is not None:
            options.overrides[name] = getattr(options, name)
    return options


if __name__ == "__main__":
    sys.exit(main())
