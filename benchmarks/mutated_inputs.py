"""Mutate inputs at random, run the command line on each of them, and count the outcomes.

    python benchmarks/mutated_inputs.py --count 300

A mutation flips or overwrites bytes of a file, truncates it, or deletes, renames or retypes a key or a line of it.
Mutated files: images, masks, configs (`.py` and `config.yaml`), and files of a finished run. Then a fit or a test runs
on the mutated file in a forked process. It must succeed, or end with an error that names the file or key, and must not
change any file outside of its output folder. Everything else is a failure: a traceback, a crash, a hang, an unclear
error, a changed file. Linux and macOS, because it forks.
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

TIMEOUT = 120  # seconds until a run counts as hanging
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
    """Outcome of one mutation.

    Attributes:
        target: type of the mutated file, a key of `Workspace.targets`.
        mutation: description.
        outcome: `ok`, `clear error`, or the type of failure.
        output: last part of the printed text.
    """

    target: str
    mutation: str
    outcome: str
    output: str

    @property
    def failed(self) -> bool:
        return self.outcome not in ("ok", "clear error")


# ------------------------------------------------------------------------------------------------ workspace


class Workspace:
    """A folder with data, a config and a finished run, restored after each mutation."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data, self.run, self.out = folder / "data", folder / "earlier/tiny/separate/felt/0", folder / "out"
        self.config = folder / "tiny.py"
        _write_category(self.data / "felt")
        self.config.write_text(CONFIG.format(root=str(self.data)))
        status, output = _run_forked(
            ["--config", self.config, "--cls_names", "felt", "--output", folder / "earlier"], folder
        )
        if status != 0:
            raise SystemExit(f"the run to mutate did not finish:\n{output}")
        self.backup = folder.with_name(folder.name + ".backup")
        shutil.copytree(folder, self.backup)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.backup, self.folder)

    def fingerprint(self) -> dict[str, str]:
        """Digest of each file outside of the output folder."""
        files = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and self.out not in path.parents)
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def targets(self) -> dict[str, list[Path]]:
        """Files that can be mutated, by type."""
        checkpoint = self.run / "checkpoint/felt"
        return {
            "image": sorted(self.data.glob("felt/t*/*/*.png")),
            "mask": sorted(self.data.glob("felt/ground_truth/*/*.png")),
            "config .py": [self.config],
            "config.yaml": [self.run / "config.yaml"],
            "detector.json": [checkpoint / "detector.json"],
            "learned.safetensors": [checkpoint / "learned.safetensors"],
            "metrics.json, run.json": [self.run / "metrics.json", self.run / "run.json"],
            "results, run.json, resumed": [self.run / "results/felt.json", self.run / "run.json"],
        }

    def command(self, target: str, rng: random.Random) -> list[object]:
        """Choose a command line that reads a file of this type."""
        train = ["--cls_names", "felt", "--output", self.out, "--config"]
        test = ["--mode", "test", "--checkpoint", self.run, "--output", self.out]
        choices: dict[str, list[list[object]]] = {
            "image": [[*train, self.config], test],
            "mask": [[*train, self.config], test],
            "config .py": [[*train, self.config]],
            "config.yaml": [[*train, self.run / "config.yaml"], test],
            "detector.json": [test],
            "learned.safetensors": [test],
            # a second run in the same folder is an error; testing does not need the metrics of the run
            "metrics.json, run.json": [
                ["--config", self.config, "--cls_names", "felt", "--output", self.folder / "earlier"],
                test,
            ],
            "results, run.json, resumed": [[*train, self.config, "--resume"]],
        }
        if target.endswith("resumed"):  # in a copy, because a resumed run may rewrite the mutated file
            shutil.copytree(self.folder / "earlier", self.out)
        return rng.choice(choices[target])


