"""Spoil inputs at random, run the command line on each, and count how it ends.

    python benchmarks/mutated_inputs.py --count 300

A mutation flips bytes of a file, cuts it, or changes, deletes, renames or retypes a key or a line of it: images, masks,
configs (`.py` and `config.yaml`), and what a finished run holds. Then a fit or a test runs on it, in a process of its
own. It must end well, or with an error that names what was touched; and all that the finished run had, and all that
lies outside of the output, must be as it was. Everything else is a failure: a traceback, a crash, a hang, an error that
names nothing. It forks, so it runs on Linux and macOS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LIMIT = 120  # seconds until a run counts as hanging
SIDE = 64
VALUES: list[Any] = [
    *(None, "text", "", -1, 0, 3.5, 10**6, True, [], {}, [1, "two"], {"a": 1}, float("nan"), "../../x", "1"),
]
CONFIG = """\
from anoframe.config import inherit

cfg = inherit("patchcore/patchcore_lite0_224.py")
cfg.data.name = "folder"
cfg.data.root = {root!r}
cfg.data.resize = 64
cfg.data.crop = 64
cfg.data.workers = 0
cfg.device = "cpu"
cfg.model.backbone.weights = "random"
cfg.model.coreset.ratio = 0.1
cfg.report.pictures = 3
cfg.cache.images = False
cfg.cache.features = False
"""


@dataclass(frozen=True)
class Result:
    """How one mutation ended.

    Attributes:
        target: the kind of file.
        what: the mutation, to be read.
        end: `ok`, `clear error`, or what kind of failure.
        said: the end of what was printed.
    """

    target: str
    what: str
    end: str
    said: str

    @property
    def failed(self) -> bool:
        return self.end not in ("ok", "clear error")


# ------------------------------------------------------------------------------------------------ material


class World:
    """A folder with data, a config and a finished run, put back after each mutation."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data, self.run, self.out = folder / "data", folder / "earlier/tiny/separate/felt/0", folder / "out"
        self.config = folder / "tiny.py"
        _write_category(self.data / "felt")
        self.config.write_text(CONFIG.format(root=str(self.data)))
        status, said = _apart(["--config", self.config, "--cls_names", "felt", "--output", folder / "earlier"], folder)
        if status != 0:
            raise SystemExit(f"the run to spoil did not finish:\n{said}")
        self.backup = folder.with_name(folder.name + ".backup")
        shutil.copytree(folder, self.backup)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.backup, self.folder)

    def fingerprint(self) -> dict[str, str]:
        """Everything but the output: file -> digest."""
        files = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and self.out not in path.parents)
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def targets(self) -> dict[str, list[Path]]:
        fit = self.run / "checkpoint/felt"
        return {
            "image": sorted(self.data.glob("felt/t*/*/*.png")),
            "mask": sorted(self.data.glob("felt/ground_truth/*/*.png")),
            "config .py": [self.config],
            "config.yaml": [self.run / "config.yaml"],
            "detector.json": [fit / "detector.json"],
            "learned.safetensors": [fit / "learned.safetensors"],
            "metrics.json, run.json": [self.run / "metrics.json", self.run / "run.json"],
            "results, run.json, resumed": [self.run / "results/felt.json", self.run / "run.json"],
        }

    def command(self, target: str, dice: random.Random) -> list[object]:
        """A command line that reads the file."""
        train = ["--cls_names", "felt", "--output", self.out, "--config"]
        test = ["--mode", "test", "--checkpoint", self.run, "--output", self.out]
        choices: dict[str, list[list[object]]] = {
            "image": [[*train, self.config], test],
            "mask": [[*train, self.config], test],
            "config .py": [[*train, self.config]],
            "config.yaml": [[*train, self.run / "config.yaml"], test],
            "detector.json": [test],
            "learned.safetensors": [test],
            # where a run stands already, another one is refused; and what it measured is not needed to test it
            "metrics.json, run.json": [
                ["--config", self.config, "--cls_names", "felt", "--output", self.folder / "earlier"],
                test,
            ],
            "results, run.json, resumed": [[*train, self.config, "--resume"]],
        }
        if target.endswith("resumed"):  # a copy: what is spoilt may be made again there
            shutil.copytree(self.folder / "earlier", self.out)
        return dice.choice(choices[target])


