"""Read an offline run of W&B without W&B: the run file, media files, and staged artifacts."""

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
    """Yield the records of a `.wandb` file: the log format of LevelDB, blocks with long records in several pieces."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, pieces = _HEADER, b""
    while at < len(data):
        if _BLOCK - at % _BLOCK < _HEADER:  # no piece starts within a header's length of the end of a block
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
    """Set one value; W&B gives a key, or a path of keys into nested dicts."""
    *parents, key = item.nested_key or [item.key]
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[key] = json.loads(item.value_json)


class OfflineRun:
    """Content of a folder `offline-run-<time>-<id>`.

    Attributes:
        run: the first message: `run_id`, `project`, `display_name`, `tags`.
        config: latest value of each key.
        summary: latest value of each key, in the history or the summary.
        history: rows in order, each with its number as `_step`.
        artifacts: type -> messages that log artifacts, in order.
        exit_code: None if the run was not ended.
        axes: key, or pattern of keys -> key that they are drawn over.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.artifacts: dict[str, list[Any]] = {}
        self.exit_code: int | None = None
        self.axes: dict[str, str] = {}
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
        elif kind == "metric" and record.metric.step_metric:
            self.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric

    @staticmethod
    def _set(into: dict[str, Any], items: Any) -> None:
        for item in items:
            _put(into, item)

    def values(self, key: str) -> list[Any]:
        """Values of a key in the history, in order."""
        return [row[key] for row in self.history if key in row]

    def table(self, key: str) -> tuple[dict[str, Any], dict[str, Path]]:
        """Return the last table of a key (`columns`, `data`), and the media files it refers to: path -> file."""
        staged = [artifact_files(artifact) for artifact in self.artifacts["run_table"]]
        (files, *_) = [files for files in reversed(staged) if f"{key}.table.json" in files]
        return json.loads(files[f"{key}.table.json"].read_text(encoding="utf-8")), files


def offline_runs(folder: Path, ended: bool = True) -> list[OfflineRun]:
    """Read the offline runs in a run folder, the earliest start first.

    Args:
        folder: run folder.
        ended: wait for the end of each run; W&B writes it from another process, after `finish` has returned.
    """
    deadline = time.monotonic() + 20
    while True:
        runs = [OfflineRun(path.parent) for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]
        has_begun = any((folder / "wandb").glob("offline-run-*"))  # its file may not be written yet
        if not ended or (bool(runs) == has_begun and all(run.exit_code is not None for run in runs)):
            return runs
        assert time.monotonic() < deadline, f"a run in {folder} did not end"
        time.sleep(0.05)


def artifact_files(artifact: Any) -> dict[str, Path]:
    """Return the staged files of an artifact: name -> file."""
    return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
