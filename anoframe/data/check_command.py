"""Command line of dataset checks: `anoframe check`, and `python tools/check_data.py` in a checkout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.data.mask_preview import save_mask_preview
from anoframe.data.masks import MaskSettings
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS
from anoframe.utils.console import run_command
from anoframe.utils.paths import expand_path

_DESCRIPTION = """\
Check a dataset before training: image counts, problems, and a picture of masks on their images.

    anoframe check --data.name mvtec --data.root data/mvtec --cls_names bottle screw

Every file is decoded. Exit status: 0 without problems, 1 with problems, 2 if there is nothing to check.
A picture that cannot be written is a warning.
"""


def main(argv: Sequence[str] | None = None, prog: str = "check_data.py") -> int:
    """Run the command line; returns the exit status."""
    return run_command(lambda: _run(_parser(prog).parse_args(argv)), "run the same command again")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data.name", dest="name", default="mvtec", help="one of " + ", ".join(DATASETS.names()))
    add("--data.root", dest="root", type=Path, help="folder of the dataset (default: data/<name>)")
    add("--cls_names", nargs="+", default=["all"], metavar="CATEGORY", help="default: all on disk")
    add(
        "--data.follow_links",
        dest="follow_links",
        metavar="True|False",
        type=_parse_bool,
        default=False,
        help="read files outside the root that links in it point to (default: False)",
    )
    add(
        "--data.mask_frame",
        dest="mask_frame",
        default="upright",
        help="upright | stored: masks lie on the photograph as shown, or as stored before EXIF turns it",
    )
    add("--picture", type=Path, default=Path("data_check.png"), help="file of the picture (default: data_check.png)")
    return parser


def _run(options: argparse.Namespace) -> int:
    masks = MaskSettings(frame=options.mask_frame)
    picture = expand_path(options.picture, "--picture")
    dataset = open_dataset(options.name, options.root or Path("data", options.name))
    categories = choose_categories(dataset, options.cls_names)
    report = check_dataset(dataset, categories, decode=True, follow_links=options.follow_links, masks=masks)
    print(f"{dataset.name} in {dataset.root}\n{report.table()}")
    try:
        save_mask_preview(dataset, categories, picture, masks)
        print(f"picture: {picture}")
    except (OSError, AnoframeError) as error:
        print(f"warning: the picture could not be written: {error}; choose another --picture", file=sys.stderr)
    return 1 if report.problems else 0


def _parse_bool(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"takes True or False, got {word!r}")
    return word.lower() == "true"
