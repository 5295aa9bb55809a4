"""Commands of `anoframe` that have their own options: `anoframe grid`, `anoframe compare` and others.

Each module is imported when its command is called. The same command lines are in `tools/` of a checkout.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

COMMANDS = {  # name -> module with `main(argv, prog)`, and what it does
    "grid": ("anoframe.grid.cli", "run configs x categories x seeds, and write one table"),
    "compare": ("anoframe.report.command", "write a page that compares runs, or the report of one run again"),
    "check": ("anoframe.data.check_command", "check a dataset before training"),
    "pretrain": ("anoframe.pretrain", "pretrain an encoder on your own images"),
    "survey": ("anoframe.survey.cli", "compare encoders: random, pretrained and ImageNet, in one table"),
    "probe": ("anoframe.evaluate_encoder", "evaluate an encoder by classification"),
}
MODES = {"export": "write a trained detector as one file"}  # `anoframe export` is `anoframe --mode export`


def run_subcommand(name: str, words: Sequence[str]) -> int:
    """Run a command with its own options; returns its exit status."""
    module = importlib.import_module(COMMANDS[name][0])
    status: int = module.main(list(words), prog=f"anoframe {name}")
    return status


def describe_commands() -> str:
    """List the commands for `anoframe --help`."""
    described = {name: text for name, (_, text) in COMMANDS.items()} | MODES
    return "\n".join(f"  anoframe {name:<10} {text}" for name, text in described.items())
