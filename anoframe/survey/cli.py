"""Command line of surveys of encoders: `anoframe survey`, and `python tools/survey.py` in a checkout.

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
A survey trains or takes encoders and evaluates each with each seed. Every pretraining and evaluation is an ordinary run
folder. Finished ones are not run again: after a kill, the same command resumes the survey. Every value of the config
can be set by its dotted name; --print_config shows all names and values.

examples:
  tools/survey.py --config survey/backbones.py --detection.set.data.root MVTec --seeds 0 1 2 --workers 2 ...
  tools/survey.py --config survey/backbones.py --encoders.simclr_own.source exported \\
      --encoders.simclr_own.path 'runs/simclr_own/pretraining/mvtec/{seed}' ...

files in the output folder: survey.html (tables, charts), survey.md, survey.csv, survey.json

exit status:
  0  all runs finished
  1  a run failed, or some runs are not comparable; each reason is printed
  2  an error before the first run, for example a misspelt option
"""


def main(argv: Sequence[str] | None = None, prog: str = "tools/survey.py") -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    return run_command(lambda: _run(_parse(words, prog)), "run the same command again to resume the survey")


def _run(options: argparse.Namespace) -> int:
    from anoframe.config import format_config, load_config
    from anoframe.survey.settings import read_survey

    workers = parse_workers(options.workers, options.ray, options.cores)
    cfg = load_config(options.config, options.overrides)
    if options.print_config:
        print(format_config(cfg), end="")
        return 0
    read_survey(cfg)
    from anoframe.report.survey_export import survey_markdown
    from anoframe.survey.runner import run_survey  # imports torch, so only after the options are checked

    survey = run_survey(cfg, options.output, workers, options.ray, options.cores or 1)
    table = survey.table
    print(f"\n{survey_markdown(table)}\nreport: {survey.page}")
    for failure in table.failures:
        print(f"failed: {failure.cell}: {failure.reason}", file=sys.stderr)
    for reason in table.refusals:
        print(f"not comparable: {reason}", file=sys.stderr)
    return 1 if table.failures or table.refusals else 0


def _parse(argv: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the known options; all others are overrides of the config by dotted name."""
    parser = _parser(prog)
    options, rest = parser.parse_known_args(argv)
    options.overrides = dotted_options(rest, parser)
    if options.seeds is not None:
        options.overrides["seeds"] = tuple(options.seeds)
    if options.device is not None:
        options.overrides["device"] = options.device
    return options


def _parser(prog: str) -> argparse.ArgumentParser:
    shipped = "\n".join(f"  {name}" for name in list_configs() if name.startswith("survey/"))
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare encoders: pretrain or take them, evaluate each, and write the results into one table.",
        epilog=f"{_EPILOG}\nconfigs:\n{shipped}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="a Python config of a survey: a path, or a name listed below")
    add("--seeds", nargs="+", type=int, metavar="N", help="of encoders and evaluations (default: those of the config)")
    add("--output", default="runs", metavar="DIR", help="parent folder of run folders and of the tables (default runs)")
    add("--workers", default="0", metavar="N", help="0: this process (default); N: N processes; ray: a Ray cluster")
    add("--ray", metavar="ADDRESS", help="address of a running Ray cluster (default: start one on this machine)")
    add("--cores", type=int, metavar="N", help="cores per run on Ray (default 1)")
    add("--device", metavar="D", help="auto, cpu, cuda or a number (default: that of the config)")
    add("--print_config", action="store_true", help="print the config as it would run, and exit")
    return parser
