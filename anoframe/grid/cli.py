"""Command line of grids: `anoframe grid`, and `python tools/benchmark.py` in a checkout.

Torch is imported only when the options are valid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from anoframe.config.discovery import list_configs
from anoframe.config.overrides import dotted_options
from anoframe.grid.workers import parse_workers
from anoframe.utils.console import run_command

_EPILOG = """\
A cell is one config x one category (all categories with --protocol unified or continual) x one seed. It is an ordinary
run folder, as tools/main.py writes it. Finished cells are not run again: after a kill, the same command resumes the
grid. Any config value can be set for all configs by its dotted name: --data.root DIR, --model.sigma 2.0

examples:
  python tools/benchmark.py --configs patchcore/patchcore_lite0_224.py --cls_names all --seeds 0 1 2 --data.root MVTec
  python tools/benchmark.py --configs a.py b.py --cls_names bottle screw --seeds 0 1 2 --workers 4 --device cpu
  python tools/benchmark.py --configs a.py b.py --cls_names all --seeds 0 1 2 --workers ray --ray head:6379
  python tools/benchmark.py --configs a.py --cls_names all --protocol unified --wandb.enable True

files in the output folder: grid.html (table, charts, links to the reports of the runs), grid.md, grid.csv, grid.json

exit status:
  0  all cells finished
  1  a cell failed, or some runs are not comparable and have separate tables; each reason is printed
  2  an error before the first cell, for example a misspelt option
"""


def main(argv: Sequence[str] | None = None, prog: str = "benchmark.py") -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    return run_command(lambda: _run(_parse(words, prog)), "run the same command again to resume the grid")


def _run(options: argparse.Namespace) -> int:
    workers = parse_workers(options.workers, options.ray, options.cores)
    from anoframe.grid.runner import run_grid  # imports torch, so only after the options are checked
    from anoframe.report.grid_export import markdown

    grid = run_grid(
        options.configs,
        options.cls_names,
        options.seeds,
        options.output,
        options.overrides,
        workers,
        options.ray,
        options.cores or 1,
    )
    summary = grid.summary
    print(f"\n{markdown(summary)}\nreport: {grid.page}")
    for failure in summary.failures:
        print(f"failed: {failure.cell}: {failure.reason}", file=sys.stderr)
    for reason in summary.refusals:
        print(f"separate tables: {reason}", file=sys.stderr)
    return 1 if summary.failures or summary.refusals else 0


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the known options; all others are overrides of the configs by dotted name."""
    parser = _parser(prog)
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    if options.device is not None:
        options.overrides["device"] = " ".join(options.device)
    if options.protocol is not None:
        options.overrides["protocol.name"] = options.protocol
    return options


def _parser(prog: str) -> argparse.ArgumentParser:
    shipped = "\n".join(f"  {name}" for name in list_configs())
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run a grid of configs, categories and seeds, and write the results into one table.",
        epilog=f"{_EPILOG}\nconfigs:\n{shipped}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--configs", nargs="+", required=True, metavar="FILE", help="Python configs: paths, or names listed below")
    add("--cls_names", nargs="+", metavar="NAME", help="categories of the dataset, or all")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default 0; several give a standard deviation")
    add("--output", default="runs", metavar="DIR", help="parent folder of run folders and of the table (default runs)")
    add("--workers", default="0", metavar="N", help="0: this process (default); N: N processes; ray: a Ray cluster")
    add("--ray", metavar="ADDRESS", help="address of a running Ray cluster (default: start one on this machine)")
    add("--cores", type=int, metavar="N", help="cores per cell on Ray (default 1)")
    add("--device", nargs="+", metavar="D", help="auto, cpu, cuda, or the number of a GPU: 0 or cuda:0 (default auto)")
    add(
        "--protocol",
        metavar="P",
        help="separate: one detector per category (default); unified: one for all; continual: one, task after task",
    )
    return parser