def _write_category(folder: Path) -> None:
    """Six images to learn from, two good and two defective ones to test on."""
    dice = np.random.default_rng(0)
    names = [
        *(f"train/good/{i:03d}" for i in range(6)),
        *(f"test/{kind}/{i:03d}" for kind in ("good", "cut") for i in (0, 1)),
    ]
    for name in names:
        pixels = dice.integers(90, 120, (SIDE, SIDE, 3)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        if "/cut/" in name:
            pixels[20:36, 20:40], mask[20:36, 20:40] = 250, 255
            _save(folder / f"{name.replace('test', 'ground_truth')}_mask.png", mask)
        _save(folder / f"{name}.png", pixels)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# ------------------------------------------------------------------------------------------------ mutations


def mutate(path: Path, dice: random.Random) -> tuple[str, set[str]]:
    """Spoil a file; returns what was done, and the words by which an error may name it."""
    before = path.read_bytes()
    changes: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [_flip, _cut, _fill]
    if path.suffix in (".json", ".yaml"):
        changes += [_keys(path.suffix)] * 6
    elif path.suffix == ".py":
        changes += [_line] * 6
    after, what = before, ""
    while after == before:
        after, what = dice.choice(changes)(before, dice)
    path.write_bytes(after)
    return f"{path.name}: {what}", {path.name, *_words(path, before, after)}


def _flip(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    spoilt, count = bytearray(content), dice.choice([1, 1, 4, 20])
    for _ in range(count):
        spoilt[dice.randrange(len(spoilt))] ^= dice.randrange(1, 256)
    return bytes(spoilt), f"{count} bytes flipped"


def _cut(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    length = dice.choice([0, 1, dice.randrange(len(content)), len(content) - 1])
    return content[:length], f"cut to {length} of {len(content)} bytes"


def _fill(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    start = dice.randrange(len(content))
    length = dice.randrange(1, 200)
    filler = dice.choice([bytes(length), dice.randbytes(length)])
    return content[:start] + filler + content[start + length :], f"{length} bytes overwritten at {start}"


def _keys(suffix: str) -> Callable[[bytes, random.Random], tuple[bytes, str]]:
    """A change of the tree that a JSON or YAML file holds."""

    def change(content: bytes, dice: random.Random) -> tuple[bytes, str]:
        tree = json.loads(content) if suffix == ".json" else yaml.safe_load(content)
        node, key, name = dice.choice(list(_leaves(tree)))
        how = dice.choice(["delete", "rename", "retype", "retype", "retype"])
        value = node.pop(key)
        if how == "rename":
            node[_misspelt(str(key), dice)] = value
        elif how == "retype":
            value = node[key] = dice.choice(VALUES)
        text = json.dumps(tree, indent=2) if suffix == ".json" else yaml.safe_dump(tree, sort_keys=False)
        return text.encode(), f"{how} {name} {value if how == 'retype' else ''!r}"

    return change


def _leaves(tree: Any, prefix: str = "") -> Any:
    """Every node that has a key, sections too: (its dict, key, dotted name)."""
    for key, value in tree.items():
        yield tree, key, prefix + str(key)
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")


def _line(content: bytes, dice: random.Random) -> tuple[bytes, str]:
    """A change of one line of Python."""
    lines = content.decode().splitlines()
    number = dice.choice([i for i, line in enumerate(lines) if line])
    name, equals, _ = lines[number].partition(" = ")
    how = dice.choice(["delete", "double", "misspell", "retype", "retype"])
    if how == "delete":
        del lines[number]
    elif how == "double":
        lines[number] += lines[number]
    elif how == "misspell" or not equals:
        lines[number] = _misspelt(lines[number], dice)
    else:
        lines[number] = f"{name} = {dice.choice(VALUES)!r}".replace("nan", "float('nan')")
    return "\n".join([*lines, ""]).encode(), f"{how} line {number + 1}"


def _misspelt(word: str, dice: random.Random) -> str:
    place = dice.randrange(len(word))
    return word[:place] + dice.choice(["", "x", word[place] * 2]) + word[place + 1 :]


def _words(path: Path, before: bytes, after: bytes) -> set[str]:
    """Of a text file, the words in the lines that changed: keys and values, old and new."""
    if path.suffix not in (".json", ".yaml", ".py"):
        return set()
    lines = [set(content.decode("utf-8", "replace").splitlines()) for content in (before, after)]
    return {word for line in lines[0] ^ lines[1] for word in re.findall(r"[^\W\d]\w{2,}", line)} - {"cfg", "data"}


# ------------------------------------------------------------------------------------------------ running


def _apart(words: Sequence[object], folder: Path) -> tuple[int | None, str]:
    """The command line in a forked process: exit status (negative: a signal; None: it hung), and what it printed."""
    log = folder.with_name(folder.name + ".log")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            sys.stdout = sys.stderr = log.open("w", encoding="utf-8", errors="backslashreplace")
            os.dup2(sys.stdout.fileno(), 1)  # what is not printed by Python, too
            os.dup2(sys.stdout.fileno(), 2)
            os.chdir(folder)
            status = _command(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + LIMIT
    while True:
        done, state = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(state), log.read_text(errors="replace")
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, log.read_text(errors="replace")
        time.sleep(0.01)


def _command(words: Sequence[object]) -> int:
    import torch

    from anoframe.cli import main

    torch.set_num_threads(1)
    return main([str(word) for word in words])


def judged(status: int | None, said: str, words: set[str], kept: bool) -> str:
    """What kind of end this is."""
    if status is None:
        return "hang"
    if "Traceback (most recent call last)" in said:
        return "traceback"
    if not kept:
        return "files lost or altered"
    if status == 0:
        return "ok"
    if status != 2 or "error: " not in said:
        return f"crash ({status})"
    error = said[said.rindex("error: ") :]
    return "clear error" if any(word in error for word in words) else "an error that names nothing"


def spoil(count: int, seed: int, folder: Path) -> list[Result]:
    """So many mutations, each on a world that is whole otherwise, in turn over the kinds of file."""
    import anoframe.runs.api  # noqa: F401 - once, so that no forked process has to

    dice = random.Random(seed)
    world = World(folder)
    results = []
    for number in range(count):
        targets = world.targets()
        target = list(targets)[number % len(targets)]
        path = dice.choice(targets[target])
        what, words = mutate(path, dice)
        before = world.fingerprint()
        status, said = _apart(world.command(target, dice), world.folder)
        words.add(str(world.run))  # an error that names the run says where its files are
        result = Result(target, what, judged(status, said, words, world.fingerprint() == before), said[-1500:])
        if result.failed:
            print(f"FAILURE: {result.end}: {what}\n{result.said}\n", file=sys.stderr, flush=True)
        results.append(result)
        world.restore()
    return results


def table(results: Sequence[Result]) -> str:
    """Markdown: a row a kind of file."""
    rows = ["| file | mutations | exit 0 | clear error | failures |", "|---|---|---|---|---|"]
    for target in [*dict.fromkeys(result.target for result in results), ""]:
        ends = Counter(r.end if not r.failed else "failure" for r in results if target in ("", r.target))
        counts = (ends.total(), ends["ok"], ends["clear error"], ends["failure"])
        rows.append(f"| {target or 'all'} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        results = spoil(options.count, options.seed, Path(scratch, "world"))
    print(table(results))
    print(f"\nseed {options.seed}, {time.monotonic() - start:.0f} s")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
