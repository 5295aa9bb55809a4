"""Show what a generator of synthetic anomalies does: a contact sheet of originals, edited images and masks.

    python tools/show_synthesis.py --name nsa --data.root data/mvtec --cls_names bottle screw
    python tools/show_synthesis.py --name draem --data.root data/mvtec --set texture_root=data/dtd beta="[0, 0.2]"

Arguments of the generator are set by `--set NAME=VALUE`; docs/synthesis.md lists the generators. Exit status: 0, or 2
for an error in the arguments, the data or the output file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.data.synthesis.contact_sheet import draw_synthetics, parse_settings, save_contact_sheet
from anoframe.data.synthesis.mixture import build_generator
from anoframe.registry import DATASETS, SYNTHESIS
from anoframe.utils.console import run_command
from anoframe.utils.paths import expand_path


def main(arguments: list[str] | None = None) -> int:
    return run_command(lambda: _run(arguments), "run the same command again")


def _run(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    settings = parse_settings(options.settings)
    generator = build_generator({"name": options.name, **settings})
    output = expand_path(options.output or Path(f"synthesis_{options.name}.png"), "--output")
    dataset = open_dataset(options.data_name, options.root or Path("data", options.data_name))
    rows = []
    for category in choose_categories(dataset, options.cls_names):
        results = draw_synthetics(dataset, category, generator, options.size, options.count, options.seed)
        rows.append((category, results))
        print(f"{category}: {sum(result.has_anomaly for result in results)} of {len(results)} images have an anomaly")
    for note in generator.notes():
        print(f"note: {note}")
    title = " ".join([options.name, *(f"{name}={value}" for name, value in settings.items()), f"seed={options.seed}"])
    save_contact_sheet(rows, title, output)
    print(f"picture: {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="generator, one of " + ", ".join(SYNTHESIS.names()))
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="NAME=VALUE", help="arguments of the generator"
    )
    parser.add_argument("--data.name", dest="data_name", default="mvtec", help="one of " + ", ".join(DATASETS.names()))
    parser.add_argument("--data.root", dest="root", type=Path, help="folder of the dataset (default: data/<name>)")
    parser.add_argument("--cls_names", nargs="+", default=["all"], metavar="CATEGORY", help="default: all on disk")
    parser.add_argument("--count", type=_positive, default=6, help="images per category (default: 6)")
    parser.add_argument("--size", type=_positive, default=256, help="side of the images in pixels (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the random generators (default: 0)")
    parser.add_argument("--output", type=Path, help="file of the picture (default: synthesis_<name>.png)")
    return parser


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1, got {word!r}")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
