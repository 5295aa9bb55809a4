"""Run the sides of a benchmark alternately, each round in a new process; write medians and ratios to the README.

A side is a command whose last line on standard output is JSON: `{"seconds": 1.2, "versions": {"torch": "2.14.1"}}`,
with further keys for the table. `seconds` is measured by the side itself, without start-up and imports; if it is
missing, the time of the whole process counts. Peak memory is that of the whole process, measured by the operating
system. Linux and macOS.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"


@dataclass
class Side:
    """One command and the measurements of its rounds.

    Attributes:
        name: shown in the table.
        command: words of the command line.
        read: parses the output of the command.
        busy: whether a second process computes on all threads meanwhile.
        results: parsed output of each round.
        wall: seconds of each whole process.
        cpu: CPU seconds of each whole process.
        peak: peak memory of each whole process, MiB.
    """

    name: str
    command: Sequence[str]
    read: Callable[[str], dict[str, Any]] = lambda output: json.loads(output.splitlines()[-1])
    busy: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def run(self, threads: int) -> None:
        """Run one round and append its measurements."""
        with second_process(threads) if self.busy else nullcontext():
            self._run(threads)

    def _run(self, threads: int) -> None:
        started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            output = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{self.name} failed with status {process.returncode}: {' '.join(self.command)}\n{output[-2000:]}")
        self.results.append(self.read(output))
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.peak.append(usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2))

    @property
    def seconds(self) -> list[float]:
        """Seconds of each round as measured by the side, or of the whole process."""
        return [result.get("seconds", wall) for result, wall in zip(self.results, self.wall, strict=True)]


@contextmanager
def second_process(threads: int) -> Iterator[None]:
    """Run a process that multiplies matrices in `threads` threads for the duration of the block."""
    work = (
        "import threading, numpy\n"
        "def work(a):\n"
        "    while True: a @ a\n"
        f"for _ in range({threads}): threading.Thread(target=work, args=(numpy.ones((512, 512)),)).start()\n"
        "print('ready', flush=True)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", work], env=environment, stdout=subprocess.PIPE)
    try:
        if process.stdout:
            process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def run_alternately(sides: Sequence[Side], rounds: int = 5, threads: int = 2) -> None:
    """Run A, B, A, B, ... so that changes in the speed of the machine affect all sides equally."""
    for number in range(rounds):
        for side in sides:
            side.run(threads)
            print(f"round {number + 1} {side.name}: {side.seconds[-1]:.3f} s", file=sys.stderr, flush=True)


def table(sides: Sequence[Side], extra: Mapping[str, str] | None = None) -> str:
    """Format a Markdown table: one row per side, with the median over rounds of its ratio to the first side.

    Args:
        extra: column title -> key of the output of a side; the last round is shown.
    """
    titles = ["side", "seconds, median (min to max)", "CPU s of the process", "peak MiB", "times ours", *(extra or {})]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for side in sides:
        ratio = statistics.median(b / a for a, b in zip(sides[0].seconds, side.seconds, strict=False))
        spread = f"{statistics.median(side.seconds):.3g} ({min(side.seconds):.3g} to {max(side.seconds):.3g})"
        cells = [side.name, spread, f"{statistics.median(side.cpu):.1f}", f"{max(side.peak):.0f}", f"{ratio:.2f}"]
        cells += [str(side.results[-1].get(key, "")) for key in (extra or {}).values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _conditions(sides)])


def _conditions(sides: Sequence[Side]) -> str:
    versions: dict[str, str] = {}
    for side in sides:
        versions |= {f"{name} ({side.name})": version for name, version in side.results[-1].get("versions", {}).items()}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{_count_rounds(sides)} in turn, on {machine()}." + (f" Versions: {text}" if text else "")


def _count_rounds(sides: Sequence[Side]) -> str:
    counts = {side.name: len(side.results) for side in sides}
    most = max(counts.values())
    fewer = [f"{count} of {name}" for name, count in counts.items() if count < most]
    return f"{most} round{'s' * (most > 1)}" + (f" ({', '.join(fewer)})" if fewer else "")


def machine() -> str:
    """Describe processor, cores and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())
        model = match[1] if match else model
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def write_section(section: str, text: str) -> None:
    """Replace the text between the markers of a section of `benchmarks/README.md`."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    page = README.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        sys.exit(f"{README} has no section {section!r}: add the lines {begin} and {end}")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
