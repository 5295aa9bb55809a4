"""The command line of grids: `python tools/benchmark.py`. Loads no torch until there is work to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from anoframe.config.discovery import list_configs
from anoframe.config.overrides import dotted_options
from anoframe.errors import AnoframeError

_EXAMPLES = """\
a cell is one config x one category (all of them with --protocol unified or continual) x one seed: an ordinary run
folder, as tools/main.py makes it. Cells that are there are not made again: after a kill, the same command goes on.
any value of the configs can be set by its dotted name, for all of them: --data.root DIR, --model.sigma 2.0

examples:
  python tools/benchmark.py --configs patchcore/patchcore_lite0_224.py --cls_names all --seeds 0 1 2 --data.root MVTec
  python tools/benchmark.py --configs a.py b.py --cls_names bottle screw --seeds 0 1 2 --workers 4 --device cpu
  python tools/benchmark.py --configs a.py b.py --cls_names all --seeds 0 1 2 --workers ray --ray head:6379
  python tools/benchmark.py --configs a.py --cls_names all --protocol unified --wandb.enable True

in the output folder: grid.html (the table, a picture of it, links to the runs), grid.md, grid.csv, grid.json.
exit status: 0; 1 where a cell failed or some runs may not share a table, each with its reason; 2 for what is wrong
before the first cell
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        return _run(_parse(sys.argv[1:] if argv is None else argv))
    except AnoframeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}: check that path, its permissions, and the space on the disk", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is done", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    workers = _workers(options.workers)
    for name, given in (("ray", options.ray), ("cores", options.cores)):
        if given and workers != "ray":
            raise AnoframeError(f"--{name} goes with --workers ray")
    from anoframe.grid.grid import run_grid  # torch: after what can be wrong with words
    from anoframe.report.grid_table import markdown

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
        print(f"not in one table: {reason}", file=sys.stderr)
    return 1 if summary.failures or summary.refusals else 0


def _workers(text: str) -> int | Literal["ray"]:
    if text == "ray":
        return "ray"
    if not text.isdecimal():
        raise AnoframeError(f"--workers takes 0, a number of processes, or ray, got {text!r}")
    return int(text)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Known options, and the rest as overrides of every config by dotted name."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    if options.device is not None:
        options.overrides["device"] = " ".join(options.device)
    if options.protocol is not None:
        options.overrides["protocol.name"] = options.protocol
    return options


def _parser() -> argparse.ArgumentParser:
    shipped = "\n".join(f"  {name}" for name in list_configs())
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Run a grid of configs, categories and seeds, and put the results into one table.",
        epilog=f"{_EXAMPLES}\nconfigs:\n{shipped}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--configs", nargs="+", required=True, metavar="FILE", help="Python configs, on disk or listed below")
    add("--cls_names", nargs="+", metavar="NAME", help="categories of the dataset, or all")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default 0; several give a standard deviation")
    add("--output", default="runs", metavar="DIR", help="parent of run folders and of the table (default runs)")
    add("--workers", default="0", metavar="N", help="0: in this process (default); N processes; ray: on a Ray cluster")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster; without it, one is started on this machine")
    add(
        "--cores", type=int, metavar="N", help="that a cell takes on Ray (default 1); more of them, fewer cells at once"
    )
    add("--device", nargs="+", metavar="D", help="auto, cpu, cuda, or the number of a GPU (default auto)")
    add(
        "--protocol",
        metavar="P",
        help="separate: a detector a category (default); unified: one for all; continual: task after task",
    )
    return parser
