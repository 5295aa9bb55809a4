"""Test bench of the error catalogue: small data and a finished run to damage, and calls of the command line and API."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_data import TINY_DATA

from anoframe.errors import AnoframeError


@dataclass(frozen=True)
class Outcome:
    """Exit status and message of the command line, or of a call from Python."""

    status: int
    text: str  # the error, or the warnings of a run that finished


@dataclass
class Bench:
    """Created for each case; every file in its folder may be damaged.

    Attributes:
        folder: temporary folder of this case.
        patch: monkeypatch that is undone after the case.
    """

    folder: Path
    patch: pytest.MonkeyPatch
    _cli: Callable[..., Any]
    _config: Path
    _data: Path
    _finished: Path
    _written: list[Path] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------ data and run

    @cached_property
    def data(self) -> Path:
        """A copy of a dataset root with the categories `felt` and `mesh`."""
        return Path(shutil.copytree(self._data, self.folder / "data"))

    @property
    def felt(self) -> Path:
        return self.data / "felt"

    @cached_property
    def run(self) -> Path:
        """A copy of a finished run on both categories."""
        return Path(shutil.copytree(self._finished, self.folder / "run"))

    @property
    def fit(self) -> Path:
        """Checkpoint folder of the category `felt` in the run."""
        return self.run / "checkpoint" / "felt"

    @property
    def output(self) -> Path:
        return self.folder / "runs"

    @property
    def witness(self) -> Path:
        """File that exists only if a payload was run."""
        return self.folder / "payload_was_run"

    def payload(self) -> bytes:
        """Build a pickle that creates the witness file when Python's pickle loads it."""
        witness = str(self.witness)

        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return open, (witness, "w")

        return pickle.dumps(Payload())

    def config(self, *lines: str, parent: str = "tiny.py", name: str = "own.py") -> Path:
        """Write a config file that inherits `parent` (by default a copy of the tiny config) and adds lines."""
        shutil.copy(self._config, self.folder / "tiny.py")
        head = f"from anoframe.config import ConfigDict, inherit\n\ncfg = inherit({parent!r})\n" if parent else ""
        path = self.folder / name
        path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    def method(self, parent: str, *lines: str) -> Path:
        """Write a config that inherits a shipped one, with the data of this bench and random weights."""
        small = (TINY_DATA.format(root=str(self.data)), 'cfg.model.backbone.weights = "random"')
        return self.config(*small, *lines, parent=parent)

    # ------------------------------------------------------------------------------------------------ calls

    def train(self, *words: object, categories: tuple[str, ...] = ("felt",), config: Path | None = None) -> Outcome:
        """Call the command line for training, by default with the tiny config and the data of this bench."""
        return self._train("--cls_names", *categories, *words, config=config)

    def stream(self, tasks: str, *words: object, config: Path | None = None) -> Outcome:
        """Call the command line for training on a stream of tasks."""
        return self._train("--protocol.tasks", tasks, *words, config=config)

    def test(self, *words: object, checkpoint: Path | None = None) -> Outcome:
        """Call the command line for testing, by default with the run of this bench."""
        return self.call("--mode", "test", "--checkpoint", checkpoint or self.run, "--output", self.output, *words)

    def _train(self, *words: object, config: Path | None) -> Outcome:
        root = () if "--data.root" in words else ("--data.root", self.data)
        return self.call("--config", config or self._config, "--output", self.output, *root, *words)

    def call(self, *words: object) -> Outcome:
        """Call the command line."""
        result = self._cli(*words)
        assert "Traceback" not in result.err
        if result.status == 0:
            lines = [line for line in result.out.splitlines() if line.startswith("warning: ")]
            return Outcome(0, "\n".join(lines))
        assert result.err.startswith("error: "), result.err
        return Outcome(result.status, result.err.removeprefix("error: ").strip())

    def python(self, function: Callable[[], Any]) -> Outcome:
        """Call a function, and return the message of the AnoframeError that it raises."""
        try:
            function()
        except AnoframeError as error:
            return Outcome(2, str(error))
        return Outcome(0, "")

    # ------------------------------------------------------------------------------------------------ damage

    def describe(self, **changes: Any) -> None:
        """Change values in the `detector.json` of `fit`."""
        path = self.fit / "detector.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def replace(self, path: Path, old: str, new: str) -> Path:
        """Replace the first occurrence of a text in a file."""
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path.name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    def cut(self, path: Path, end: int | None) -> None:
        """Truncate a file to its bytes before `end`."""
        path.write_bytes(path.read_bytes()[:end])

    def mode(self, path: Path, mode: str, **options: Any) -> None:
        """Convert an image file to another mode."""
        with Image.open(path) as image:
            converted = image.convert(mode)
        converted.save(path, **options)

    def blank(self, path: Path, size: tuple[int, int] = (64, 64), level: int = 0) -> None:
        """Write a grey image of one level."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, level).save(path)

    def deep(self, path: Path) -> None:
        """Write a 16-bit image."""
        Image.fromarray(np.zeros((64, 64), np.uint16)).save(path)

    # ------------------------------------------------------------------------------------------------ messages

    def normalise(self, text: str) -> str:
        """Replace everything in a message that depends on the machine or on the release of a library."""
        names = {"DATA": self.folder / "data", "RUN": self.folder / "run", "RUNS": self.output, "HERE": self.folder}
        for name, path in names.items():
            text = re.sub(f"{re.escape(str(path))}(?=$|[^\\w])", name, text)
        text = re.sub(r"torch \([^)]*\)", "torch (VERSION)", text)
        text = re.sub(r"\b[0-9a-f]{12}\b", "HASH", text)
        return re.sub(r"Known: ([^,\n]+(?:, [^,\n]+){3}), [^\n]*", r"Known: \1, ...", text)
