"""Kill runs at random moments, resume them, and compare their metrics with those of an uninterrupted run.

    python benchmarks/killed_runs.py --kills 60

Three categories of the demo data, at a resolution at which a run takes seconds. Each trial starts a run, sends SIGKILL
at a moment drawn uniformly from the duration of a whole run, and starts it again with `start="resume"`; half of the
trials start with empty caches. Prints the stages in which the runs were killed, and how many of them ended with the
same `metrics.json` to the byte. Expected: all. Linux and macOS.
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
    """Train in a new process, without output."""
    import torch

    from anoframe.runs.api import train

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    cfg = load_config("patchcore_noising/patchcore_noising_demo.py", {**CHANGES, "cache.folder": cache})
    train(cfg, ["brick", "grass", "gravel"], output, start)


class Runs:
    """Start runs as forks of a server process, which imports torch once.

    Args:
        work: function of one run: `(output, cache, start)`.
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
        """Run to the end; returns the seconds it took."""
        start_time = time.perf_counter()
        process = self.start(output, cache, start)
        process.join()
        if process.exitcode:
            sys.exit(f"a run in {output} ended with status {process.exitcode}, started with {start!r}")
        return time.perf_counter() - start_time


def last_stage(output: Path) -> str:
    """Describe the last finished stage of a killed run."""
    log = output / RUN / "log.jsonl"
    lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
    stages = [event["name"] for line in lines if (event := json.loads(line))["event"] == "stage"]
    evaluated = sum(json.loads(line)["event"] == "evaluated" for line in lines)
    return f"{evaluated} categories done, after {stages[-1] if stages else 'nothing'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, runs, last_stages, num_equal, num_killed = random.Random(options.seed), Runs(work), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        runs.finish(scratch / "first", scratch / "cache", "new")
        seconds = runs.finish(scratch / "uninterrupted", scratch / "other cache", "new")
        expected = (scratch / "uninterrupted" / RUN / "metrics.json").read_bytes()
        for number in range(options.kills):
            output, cache = scratch / str(number), scratch / ("cache" if number % 2 else f"cache {number}")
            process = runs.start(output, cache, "new")
            process.join(rng.uniform(0, seconds))
            num_killed += process.is_alive()
            process.kill()
            process.join()
            last_stages[last_stage(output)] += 1
            runs.finish(output, cache, "resume")
            num_equal += (output / RUN / "metrics.json").read_bytes() == expected
            print(f"{number + 1}: {num_equal} equal", file=sys.stderr, flush=True)
            shutil.rmtree(output)
    print(f"a whole run takes {seconds:.1f} s; {num_killed} of {options.kills} runs were alive when killed:")
    print("\n".join(f"  {count:3} {stage}" for stage, count in sorted(last_stages.items())))
    print(f"{num_equal} of {options.kills} resumed runs have the metrics.json of an uninterrupted run, to the byte")
    sys.exit(num_equal != options.kills)


if __name__ == "__main__":
    main()
