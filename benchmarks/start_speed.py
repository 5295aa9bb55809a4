"""Start-up time: the first line and the first score of a prediction, import and `--help`, compared with anomalib.

    python benchmarks/start_speed.py --anomalib-python PY

Ours: `--mode predict` of one image with a detector that is trained first (PatchCore with noising on the demo data):
until the first line on the console, and until the process ends; `import anoframe`, the same with access to
`anoframe.train` (which imports torch), `--help`. anomalib: the import lines of its README, `anomalib --help`. Run it
on a machine with warm file caches.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _rounds import ROOT, Side, run_alternately, table, write_section
from PIL import Image

ANOMALIB_IMPORTS = (
    "from anomalib.data import MVTecAD; from anomalib.models import Patchcore; from anomalib.engine import Engine"
)
FIRST_LINE = (
    "import subprocess, sys, time, json; started = time.perf_counter()\n"
    "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
    "process.stdout.readline(); print(json.dumps({'seconds': time.perf_counter() - started}), flush=True)\n"
    "process.stdout.read(); sys.exit(process.wait())"
)


def read_nothing(output: str) -> dict[str, Any]:
    """The commands print no results: whole processes are timed."""
    return {}


def prediction(folder: Path) -> list[str]:
    """Train a detector on the demo data, and return the command that scores one image with it."""
    config = "configs/patchcore_noising/patchcore_noising_demo.py"
    train = [sys.executable, "tools/main.py", "--config", config, "--cls_names", "brick", "--output", str(folder)]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    run = next(folder.rglob("metrics.json")).parent
    image = folder / "part.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)).save(image)
    command = [sys.executable, "tools/main.py", "--mode", "predict", "--checkpoint", str(run), "--input", str(image)]
    return [*command, "--output", str(folder / "predictions"), "--overwrite"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--anomalib-python", type=os.path.abspath, help="interpreter that has anomalib; without, ours only"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer = options.anomalib_python
    with tempfile.TemporaryDirectory() as folder:
        command = prediction(Path(folder))
        groups = [
            [
                Side("first score of one image", command, read_nothing),
                Side("first line on the console", [sys.executable, "-c", FIRST_LINE, *command]),
                Side("first score, beside a second process", command, read_nothing, busy=True),
            ],
            [
                Side("import anoframe", [sys.executable, "-c", "import anoframe"], read_nothing),
                Side(
                    "anoframe with torch",
                    [sys.executable, "-c", "import anoframe; anoframe.train"],
                    read_nothing,
                ),
            ],
            [Side("anoframe --help", [sys.executable, "tools/main.py", "--help"], read_nothing)],
        ]
        if peer:
            groups[1].append(Side("anomalib's README", [peer, "-c", ANOMALIB_IMPORTS], read_nothing))
            groups[2].append(Side("anomalib --help", [str(Path(peer).with_name("anomalib")), "--help"], read_nothing))
        tables = []
        for sides in groups:
            run_alternately(sides, options.rounds)
            tables.append(table(sides))
    text = "\n\n".join(tables)
    print(text)
    if peer:
        write_section("start", text)


if __name__ == "__main__":
    main()
