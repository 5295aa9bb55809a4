"""Damage inputs at random, run the command line on each, and count the outcomes.

    python benchmarks/mutated_inputs.py --count 400

A mutation flips bytes of a file, truncates it, or changes, deletes, renames or retypes one of its keys or lines. The
files are images, masks, configs (`.py` and `config.yaml`) and files of a finished run. Other mutations are faults of
the file system: odd names, broken and linked folders, hidden and deeper folders, unread file types, and data that
changed before `--resume`. Then a fit, a test or a prediction runs with the file, in its own process. It must finish, or
end with an error that names the file or the changed words; and it must not change the finished run or any file outside
the output. A command that leaves something out and finishes must name it. Everything else is a failure: a traceback, a
crash, a hang, a silent loss, an error that names nothing. The script forks processes, so it runs on Linux and macOS.
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
        target: kind of file.
        mutation: description of the change.
        outcome: `ok`, `clear error`, or the kind of failure.
        output: last characters of the printed text.
    """

    target: str
    mutation: str
    outcome: str
    output: str

    @property
    def failed(self) -> bool:
        return self.outcome not in ("ok", "clear error")


# ------------------------------------------------------------------------------------------------ data and run


class Workspace:
    """A folder with data, a config and a finished run, which is restored after each mutation."""

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
            raise SystemExit(f"the run before the mutations did not finish:\n{output}")
        self.backup = folder.with_name(folder.name + ".backup")
        shutil.copytree(folder, self.backup)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.backup, self.folder)

    def fingerprint(self) -> dict[str, str]:
        """Compute file -> digest of all files except the output."""
        files = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and self.out not in path.parents)
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def targets(self) -> dict[str, list[Path]]:
        """Return the files to mutate of each kind."""
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
            "file system": sorted(self.data.glob("felt/train/good/*.png")),
            "changed data, resumed": sorted(self.data.glob("felt/t*/*/*.png")),
        }

    def command(self, target: str, rng: random.Random) -> list[object]:
        """Choose a command line that reads files of that kind."""
        train = ["--cls_names", "felt", "--output", self.out, "--config"]
        test = ["--mode", "test", "--checkpoint", self.run, "--output", self.out]
        choices: dict[str, list[list[object]]] = {
            "image": [[*train, self.config], test],
            "mask": [[*train, self.config], test],
            "config .py": [[*train, self.config]],
            "config.yaml": [[*train, self.run / "config.yaml"], test],
            "detector.json": [test],
            "learned.safetensors": [test],
            # a second run in the same folder is an error; testing a checkpoint does not read the metrics of its run
            "metrics.json, run.json": [
                ["--config", self.config, "--cls_names", "felt", "--output", self.folder / "earlier"],
                test,
            ],
            "results, run.json, resumed": [[*train, self.config, "--resume"]],
            "file system": [
                [*train, self.config],
                ["--mode", "predict", "--checkpoint", self.run, "--input", self.data, "--output", self.out],
            ],
            "changed data, resumed": [[*train, self.config, "--resume"]],
        }
        if target.endswith("resumed"):  # a copy, because the resumed run may write damaged files again
            shutil.copytree(self.folder / "earlier", self.out)
        return rng.choice(choices[target])


def _write_category(folder: Path) -> None:
    """Write six training images, and two good and two defect test images."""
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
    """Change a file; return a description of the change, and the words by which an error may name it."""
    before = path.read_bytes()
    changes: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [_flip, _truncate, _overwrite]
    if path.suffix in (".json", ".yaml"):
        changes += [_change_key(path.suffix)] * 6
    elif path.suffix == ".py":
        changes += [_change_line] * 6
    after, description = before, ""
    while after == before:
        after, description = rng.choice(changes)(before, rng)
    path.write_bytes(after)
    return f"{path.name}: {description}", {path.name, *_changed_words(path, before, after)}