def _write_category(folder: Path) -> None:
    """Write six training images, and two good and two defective test images."""
    rng = np.random.default_rng(0)
    names = [
        *(f"train/good/{i:03d}" for i in range(6)),
        *(f"test/{kind}/{i:03d}" for kind in ("good", "cut") for i in (0, 1)),
    ]
    for name in names:
        pixels = rng.integers(90, 120, (SIDE, SIDE, 3)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        if "/cut/" in name:
            pixels[20:36, 20:40], mask[20:36, 20:40] = 250, 255
            _save(folder / f"{name.replace('test', 'ground_truth')}_mask.png", mask)
        _save(folder / f"{name}.png", pixels)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# ------------------------------------------------------------------------------------------------ mutations


def mutate(path: Path, rng: random.Random) -> tuple[str, set[str]]:
    """Mutate a file.

    Returns:
        Description of the mutation, and the words of which a clear error must contain one.
    """
    before = path.read_bytes()
    mutations: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [_flip, _truncate, _overwrite]
    if path.suffix in (".json", ".yaml"):
        mutations += [_change_key(path.suffix)] * 6
    elif path.suffix == ".py":
        mutations += [_change_line] * 6
    after, description = before, ""
    while after == before:
        after, description = rng.choice(mutations)(before, rng)
    path.write_bytes(after)
    return f"{path.name}: {description}", {path.name, *_changed_words(path, before, after)}


def _flip(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    mutated, count = bytearray(content), rng.choice([1, 1, 4, 20])
    for _ in range(count):
        mutated[rng.randrange(len(mutated))] ^= rng.randrange(1, 256)
    return bytes(mutated), f"{count} bytes flipped"


def _truncate(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = rng.choice([0, 1, rng.randrange(len(content)), len(content) - 1])
    return content[:length], f"truncated to {length} of {len(content)} bytes"


def _overwrite(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    start = rng.randrange(len(content))
    length = rng.randrange(1, 200)
    filler = rng.choice([bytes(length), rng.randbytes(length)])
    return content[:start] + filler + content[start + length :], f"{length} bytes overwritten at {start}"


def _change_key(suffix: str) -> Callable[[bytes, random.Random], tuple[bytes, str]]:
    """Return a mutation that deletes, renames or retypes a key of a JSON or YAML file."""

    def change(content: bytes, rng: random.Random) -> tuple[bytes, str]:
        tree = json.loads(content) if suffix == ".json" else yaml.safe_load(content)
        node, key, name = rng.choice(list(_all_keys(tree)))
        action = rng.choice(["delete", "rename", "retype", "retype", "retype"])
        value = node.pop(key)
        if action == "rename":
            node[_misspell(str(key), rng)] = value
        elif action == "retype":
            value = node[key] = rng.choice(VALUES)
        text = json.dumps(tree, indent=2) if suffix == ".json" else yaml.safe_dump(tree, sort_keys=False)
        return text.encode(), f"{action} {name} {value if action == 'retype' else ''!r}"

    return change


def _all_keys(tree: Any, prefix: str = "") -> Any:
    """Yield every key, also those of sections: (its dict, key, dotted name)."""
    for key, value in tree.items():
        yield tree, key, prefix + str(key)
        if isinstance(value, dict):
            yield from _all_keys(value, f"{prefix}{key}.")


def _change_line(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Delete, double, misspell or retype one line of Python."""
    lines = content.decode().splitlines()
    number = rng.choice([i for i, line in enumerate(lines) if line])
    name, equals, _ = lines[number].partition(" = ")
    action = rng.choice(["delete", "double", "misspell", "retype", "retype"])
    if action == "delete":
        del lines[number]
    elif action == "double":
        lines[number] += lines[number]
    elif action == "misspell" or not equals:
        lines[number] = _misspell(lines[number], rng)
    else:
        lines[number] = f"{name} = {rng.choice(VALUES)!r}".replace("nan", "float('nan')")
    return "\n".join([*lines, ""]).encode(), f"{action} line {number + 1}"


def _misspell(word: str, rng: random.Random) -> str:
    i = rng.randrange(len(word))
    return word[:i] + rng.choice(["", "x", word[i] * 2]) + word[i + 1 :]


def _changed_words(path: Path, before: bytes, after: bytes) -> set[str]:
    """Words in the changed lines of a text file: keys and values, old and new."""
    if path.suffix not in (".json", ".yaml", ".py"):
        return set()
    lines = [set(content.decode("utf-8", "replace").splitlines()) for content in (before, after)]
    return {word for line in lines[0] ^ lines[1] for word in re.findall(r"[^\W\d]\w{2,}", line)} - {"cfg", "data"}


# ------------------------------------------------------------------------------------------------ running


def _run_forked(words: Sequence[object], folder: Path) -> tuple[int | None, str]:
    """Run the command line in a forked process.

    Returns:
        Exit status (negative: signal; None: timeout), and the printed text.
    """
    log = folder.with_name(folder.name + ".log")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            sys.stdout = sys.stderr = log.open("w", encoding="utf-8", errors="backslashreplace")
            os.dup2(sys.stdout.fileno(), 1)  # also text that libraries print
            os.dup2(sys.stdout.fileno(), 2)
            os.chdir(folder)
            status = _call_cli(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + TIMEOUT
    while True:
        finished, state = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(state), log.read_text(errors="replace")
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, log.read_text(errors="replace")
        time.sleep(0.01)


def _call_cli(words: Sequence[object]) -> int:
    import torch

    from anoframe.cli import main

    torch.set_num_threads(1)
    return main([str(word) for word in words])


def classify(status: int | None, output: str, words: set[str], unchanged: bool) -> str:
    """Classify the outcome of a command.

    Args:
        status: exit status; None for a timeout.
        output: printed text.
        words: a clear error contains one of them.
        unchanged: whether all files outside of the output folder are unchanged.
    """
    if status is None:
        return "hang"
    if "Traceback (most recent call last)" in output:
        return "traceback"
    if not unchanged:
        return "files lost or altered"
    if status == 0:
        return "ok"
    if status != 2 or "error: " not in output:
        return f"crash ({status})"
    error = output[output.rindex("error: ") :]
    return "clear error" if any(word in error for word in words) else "unclear error"


def run_mutations(count: int, seed: int, folder: Path) -> list[Result]:
    """Run `count` mutations, one at a time, cycling over the types of files."""
    import anoframe.runs.api  # noqa: F401 - imported once, before the forks

    rng = random.Random(seed)
    workspace = Workspace(folder)
    results = []
    for number in range(count):
        targets = workspace.targets()
        target = list(targets)[number % len(targets)]
        path = rng.choice(targets[target])
        mutation, words = mutate(path, rng)
        before = workspace.fingerprint()
        status, output = _run_forked(workspace.command(target, rng), workspace.folder)
        words.add(str(workspace.run))  # an error that names the run folder is clear enough
        outcome = classify(status, output, words, workspace.fingerprint() == before)
        result = Result(target, mutation, outcome, output[-1500:])
        if result.failed:
            print(f"FAILURE: {result.outcome}: {mutation}\n{result.output}\n", file=sys.stderr, flush=True)
        results.append(result)
        workspace.restore()
    return results


def table(results: Sequence[Result]) -> str:
    """Format a Markdown table with one row per type of file."""
    rows = ["| file | mutations | exit 0 | clear error | failures |", "|---|---|---|---|---|"]
    for target in [*dict.fromkeys(result.target for result in results), ""]:
        outcomes = Counter(r.outcome if not r.failed else "failure" for r in results if target in ("", r.target))
        counts = (outcomes.total(), outcomes["ok"], outcomes["clear error"], outcomes["failure"])
        rows.append(f"| {target or 'all'} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        results = run_mutations(options.count, options.seed, Path(scratch, "workspace"))
    print(table(results))
    print(f"\nseed {options.seed}, {time.monotonic() - start:.0f} s")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
