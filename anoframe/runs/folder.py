"""Run folder: who writes to it, what of the run is done, and whether another run may continue it.

The files themselves say what is done: `checkpoint/<fit>/detector.json` exists when a fit is done,
`results/<category>.json` when a category is evaluated. Each is written after everything it stands for. Nothing has to
be recorded before a kill, and a run can continue from whatever its folder holds. Pictures and report are written last:
no result waits for them.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from anoframe.config import ConfigDict, flatten, load_config, result_keys, save_config
from anoframe.config.comparison import fill_later_keys
from anoframe.data.fingerprint import FINGERPRINT, SPLITS, FileHashes, describe_changes
from anoframe.data.manifest import MANIFEST_FILE, Manifest
from anoframe.errors import AnoframeError
from anoframe.utils.files import read_json, safe_path, write_json
from anoframe.utils.type_check import matches_type

FORMAT = 2  # of run folders; `run.json` has it, except in format 1
START = ("new", "resume", "overwrite")
DATA_FILE = "data.json"  # category -> split -> file -> hash of its content; runs of earlier versions lack it
_FILES = (
    *("metrics.json", "metrics.csv", "run.json", "log.jsonl", "report.html", DATA_FILE, MANIFEST_FILE),
    *("encoder.safetensors", "heads.safetensors", "probes.json"),  # of encoders
)
# Keys of the provenance that follow from the data or the config, which are compared by themselves.
_NOT_COMPARED = (FINGERPRINT, "split_hash", "held_out", "notes")
_FOLDERS = ("checkpoint", "training", "results", "pictures", "wandb", "tensorboard")
_RESULT_TYPES = {
    "category": str,
    "metrics": dict[str, float | None],
    "counts": dict[str, int],
    "backbone": dict[str, Any],
    "threshold": dict[str, float | list[str] | None] | None,
    "images": list[dict[str, Any]],
    "curves": dict[str, dict[str, list[float]] | None],
}
_STATE_TYPES = {"id": str, "provenance": dict[str, Any], "stages": dict[str, dict[str, float]]}


def run_folder(cfg: ConfigDict, categories: Sequence[str], output: str | Path, suffix: str = "") -> Path:
    """Return `<output>/<config>/<protocol>/<categories>/<seed><suffix>`.

    More than 80 characters of category names are shortened to the first name and the number of others. The protocol of
    a stream includes its strategy, and the seed of its order if the order is drawn.
    """
    joined = "+".join(categories)
    if len(joined) > 80:
        joined = f"{categories[0]}+{len(categories) - 1}"
    protocol = cfg.protocol.name
    if protocol == "continual":
        order = "" if cfg.protocol.order_seed is None else f"-order{cfg.protocol.order_seed}"
        protocol = f"continual-{cfg.protocol.strategy}{order}"
    names = {"config_name": cfg.config_name, "protocol": protocol, "category": joined}
    return safe_path(output, **names, seed=f"{cfg.seed}{suffix}")


def earlier_state(
    path: Path, cfg: ConfigDict, provenance: Mapping[str, Any], files: FileHashes | None = None
) -> dict[str, Any]:
    """Read the state of an interrupted run that is to continue with this config and these data.

    Args:
        path: of the run folder.
        cfg: of this run.
        provenance: of this run; its fingerprint of the data may have further categories.
        files: hashes of the files of this run, to name those that differ.

    Raises:
        AnoframeError: the run has another config, provenance, format or other data, or its files are damaged.
    """
    state = _read_state(path)
    _check_equal(path, result_keys(load_config(path / "config.yaml")), result_keys(cfg))
    _check_equal(path, _flat_without_data(state["provenance"]), _flat_without_data(provenance))
    if changes := data_changes(path, list(provenance.get(FINGERPRINT, {})), provenance, files):
        raise AnoframeError(
            f"cannot resume {path}, its data have changed since it began: {'; '.join(changes)}. Restore the data, "
            "choose another --output, or replace the run with --overwrite"
        )
    return state


def data_changes(
    path: Path,
    categories: Sequence[str],
    provenance: Mapping[str, Any],
    files: FileHashes | None = None,
    splits: Sequence[str] = SPLITS,
) -> list[str]:
    """Describe how data differ from those of a run; empty if they are the same, or if the run did not record its data.

    Args:
        path: of the run folder.
        categories: to compare; those that the run does not have are skipped.
        provenance: has the fingerprint of the data.
        files: hashes of the files of these data.
        splits: to compare.

    Raises:
        AnoframeError: `run.json` is missing or damaged.
    """
    earlier, current = (tree.get(FINGERPRINT, {}) for tree in (_read_state(path)["provenance"], provenance))
    recorded = recorded_files(path)
    now = files or {}
    changes = []
    for category in (name for name in categories if name in earlier and name in current):
        differing = [split for split in splits if earlier[category].get(split) != current[category][split]]
        if differing:
            changes.append(describe_changes(category, differing, recorded.get(category, {}), now.get(category, {})))
    return changes


def _read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(path / "run.json")
    _check_format(path, state)
    is_whole = _has_types(state, _STATE_TYPES)
    if not is_whole or not matches_type(state["provenance"].get(FINGERPRINT, {}), dict[str, dict[str, Any]]):
        raise AnoframeError(f"{path / 'run.json'} is damaged: start again with --overwrite")
    return state


def recorded_files(path: Path) -> FileHashes:
    """Read the hashes of the files of a run; empty if it has none, or if they are damaged."""
    try:
        tree = read_json(path / DATA_FILE)
    except AnoframeError:
        return {}
    return tree if matches_type(tree, FileHashes) else {}


class RunFolder:
    """A folder that only this process writes to, from its creation until `release`.

    Args:
        path: of the folder; it is created.
        cfg: of this run.
        provenance: provenance of `metrics.json` as far as it is known before training; a resumed run must have the
            same.
        start: `"new"` raises if the folder has a run, `"resume"` continues that run or begins one if there is none,
            and `"overwrite"` removes it.
        files: hashes of the files of this run, for `data.json`.
        manifest: of its split, for `split.json`; None for the official split.

    Attributes:
        id: eight hex digits; a resumed run keeps its id.
        resumed: whether an earlier run continues.
        state: content of `run.json`.

    Raises:
        AnoframeError: the folder cannot be written to, is in use, or holds another run.
    """

    def __init__(
        self,
        path: Path,
        cfg: ConfigDict,
        provenance: Mapping[str, Any],
        start: str = "new",
        files: FileHashes | None = None,
        manifest: Manifest | None = None,
    ):
        if start not in START:
            raise AnoframeError(f"start is one of {', '.join(START)}, got {start!r}")
        self.path = path
        self._lock = self._acquire_lock()
        try:
            has_run = (path / "config.yaml").exists()
            if start == "new" and (has_run or (path / "metrics.json").exists()):
                raise AnoframeError(_folder_has_run(path))
            self.resumed = has_run and start == "resume"
            self.state: dict[str, Any]
            if self.resumed:
                self.state = earlier_state(path, cfg, provenance, files)
            else:
                self._remove_run()
                run_id = secrets.token_hex(4)
                self.state = {"id": run_id, "format": FORMAT, "provenance": dict(provenance), "stages": {}}
                write_json(path / DATA_FILE, files or {})
            if manifest:
                manifest.write(path / MANIFEST_FILE)
            self.id: str = self.state["id"]
            self.write_state(status="running", failed={})
            save_config(cfg, path / "config.yaml")  # last: with this file there is a run to resume
        except BaseException:
            self.release()
            raise

    def write_state(self, **changes: Any) -> None:
        """Change entries of `run.json`."""
        self.state.update(changes)
        write_json(self.path / "run.json", self.state)

    def result(self, category: str) -> dict[str, Any] | None:
        """Read the result of a category; None if there is none, or a damaged one."""
        try:
            result = read_json(self.path / "results" / f"{category}.json")
        except AnoframeError:
            return None
        return result if _has_types(result, _RESULT_TYPES) else None

    def write_result(self, category: str, result: Mapping[str, Any]) -> None:
        """Write `results/<category>.json`; the category is done."""
        write_json(self.path / "results" / f"{category}.json", result)

    def checkpoint(self, fit: str) -> Path:
        """Return the folder of a fit's checkpoint."""
        return self.path / "checkpoint" / fit

    def training(self, fit: str) -> Path:
        """Return the folder of the training states that a fit is resumed from."""
        return self.path / "training" / fit

    def write_curves(self, fit: str, curves: Mapping[str, Any]) -> None:
        """Write `training/<fit>.json`, the values of each epoch; see docs/runs.md."""
        write_json(self.path / "training" / f"{fit}.json", curves)

    def end_training(self, fit: str) -> None:
        """Remove the training states of a fit whose checkpoint is written."""
        shutil.rmtree(self.training(fit), ignore_errors=True)

    def release(self) -> None:
        """Allow other processes to write to the folder."""
        self._lock.release()

    def _acquire_lock(self) -> FileLock:
        lock = FileLock(self.path / "run.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise AnoframeError(f"{self.path} is read-only: choose another --output")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise AnoframeError(
                f"{self.path} is in use by run {self._read_id()}: wait until it ends, or choose another --output"
            ) from error
        except OSError as error:
            raise AnoframeError(f"cannot use {self.path} ({error.strerror}): choose another --output") from error
        return lock

    def _read_id(self) -> str:
        try:
            return str(read_json(self.path / "run.json")["id"])
        except AnoframeError:
            return "(just starting)"

    def _remove_run(self) -> None:
        """Remove an earlier run, starting with the file that marks it as one."""
        try:
            for name in ("config.yaml", *_FILES):
                (self.path / name).unlink(missing_ok=True)
            for name in _FOLDERS:
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
        except OSError as error:
            raise AnoframeError(f"cannot empty {self.path} ({error.strerror}): choose another --output") from error


