"""Count the defects that a central crop hides, wholly or partly, and the defect area that it removes.

    python benchmarks/cropped_defects.py --root MVTec --categories bottle screw

Reads the masks of the test images only. Cost: seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def count(name: str, root: str, category: str, resize: int, crop: int) -> str:
    """Compare each mask at `resize` pixels with its crop; return a row of a Markdown table."""
    from anoframe.data.cached_reader import Reader
    from anoframe.data.dataset import open_dataset
    from anoframe.data.preprocessing import Preprocessing

    whole, cropped = (Reader(Preprocessing(resize, side)) for side in (resize, crop))
    samples = [s for s in open_dataset(name, Path(root)).samples(category) if s.mask is not None]
    areas = [tuple(int(reader.mask(sample).sum()) for reader in (whole, cropped)) for sample in samples]
    hidden = sum(before > 0 and after == 0 for before, after in areas)
    cut = sum(0 < after < before for before, after in areas)
    lost = 1 - sum(after for _, after in areas) / sum(before for before, _ in areas)
    return f"| {category} | {resize} to {crop} | {hidden} of {len(areas)} | {cut} | {100 * lost:.1f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="mvtec", help="kind of the dataset")
    parser.add_argument("--root", required=True)
    parser.add_argument("--categories", nargs="+", required=True)
    parser.add_argument("--resize", type=int, nargs="+", default=[320, 256], help="pixels")
    parser.add_argument("--crop", type=int, default=224, help="pixels")
    options = parser.parse_args()
    print("| category | crop | defects hidden | defects cut | defect area lost |\n|---|---|---|---|---|")
    for category in options.categories:
        for resize in options.resize:
            print(count(options.name, options.root, category, resize, options.crop))


if __name__ == "__main__":
    main()
