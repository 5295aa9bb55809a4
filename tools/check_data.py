"""Check a dataset before training: image counts, problems, and a picture of masks on their images.

    python tools/check_data.py --data.name mvtec --data.root data/mvtec --cls_names bottle screw

Every file is decoded. Exit status: 0 without problems, 1 with problems, 2 if there is nothing to check.
A picture that cannot be written is a warning.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.data.mask_preview import save_mask_preview
from anoframe.data.masks import MaskSettings
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS
from anoframe.utils.console import run_command


def main(arguments: list[str] | None = None) -> int:
    return run_command(lambda: _run(arguments), "run the same command again")


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.name", dest="name", default="mvtec", help="one of " + ", ".join(DATASETS.names()))
    parser.add_argument("--data.root", dest="root", type=Path, help="folder of the dataset (default: data/<name>)")
    parser.add_argument("--cls_names", nargs="+", default=["all"], metavar="CATEGORY", help="default: all on disk")
    parser.add_argument(
        "--data.follow_links",
        dest="follow_links",
        metavar="True|False",
        type=_parse_bool,
        default=False,
        help="read files outside the root that links in it point to (default: False)",
    )
    parser.add_argument(
        "--data.mask_frame",
        dest="mask_frame",
        default="upright",
        help="upright | stored: masks lie on the photograph as shown, or as stored before EXIF turns it",
    )
    parser.add_argument(
        "--picture", type=Path, default=Path("data_check.png"), help="file of the picture (default: data_check.png)"
    )
    options = parser.parse_args(arguments)
    masks = MaskSettings(frame=options.mask_frame)
    dataset = open_dataset(options.name, options.root or Path("data", options.name))
    categories = choose_categories(dataset, options.cls_names)
    report = check_dataset(dataset, categories, decode=True, follow_links=options.follow_links, masks=masks)
    print(f"{dataset.name} in {dataset.root}\n{report.table()}")
    try:
        save_mask_preview(dataset, categories, options.picture, masks)
        print(f"picture: {options.picture}")
    except (OSError, AnoframeError) as error:
        print(f"warning: the picture could not be written: {error}; choose another --picture", file=sys.stderr)
    return 1 if report.problems else 0


def _parse_bool(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"takes True or False, got {word!r}")
    return word.lower() == "true"


if __name__ == "__main__":
    sys.exit(main())
