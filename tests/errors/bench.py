"""What a case of the catalogue has to hand: tiny data, a finished run and weights to spoil, and the two doors."""

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
    """Exit status and what was said, of the command line or of Python."""

    status: int
    text: str  # the error; or the warnings, where the run went through


@dataclass
class Bench:
    """Made anew for each case; whatever is in its folder may be spoiled.

    Attributes:
        folder: of this case alone.
        patch: undone after the case.
    """

    folder: Path
    patch: pytest.MonkeyPatch
    _cli: Callable[..., Any]
    _config: Path
    _data: Path
    _finished: Path
    _written: list[Path] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------ material

    @cached_property
    def data(self) -> Path:
        """A root with the categories `felt` and `mesh`."""
        return Path(shutil.copytree(self._data, self.folder / "data"))

    @property
    def felt(self) -> Path:
        return self.data / "felt"

    @cached_property
    def run(self) -> Path:
        """A finished run on both categories."""
        return Path(shutil.copytree(self._finished, self.folder / "run"))

    @property
    def fit(self) -> Path:
        return self.run / "checkpoint" / "felt"

    @property
    def output(self) -> Path:
        return self.folder / "runs"

    @property
    def witness(self) -> Path:
        """Is there if a payload was run."""
        return self.folder / "payload_was_run"

    def payload(self) -> bytes:
        """A pickle that writes the witness when it is loaded."""
        witness = str(self.witness)

        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return open, (witness, "w")

        return pickle.dumps(Payload())

    def config(self, *lines: str, parent: str = "tiny.py", name: str = "own.py") -> Path:
        """A config file of one's own beside the tiny one; without a parent, these lines are all of it."""
        shutil.copy(self._config, self.folder / "tiny.py")
        head = f"from anoframe.config import ConfigDict, inherit\n\ncfg = inherit({parent!r})\n" if parent else ""
        path = self.folder / name
        path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    def method(self, parent: str, *lines: str) -> Path:
        """A config of one's own that inherits a shipped one, on this bench's data and a network with random weights."""
        tiny = (TINY_DATA.format(root=str(self.data)), 'cfg.model.backbone.weights = "random"')
        return self.config(*tiny, *lines, parent=parent)

    # ------------------------------------------------------------------------------------------------ doors

    def train(self, *words: object, categories: tuple[str, ...] = ("felt",), config: Path | None = None) -> Outcome:
        """The command line in training, on the tiny config and this bench's data."""
        return self._learn("--cls_names", *categories, *words, config=config)

    def stream(self, tasks: str, *words: object, config: Path | None = None) -> Outcome:
        """The same on a stream of tasks."""
        return self._learn("--protocol.tasks", tasks, *words, config=config)

    def test(self, *words: object, checkpoint: Path | None = None) -> Outcome:
        """The command line in testing, on this bench's run."""
        return self.call("--mode", "test", "--checkpoint", checkpoint or self.run, "--output", self.output, *words)

    def _learn(self, *words: object, config: Path | None) -> Outcome:
        root = () if "--data.root" in words else ("--data.root", self.data)
        return self.call("--config", config or self._config, "--output", self.output, *root, *words)

    def call(self, *words: object) -> Outcome:
        done = self._cli(*words)
        assert "Traceback" not in done.err
        if done.status == 0:
            lines = [line for line in done.out.splitlines() if line.startswith("warning: ")]
            return Outcome(0, "\n".join(lines))
        assert done.err.startswith("error: "), done.err
        return Outcome(done.status, done.err.removeprefix("error: ").strip())

    def python(self, work: Callable[[], Any]) -> Outcome:
        """What Python raises."""
        try:
            work()
        except AnoframeError as error:
            return Outcome(2, str(error))
        return Outcome(0, "")

    # ------------------------------------------------------------------------------------------------ spoiling

    def describe(self, **changes: Any) -> None:
        """Change values of the fit's `detector.json`."""
        path = self.fit / "detector.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def replace(self, path: Path, old: str, new: str) -> Path:
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path.name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    def cut(self, path: Path, end: int | None) -> None:
        path.write_bytes(path.read_bytes()[:end])

    def mode(self, path: Path, mode: str, **options: Any) -> None:
        """Save an image again in another mode."""
        with Image.open(path) as image:
            converted = image.convert(mode)
        converted.save(path, **options)

    def blank(self, path: Path, size: tuple[int, int] = (64, 64), level: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, level).save(path)

    def deep(self, path: Path) -> None:
        Image.fromarray(np.zeros((64, 64), np.uint16)).save(path)

    # ------------------------------------------------------------------------------------------------ showing

    def shortened(self, text: str) -> str:
        """With nothing in it that differs from one machine, or release of a library, to another."""
        places = {"DATA": self.folder / "data", "RUN": self.folder / "run", "RUNS": self.output, "HERE": self.folder}
        for place, path in places.items():
            text = re.sub(f"{re.escape(str(path))}(?=$|[^\\w])", place, text)
        text = re.sub(r"torch \([^)]*\)", "torch (VERSION)", text)
        text = re.sub(r"\b[0-9a-f]{12}\b", "HASH", text)
        return re.sub(r"Known: ([^,\n]+(?:, [^,\n]+){3}), [^\n]*", r"Known: \1, ...", text)