class FollowerFolder(RunFolder):
    """The run folder in a process other than the main process, which alone writes: every write does nothing.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path, self.id, self.resumed, self.state = path, "", False, {"stages": {}}

    def write_state(self, **changes: Any) -> None:
        """Do nothing."""

    def write_result(self, category: str, result: Mapping[str, Any]) -> None:
        """Do nothing."""

    def write_curves(self, fit: str, curves: Mapping[str, Any]) -> None:
        """Do nothing."""

    def end_training(self, fit: str) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing: this process holds no lock."""


def _has_types(tree: Any, types: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has these keys, each with a value of its type."""
    return isinstance(tree, dict) and all(key in tree and matches_type(tree[key], kind) for key, kind in types.items())


def _check_format(path: Path, state: Any) -> None:
    """Raise AnoframeError if a run folder is of another format; one without a number is of format 1."""
    if not isinstance(state, dict):
        raise AnoframeError(f"{path / 'run.json'} is damaged: start again with --overwrite")
    number = state.get("format", 1)
    if number != FORMAT:
        raise AnoframeError(
            f"{path} was written by another version of anoframe (run format {number}, this version reads {FORMAT}): "
            "start again with --overwrite, or choose another --output"
        )


def _folder_has_run(path: Path) -> str:
    is_finished = (path / "metrics.json").exists() or _has_finished(path)
    content = "the results of an earlier run" if is_finished else "a run that has not finished"
    return f"{path} has {content}: continue it with --resume, choose another --output, or replace it with --overwrite"


def _has_finished(path: Path) -> bool:
    """Return whether `run.json` says that the run has finished; runs without detectors have no `metrics.json`."""
    try:
        state = read_json(path / "run.json")
    except AnoframeError:
        return False
    return isinstance(state, dict) and state.get("status") == "finished"


def _flat_without_data(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a provenance by dotted name, without those that follow from data and config."""
    return fill_later_keys(dict(flatten({k: value for k, value in provenance.items() if k not in _NOT_COMPARED})))


def _check_equal(path: Path, earlier: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise AnoframeError if a run would continue under other conditions than it began with."""
    differing = [key for key in {**earlier, **current} if earlier.get(key) != current.get(key)]
    if differing:
        shown = ", ".join(f"{key} was {earlier.get(key)!r} and is {current.get(key)!r}" for key in differing[:5])
        raise AnoframeError(
            f"cannot resume {path}, it began with other values: {shown}. Use the earlier values, choose another "
            "--output, or replace the run with --overwrite"
        )
