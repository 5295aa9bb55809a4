"""Reads what W&B keeps of an offline run, from the file formats alone: the run file, media, and staged artifacts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

_BLOCK = 32768
_HEADER = 7  # of the file, and of each piece: checksum (4), length (2), type (1)
_WHOLE, _LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: the log format of LevelDB, in blocks, a long record in several pieces."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, pieces = _HEADER, b""
    while at < len(data):
        if _BLOCK - at % _BLOCK < _HEADER:  # no piece begins so near the end of a block
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        pieces += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (_WHOLE, _LAST):
            record = messages.Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""


def _put(tree: dict[str, Any], item: Any) -> None:
    """Set one value; W&B says a key, or a path of keys into dicts in dicts."""
    *above, key = item.nested_key or [item.key]
    for name in above:
        tree = tree.setdefault(name, {})
    tree[key] = json.loads(item.value_json)


class OfflineRun:
    """One folder `offline-run-<time>-<id>`, read.

    Attributes:
        run: the message that starts a run: `run_id`, `project`, `display_name`, `tags`.
        config: as it was set last.
        summary: key -> the value that was set last, in the history or in the summary itself.
        history: rows in order, each with its number as `_step`.
        artifacts: type -> the messages that log artifacts, in order.
        exit_code: None where the run was not ended.
        steps: pattern of keys -> the key that they are drawn over.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.artifacts: dict[str, list[Any]] = {}
        self.exit_code: int | None = None
        self.steps: dict[str, str] = {}
        (path,) = folder.glob("*.wandb")
        for record in records(path):
            self._take(record)

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.run = record.run
            self._set(self.config, record.run.config.update)
        elif kind == "config":
            self._set(self.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            self._set(row, record.history.item)
            self.history.append({**row, "_step": record.history.step.num})
            self.summary |= row
        elif kind == "summary":
            self._set(self.summary, record.summary.update)
        elif kind == "artifact":
            self.artifacts.setdefault(record.artifact.type, []).append(record.artifact)
        elif kind == "exit":
            self.exit_code = record.exit.exit_code
        elif kind == "metric" and record.metric.glob_name:
            self.steps[record.metric.glob_name] = record.metric.step_metric

    @staticmethod
    def _set(into: dict[str, Any], items: Any) -> None:
        for item in items:
            _put(into, item)

    def values(self, key: str) -> list[Any]:
        """What the history has under a key, in order."""
        return [row[key] for row in self.history if key in row]

    def table(self, key: str) -> tuple[dict[str, Any], dict[str, Path]]:
        """The last table under a key (`columns`, `data`), and where the media that it names wait: path -> file."""
        waiting = [files_of(artifact) for artifact in self.artifacts["run_table"]]
        (files, *_) = [files for files in reversed(waiting) if f"{key}.table.json" in files]
        return json.loads(files[f"{key}.table.json"].read_text(encoding="utf-8")), files


def offline_runs(folder: Path, ended: bool = True) -> list[OfflineRun]:
    """What W&B kept in a run folder, the earliest start first.

    Args:
        ended: wait for the end of each; W&B writes it from another process, a moment after it says that it has.
    """
    deadline = time.monotonic() + 20
    while True:
        runs = [OfflineRun(path.parent) for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]
        if not ended or all(run.exit_code is not None for run in runs):
            return runs
        assert time.monotonic() < deadline, f"a run in {folder} has no end"
        time.sleep(0.05)


def files_of(artifact: Any) -> dict[str, Path]:
    """Where the content of an artifact waits to be sent: name -> file."""
    return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
