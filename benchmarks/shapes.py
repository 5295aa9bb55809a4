"""Ways to bring photographs that are not square to the input of a network, on real photographs.

    python benchmarks/shapes.py --data SHARED --output OUT --sets kolektorsdd capsules magnetic_tile
    python benchmarks/shapes.py --data SHARED --output OUT --sets kolektorsdd --shapes tiles large
    python benchmarks/shapes.py --data SHARED --output OUT5 --sets kolektorsdd --fits 5
    python benchmarks/shapes.py --output OUT --table                 # the tables of docs/shapes.md, from finished runs

PatchCore on EfficientNet-Lite0 (`configs/patchcore/patchcore_lite0_224.py`), three seeds. All ways but the last two
give the network 224 x 224 = 50,176 pixels, or as near as sides that are multiples of 16 allow. Runs that are finished
are skipped, so an interrupted call continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import anoframe
from anoframe.evaluation.decision import estimate_threshold
from anoframe.utils.files import read_json

CONFIG = "patchcore/patchcore_lite0_224.py"
METRICS = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AUPRO": "aupro"}
RATES = (0.01, 0.05)  # accepted shares of normal images called defects


class Set(NamedTuple):
    """A category of real photographs."""

    name: str  # of the dataset in a config
    root: str  # below --data
    large: tuple[int, int]  # height and width near those of the photographs, for `tiles` and `large`


SETS = {
    "kolektorsdd": Set("folder", "other", (640, 256)),
    "capsules": Set("visa", "visa", (288, 432)),
    "magnetic_tile": Set("folder", "other", (384, 320)),
}
SHAPES: dict[str, dict[str, Any]] = {
    "squeeze": {},  # the default of earlier versions: 256 x 256, of which the centre 224 x 224 is kept
    "squeeze_whole": {"data.resize": 224, "data.crop": 224},
    "keep": {"data.keep_aspect": True},
    "pad": {"data.keep_aspect": "pad", "data.resize": 224, "data.crop": 224},
    "rectangle": {"data.keep_aspect": "rectangle"},
    "tiles": {"data.tile": 256, "data.tile_overlap": 64},
    "large": {},  # the whole image at the size that `tiles` cuts
}
SAME_PIXELS = tuple(SHAPES)[:5]


def settings(category: str, shape: str) -> dict[str, Any]:
    """Return the config values of a way; the bank of a larger image has as many entries as that of 224 x 224."""
    data, changes = SETS[category], dict(SHAPES[shape])
    changes = {"data.keep_aspect": False, **changes}
    if shape not in SAME_PIXELS:
        height, width = data.large
        pixels = height * width
        if shape == "tiles":
            tiling = count_tiles(data.large, changes["data.tile"], changes["data.tile_overlap"])
            pixels = tiling * changes["data.tile"] ** 2
        ratio = round(0.01 * 224 * 224 / pixels, 6)
        changes |= {"data.resize": data.large, "data.crop": data.large, "model.coreset.ratio": ratio}
    return changes


def count_tiles(size: tuple[int, int], tile: int, overlap: int) -> int:
    """Return the number of tiles of an image."""
    from anoframe.data.tiling import Tiling

    return len(Tiling(tile, overlap).windows(size))


def run(options: argparse.Namespace, category: str, shape: str, seed: int) -> None:
    """Train and test one way with one seed, unless it is done."""
    output = options.output / shape
    folder = output / Path(CONFIG).stem / "separate" / category / str(seed)
    if (folder / "metrics.json").exists():
        return
    data = SETS[category]
    overrides = {
        "data.name": data.name,
        "data.root": str(options.data / data.root),
        "report.pictures": 0,
        "seed": seed,
        "threshold.fits": options.fits,
        **settings(category, shape),
    }
    finished = anoframe.train(anoframe.load_config(CONFIG, overrides), [category], output, start="resume")
    print(category, shape, seed, finished.metrics[category]["image_auroc"], flush=True)


def row(file: Path) -> dict[str, float]:
    """Return the figures of one finished run: metrics in percent, misses and false alarms for each accepted rate."""
    result = read_json(file)
    figures = {title: 100 * result["metrics"][name] for title, name in METRICS.items()}
    folder = file.parents[1] / "checkpoint" / file.stem
    held_back = read_json(folder / "held_back.json")["categories"][file.stem]
    for rate in RATES:
        limit = estimate_threshold(held_back["scores"], held_back["peaks"], rate).image
        called = [(image["defect"] != "good", image["score"] >= limit) for image in result["images"]]
        figures[f"misses at {rate}"] = sum(is_defect and not is_called for is_defect, is_called in called)
        figures[f"false alarms at {rate}"] = sum(is_called and not is_defect for is_defect, is_called in called)
    return figures


def table(options: argparse.Namespace) -> None:
    """Print a table in Markdown for each set: mean and standard deviation over the seeds that are finished."""
    for category in options.sets:
        lines, titles = [], []
        for shape in SHAPES:
            pattern = f"{shape}/{Path(CONFIG).stem}/separate/{category}/*/results/{category}.json"
            folders = sorted(options.output.glob(pattern))
            rows = [row(path) for path in folders]
            if not rows:
                continue
            titles = list(rows[0])
            data = read_json(folders[0].parents[1] / "run.json")["provenance"]["data"]
            size = data["crop"] if isinstance(data["crop"], list) else [data["crop"]] * 2
            words = " x ".join(map(str, size)) + (f" in tiles of {data['tile']}" if "tile" in data else "")
            cells = [f"{mean(r[key] for r in rows):.1f}{_spread([r[key] for r in rows])}" for key in rows[0]]
            lines.append(f"| {shape} | {words} | {len(rows)} | {' | '.join(cells)} |")
        if lines:
            print(f"\n{category}\n\n| way | network's image | seeds | {' | '.join(titles)} |")
            print("|" + "---|" * (3 + len(titles)))
            print("\n".join(lines))


def _spread(values: list[float]) -> str:
    return f" ± {stdev(values):.1f}" if len(values) > 1 else ""


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SAME_PIXELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--fits", type=int, default=1, help="second fits for the threshold; another --output for each")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        for seed in options.seeds:
            for category in options.sets:
                for shape in options.shapes:
                    run(options, category, shape, seed)
    table(options)


if __name__ == "__main__":
    main()