def _flip(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    flipped, count = bytearray(content), rng.choice([1, 1, 4, 20])
    for _ in range(count):
        flipped[rng.randrange(len(flipped))] ^= rng.randrange(1, 256)
    return bytes(flipped), f"{count} bytes flipped"


def _truncate(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = rng.choice([0, 1, rng.randrange(len(content)), len(content) - 1])
    return content[:length], f"truncated to {length} of {len(content)} bytes"


def _overwrite(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    start = rng.randrange(len(content))
    length = rng.randrange(1, 200)
    filler = rng.choice([bytes(length), rng.randbytes(length)])
    return content[:start] + filler + content[start + length :], f"{length} bytes overwritten at {start}"


def _change_key(suffix: str) -> Callable[[bytes, random.Random], tuple[bytes, str]]:
    """Return a function that changes one key of a JSON or YAML file."""

    def change(content: bytes, rng: random.Random) -> tuple[bytes, str]:
        tree = json.loads(content) if suffix == ".json" else yaml.safe_load(content)
        node, key, name = rng.choice(list(_walk_keys(tree)))
        action = rng.choice(["delete", "rename", "retype", "retype", "retype"])
        value = node.pop(key)
        if action == "rename":
            node[_misspell(str(key), rng)] = value
        elif action == "retype":
            value = node[key] = rng.choice(VALUES)
        text = json.dumps(tree, indent=2) if suffix == ".json" else yaml.safe_dump(tree, sort_keys=False)
        return text.encode(), f"{action} {name} {value if action == 'retype' else ''!r}"

    return change


def _walk_keys(tree: Any, prefix: str = "") -> Any:
    """Yield (dict, key, dotted name) of every key, including sections."""
    for key, value in tree.items():
        yield tree, key, prefix + str(key)
        if isinstance(value, dict):
            yield from _walk_keys(value, f"{prefix}{key}.")


def _change_line(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Change one line of a Python file."""
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
    position = rng.randrange(len(word))
    return word[:position] + rng.choice(["", "x", word[position] * 2]) + word[position + 1 :]


def _changed_words(path: Path, before: bytes, after: bytes) -> set[str]:
    """Return the words of the changed lines of a text file: keys and values, old and new."""
    if path.suffix not in (".json", ".yaml", ".py"):
        return set()
    lines = [set(content.decode("utf-8", "replace").splitlines()) for content in (before, after)]
    return {word for line in lines[0] ^ lines[1] for word in re.findall(r"[^\W\d]\w{2,}", line)} - {"cfg", "data"}


# ------------------------------------------------------------------------------------------------ file system


@dataclass(frozen=True)
class Fault:
    """A fault of the file system beside an image.

    Attributes:
        name: description.
        apply: makes the fault, given an image of the data.
        words: one of them must be in the output; none if the command may use the file like any other.
    """

    name: str
    apply: Callable[[Path], object]
    words: tuple[str, ...] = ()


def _copy_in(image: Path, folder: str) -> None:
    (image.parent / folder).mkdir()
    shutil.copy(image, image.parent / folder)


def _rename(image: Path, name: bytes) -> None:
    os.rename(os.fsencode(image), os.path.join(os.fsencode(image.parent), name))


FAULTS = (
    Fault("a name that is not UTF-8", lambda image: _rename(image, b"caf\xe9.png")),
    Fault("a name with a line break", lambda image: _rename(image, b"two\nlines.png")),
    Fault("a name of 250 bytes", lambda image: _rename(image, b"k" * 246 + b".png")),
    Fault("a broken link", lambda image: (image.parent / "zz.png").symlink_to("nowhere.png"), ("zz.png",)),
    Fault("a hidden folder", lambda image: _copy_in(image, ".ipynb_checkpoints"), (".ipynb_checkpoints",)),
    Fault("a system folder", lambda image: _copy_in(image, "@eaDir"), ("@eaDir",)),
    Fault("a deeper folder", lambda image: _copy_in(image, "day2"), ("day2", "scored")),
    Fault("a file of another type", lambda image: shutil.copy(image, image.with_suffix(".heic")), (".heic",)),
    Fault("a linked folder", lambda image: (image.parent / "again").symlink_to(image.parent), ("again", "scored")),
    Fault("an empty folder with the name of an image", lambda image: (image.parent / "yy.png").mkdir()),
)


def break_file_system(image: Path, rng: random.Random) -> tuple[str, set[str], set[str]]:
    """Apply a fault; return its description, the words for an error, and the words that the output must have."""
    fault = rng.choice(FAULTS)
    fault.apply(image)
    return fault.name, {image.name, image.stem, "felt", *fault.words}, set(fault.words)


def change_data(image: Path, rng: random.Random) -> tuple[str, set[str], set[str]]:
    """Change the data of a run that is resumed afterwards, which must be refused; see `break_file_system`."""
    action = rng.choice(["add", "remove", "replace"])
    if action == "add":
        shutil.copy(image, image.with_name("added.png"))
    elif action == "remove":
        image.unlink()
    else:
        other = np.random.default_rng(rng.randrange(10**6)).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        _save(image, other)
    words = {image.name, image.stem, "added.png"}
    return f"{action} {image.parent.name}/{image.name} before --resume", words, {"cannot resume", "problem"}


# ------------------------------------------------------------------------------------------------ running


def _run_forked(words: Sequence[object], folder: Path) -> tuple[int | None, str]:
    """Run the command line in a forked process; return its exit status and its printed text.

    The exit status is negative for a signal, and None if the process hangs.
    """
    log = folder.with_name(folder.name + ".log")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            sys.stdout = sys.stderr = log.open("w", encoding="utf-8", errors="backslashreplace")
            os.dup2(sys.stdout.fileno(), 1)  # also redirects output that is not printed by Python
            os.dup2(sys.stdout.fileno(), 2)
            os.chdir(folder)
            status = _call_command_line(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + TIMEOUT
    while True:
        done, state = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(state), log.read_text(errors="replace")
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, log.read_text(errors="replace")
        time.sleep(0.01)


def _call_command_line(words: Sequence[object]) -> int:
    import torch

    from anoframe.cli import main

    torch.set_num_threads(1)
    return main([str(word) for word in words])


def classify(
    status: int | None, output: str, words: set[str], unchanged: bool, required: set[str] | None = None
) -> str:
    """Classify the outcome of a run; see `Result.outcome`.

    Args:
        status: as returned by `_run_forked`.
        output: printed text.
        words: words by which an error may name the file or key.
        unchanged: whether all other files are as before.
        required: words of which the output must have one, whatever the status.
    """
    if status is None:
        return "hang"
    if "Traceback (most recent call last)" in output:
        return "traceback"
    if not unchanged:
        return "files lost or altered"
    if required and not any(word in output for word in required):
        return "silent loss"
    if status == 0 or (status == 1 and required):  # 1: a prediction that could not read some files
        return "ok"
    if status != 2 or "error: " not in output:
        return f"crash ({status})"
    error = output[output.rindex("error: ") :]
    return "clear error" if any(word in error for word in words) else "an error that names nothing"


def run_mutations(count: int, seed: int, folder: Path) -> list[Result]:
    """Run `count` mutations, one at a time, in turn over the kinds of file."""
    import anoframe.runs.api  # noqa: F401 - imported once here, not in each forked process

    rng = random.Random(seed)
    workspace = Workspace(folder)
    results = []
    for number in range(count):
        targets = workspace.targets()
        target = list(targets)[number % len(targets)]
        path = rng.choice(targets[target])
        mutation, words, required = MUTATIONS.get(target, _mutate_content)(path, rng)
        before = workspace.fingerprint()
        status, output = _run_forked(workspace.command(target, rng), workspace.folder)
        words.add(str(workspace.run))  # an error may also name the run folder
        unchanged = workspace.fingerprint() == before
        result = Result(target, mutation, classify(status, output, words, unchanged, required), output[-1500:])
        if result.failed:
            print(f"FAILURE: {result.outcome}: {mutation}\n{result.output}\n", file=sys.stderr, flush=True)
        results.append(result)
        workspace.restore()
    return results


def _mutate_content(path: Path, rng: random.Random) -> tuple[str, set[str], set[str]]:
    return *mutate(path, rng), set()


MUTATIONS = {"file system": break_file_system, "changed data, resumed": change_data}  # other targets: `mutate`


def table(results: Sequence[Result]) -> str:
    """Format a Markdown table with one row per kind of file."""
    rows = ["| file | mutations | exit 0 | clear error | failures |", "|---|---|---|---|---|"]
    for target in [*dict.fromkeys(result.target for result in results), ""]:
        outcomes = Counter(r.outcome if not r.failed else "failure" for r in results if target in ("", r.target))
        counts = (outcomes.total(), outcomes["ok"], outcomes["clear error"], outcomes["failure"])
        rows.append(f"| {target or 'all'} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        results = run_mutations(options.count, options.seed, Path(temporary, "workspace"))
    print(table(results))
    print(f"\nseed {options.seed}, {time.monotonic() - start:.0f} s")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
