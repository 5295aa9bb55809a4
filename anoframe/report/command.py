"""Command line of reports and comparisons: `anoframe compare`, and `python tools/report.py` in a checkout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anoframe.utils.console import run_command
from anoframe.utils.paths import expand_path

_DESCRIPTION = """\
Write a page that compares several runs, or the report of one run again.

    anoframe compare runs/*/separate/bottle/* --output comparison.html
    anoframe compare runs/patchcore_224/separate/bottle/0

Everything is read from the run folders; nothing is computed again. Exit status: 0; 1 if some runs are not comparable
and were left out of the shared table, each with its reason; 2 if a run cannot be read.
"""


def main(argv: Sequence[str] | None = None, prog: str = "report.py") -> int:
    """Run the command line; returns the exit status."""
    return run_command(lambda: _run(argv, prog), "run the same command again")


def _run(argv: Sequence[str] | None, prog: str) -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--output", type=Path, help="file of the comparison (default: comparison.html)")
    options = parser.parse_args(argv)
    if len(options.runs) == 1 and options.output:
        parser.error("--output needs several runs: the report of one run is report.html in its folder")
    runs = [expand_path(run, "run folder") for run in options.runs]
    return _write(runs, expand_path(options.output or "comparison.html", "--output"))


def _write(runs: list[Path], output: Path) -> int:
    from anoframe.report.comparison_page import write_comparison  # here: they import torch, which --help does not need
    from anoframe.report.write import write_report

    if len(runs) == 1:
        print(f"report: {write_report(runs[0])}")
        return 0
    reasons = write_comparison(runs, output).refusals
    for reason in reasons:
        print(f"refused: {reason}", file=sys.stderr)
    print(f"comparison: {output}")
    return 1 if reasons else 0
