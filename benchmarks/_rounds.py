"""Sides of a benchmark run in turn, each round in a process of its own; medians, ratios, and a table for the README.

A side is a command whose last line on standard output is JSON: `{"seconds": 1.2, "versions": {"torch": "2.14.1"}}`, and
more to show. `seconds` is what the side itself timed, without start-up and imports; without it the whole process
counts. Peak memory is the operating system's figure for the whole process. Linux and macOS.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"


@dataclass
class Side:
    """One command, and what its rounds said."""

    name: str
    command: Sequence[str]
    read: Callable[[str], dict[str, Any]] = lambda output: json.loads(output.splitlines()[-1])
    said: list[dict[str, Any]] = field(default_factory=list)  # the JSON of each round
    wall: list[float] = field(default_factory=list)  # seconds of each whole process
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)  # MiB

    def run(self, threads: int) -> None:
        started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            output = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{self.name} failed with status {process.returncode}: {' '.join(self.command)}\n{output[-2000:]}")
        self.said.append(self.read(output))
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.peak.append(usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2))

    @property
    def seconds(self) -> list[float]:
        """What each round timed itself, or the whole process where it timed nothing."""
        return [said.get("seconds", wall) for said, wall in zip(self.said, self.wall, strict=True)]


def alternate(sides: Sequence[Side], rounds: int = 5, threads: int = 2) -> None:
    """Run A, B, A, B, ... so that a change of the machine's speed meets all sides alike."""
    for number in range(rounds):
        for side in sides:
            side.run(threads)
            print(f"round {number + 1} {side.name}: {side.seconds[-1]:.3f} s", file=sys.stderr, flush=True)


def table(sides: Sequence[Side], extra: Mapping[str, str] | None = None) -> str:
    """Markdown: a row a side, with the ratio of each to the first side, round by round.

    Args:
        extra: column title -> key of the sides' JSON, shown as its last round said it.
    """
    titles = ["side", "seconds, median (min to max)", "CPU s of the process", "peak MiB", "times ours", *(extra or {})]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for side in sides:
        ratio = statistics.median(b / a for a, b in zip(sides[0].seconds, side.seconds, strict=False))
        spread = f"{statistics.median(side.seconds):.3g} ({min(side.seconds):.3g} to {max(side.seconds):.3g})"
        cells = [side.name, spread, f"{statistics.median(side.cpu):.1f}", f"{max(side.peak):.0f}", f"{ratio:.2f}"]
        cells += [str(side.said[-1].get(key, "")) for key in (extra or {}).values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _conditions(sides)])


def _conditions(sides: Sequence[Side]) -> str:
    versions: dict[str, str] = {}
    for side in sides:
        versions |= {f"{name} ({side.name})": version for name, version in side.said[-1].get("versions", {}).items()}
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{_rounds(sides)} in turn, on {machine()}." + (f" Versions: {said}" if said else "")


def _rounds(sides: Sequence[Side]) -> str:
    counts = {side.name: len(side.said) for side in sides}
    most = max(counts.values())
    fewer = [f"{count} of {name}" for name, count in counts.items() if count < most]
    return f"{most} round{'s' * (most > 1)}" + (f" ({', '.join(fewer)})" if fewer else "")


def machine() -> str:
    """Processor, cores and system in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())
        model = found[1] if found else model
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def keep(section: str, text: str) -> None:
    """Put a result into `benchmarks/README.md`, between the markers of its section; the rest stays."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    page = README.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        sys.exit(f"{README} has no section {section!r}: it wants the lines {begin} and {end}")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
