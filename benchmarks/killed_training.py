"""Kill one training many times, resume it, and compare its files with those of an uninterrupted training.

    python benchmarks/killed_training.py --kills 20

RD4AD on EfficientNet-Lite0 and photographs of the demo data, small enough that training takes a minute; its state is
written after every step. SIGKILL is sent at moments drawn uniformly from one to `--longest` seconds after a start, and
the training is resumed with `start="resume"`, `--kills` times; the last start is not killed. Prints the training step
at each kill, and whether `learned.safetensors`, `metrics.json` and `metrics.csv` equal those of the uninterrupted run.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from killed_runs import Runs

from anoframe.config import load_config

CHANGES = {
    "data.name": "demo",
    "data.resize": 64,
    "data.crop": 64,
    "data.workers": 0,
    "device": "cpu",
    "model.width": 0.25,
    "trainer.epochs": 40,
    "trainer.save_minutes": 0.0,
    "report.pictures": 2,
}
RUN = Path("rd4ad_lite0_256/separate/brick/0")
FILES = ("checkpoint/brick/learned.safetensors", "metrics.json", "metrics.csv")


def work(output: str, cache: str, start: str) -> None:
    """Train in a new process, without output."""
    import torch

    from anoframe.runs.api import train

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    train(load_config("rd4ad/rd4ad_lite0_256.py", {**CHANGES, "cache.folder": cache}), ["brick"], output, start)


def progress(output: Path) -> str:
    """Describe the newest training state of a killed run."""
    states = sorted(path.name for path in (output / RUN / "training/brick").glob("[0-9]*"))
    return f"step {int(states[-1].partition('.')[2])}" if states else "no training state"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=8.0, help="longest time from a start to the kill, seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, runs, num_killed = random.Random(options.seed), Runs(work), 0
    with tempfile.TemporaryDirectory() as folder:
        output, cache, uninterrupted = (Path(folder) / name for name in ("killed", "cache", "uninterrupted"))
        seconds = runs.finish(uninterrupted, cache, "new")
        for number in range(options.kills):
            process = runs.start(output, cache, "resume")
            process.join(rng.uniform(1, options.longest))
            num_killed += process.is_alive()
            process.kill()
            process.join()
            print(f"kill {number + 1}: {progress(output)}", flush=True)
        runs.finish(output, cache, "resume")
        equal = [(output / RUN / name).read_bytes() == (uninterrupted / RUN / name).read_bytes() for name in FILES]
    print(f"a whole run takes {seconds:.1f} s; it was alive at {num_killed} of {options.kills} kills")
    print(
        "\n".join(
            f"{name}: {'equal to the byte' if same else 'DIFFERS'}" for name, same in zip(FILES, equal, strict=True)
        )
    )
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
