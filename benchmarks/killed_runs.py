"""Runs that are killed at random moments and resumed: do they end with the metrics file of a run left alone?

    python benchmarks/killed_runs.py --kills 60

Three categories of the demo data, at a resolution that makes a run last seconds. Each trial starts a run, sends SIGKILL
at a moment drawn uniformly from the time that a whole run takes, and starts it again with `start="resume"`; half of
the trials begin with empty caches. Printed: in which stage the kills fell, and how many runs ended with the same
`metrics.json` to the byte. Expected: all. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from anoframe.config import load_config

CHANGES = {"data.resize": 64, "data.crop": 64, "data.workers": 0, "report.pictures": 6, "device": "cpu"}
RUN = "patchcore_noising_demo/separate/brick+grass+gravel/0"


def work(output: str, cache: str, start: str) -> None:
    """A run, in a process of its own."""
    import torch

    from anoframe.runs.api import train

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    cfg = load_config("patchcore_noising/patchcore_noising_demo.py", {**CHANGES, "cache.folder": cache})
    train(cfg, ["brick", "grass", "gravel"], output, start)


class Runs:
    """Starts runs; torch is imported once, in a server that each run is forked from.

    Args:
        work: the run: `(output, cache, start)`.
    """

    def __init__(self, work: Callable[[str, str, str], None]) -> None:
        self._work = work
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["anoframe.runs.api", "timm", "torchvision"])

    def start(self, output: Path, cache: Path, start: str) -> multiprocessing.process.BaseProcess:
        process = self._context.Process(target=self._work, args=(str(output), str(cache), start))
        process.start()
        return process

    def finish(self, output: Path, cache: Path, start: str) -> float:
        """Seconds until a whole run has ended."""
        began = time.perf_counter()
        process = self.start(output, cache, start)
        process.join()
        if process.exitcode:
            sys.exit(f"a run in {output} ended with status {process.exitcode}, started with {start!r}")
        return time.perf_counter() - began


def last_stage(output: Path) -> str:
    """What a killed run had finished last."""
    log = output / RUN / "log.jsonl"
    lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
    stages = [one["name"] for line in lines if (one := json.loads(line))["event"] == "stage"]
    evaluated = sum(json.loads(line)["event"] == "evaluated" for line in lines)
    return f"{evaluated} categories done, after {stages[-1] if stages else 'nothing'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, runs, where, equal, killed = random.Random(options.seed), Runs(work), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        runs.finish(scratch / "warm", scratch / "cache", "new")
        whole = runs.finish(scratch / "alone", scratch / "cache alone", "new")
        expected = (scratch / "alone" / RUN / "metrics.json").read_bytes()
        for number in range(options.kills):
            output, cache = scratch / str(number), scratch / ("cache" if number % 2 else f"cache {number}")
            process = runs.start(output, cache, "new")
            process.join(chance.uniform(0, whole))
            killed += process.is_alive()
            process.kill()
            process.join()
            where[last_stage(output)] += 1
            runs.finish(output, cache, "resume")
            equal += (output / RUN / "metrics.json").read_bytes() == expected
            print(f"{number + 1}: {equal} equal", file=sys.stderr, flush=True)
            shutil.rmtree(output)
    print(f"a whole run takes {whole:.1f} s; {killed} of {options.kills} runs were alive when killed:")
    print("\n".join(f"  {count:3} {what}" for what, count in sorted(where.items())))
    print(f"{equal} of {options.kills} resumed runs have the metrics.json of a run left alone, to the byte")
    sys.exit(equal != options.kills)


if __name__ == "__main__":
    main()
