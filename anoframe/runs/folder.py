"""The folder of a run: who writes to it, what of the run is done, and whether another run may go on with it.

What is done is what is there: `checkpoint/<fit>/detector.json` for a fit, `results/<category>.json` for an evaluated
category, each written whole after all that it stands for. So nothing has to be said before a kill, and a run goes on
from whatever its folder holds.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from anoframe.config import ConfigDict, flatten, load_config, save_config
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.errors import AnoframeError
from anoframe.utils.files import inside, read_json, write_json
from anoframe.utils.type_check import matches_type

START = ("new", "resume", "overwrite")
_FILES = ("metrics.json", "metrics.csv", "run.json", "log.jsonl", "report.html")
_FOLDERS = ("checkpoint", "training", "results", "pictures", "wandb", "tensorboard")
_RESULT = {
    "category": str,
    "metrics": dict[str, float | None],
    "counts": dict[str, int],
    "backbone": dict[str, Any],
    "threshold": dict[str, float] | None,
    "images": list[dict[str, Any]],
    "curves": dict[str, dict[str, list[float]] | None],
}
_STATE = {"id": str, "provenance": dict[str, Any], "stages": dict[str, dict[str, float]]}


def run_folder(cfg: ConfigDict, categories: Sequence[str], output: str | Path, suffix: str = "") -> Path:
    """`<output>/<config>/<protocol>/<categories>/<seed>`; a long list of categories is shortened to its number.

    The protocol of a stream says its strategy too, and the order of its categories where that is drawn.
    """
    joined = "+".join(categories)
    if len(joined) > 80:
        joined = f"{categories[0]}+{len(categories) - 1}"
    protocol = cfg.protocol.name
    if protocol == "continual":
        order = "" if cfg.protocol.order_seed is None else f"-order{cfg.protocol.order_seed}"
        protocol = f"continual-{cfg.protocol.strategy}{order}"
    names = {"config_name": cfg.config_name, "protocol": protocol, "category": joined}
    return inside(output, **names, seed=f"{cfg.seed}{suffix}")


def earlier_state(path: Path, cfg: ConfigDict, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the run that has begun in this folder.

    Raises:
        AnoframeError: this config cannot go on with it, or its files are damaged.
    """
    state = read_json(path / "run.json")
    if not _has(state, _STATE):
        raise AnoframeError(f"{path / 'run.json'} is damaged: start again with --overwrite")
    before, now = _fixed(load_config(path / "config.yaml")), _fixed(cfg)
    _agree(path, before, now)
    _agree(path, dict(flatten(state["provenance"])), dict(flatten(provenance)))
    return state


class RunFolder:
    """A folder that this process alone writes to, from its making until `release`.

    Args:
        path: of the folder; it is made.
        cfg: of this run.
        provenance: that of `metrics.json` as far as it is known beforehand; parts of one run must agree in it.
        start: `"new"` refuses a folder where a run has begun, `"resume"` goes on with that run, or begins one where
            there is none, and `"overwrite"` removes it.

    Attributes:
        id: eight hex digits, the same for as long as a run is resumed.
        resumed: whether there was a run to go on with.
        state: what `run.json` holds.

    Raises:
        AnoframeError: the folder cannot be written to, is in use, or holds another run.
    """

    def __init__(self, path: Path, cfg: ConfigDict, provenance: Mapping[str, Any], start: str = "new"):
        if start not in START:
            raise AnoframeError(f"start is one of {', '.join(START)}, got {start!r}")
        self.path = path
        self._lock = self._claim()
        try:
            begun = (path / "config.yaml").exists()
            if start == "new" and (begun or (path / "metrics.json").exists()):
                raise AnoframeError(_three_ways(path))
            self.resumed = begun and start == "resume"
            self.state: dict[str, Any]
            if self.resumed:
                self.state = earlier_state(path, cfg, provenance)
            else:
                self._clean()
                self.state = {"id": secrets.token_hex(4), "provenance": dict(provenance), "stages": {}}
            self.id: str = self.state["id"]
            self.write_state(status="running", failed={})
            save_config(cfg, path / "config.yaml")  # last: from now on there is a run to resume
        except BaseException:
            self.release()
            raise

    def write_state(self, **changes: Any) -> None:
        """Change what `run.json` says."""
        self.state.update(changes)
        write_json(self.path / "run.json", self.state)

    def result(self, category: str) -> dict[str, Any] | None:
        """What is known of a category that was evaluated; None where it has to be, as where that file is damaged."""
        try:
            found = read_json(self.path / "results" / f"{category}.json")
        except AnoframeError:
            return None
        return found if _has(found, _RESULT) else None

    def write_result(self, category: str, result: Mapping[str, Any]) -> None:
        write_json(self.path / "results" / f"{category}.json", result)

    def checkpoint(self, fit: str) -> Path:
        return self.path / "checkpoint" / fit

    def training(self, fit: str) -> Path:
        """Where a fit keeps what a kill must not lose."""
        return self.path / "training" / fit

    def write_curves(self, fit: str, curves: Mapping[str, Any]) -> None:
        """What each epoch of a fit gave; see docs/runs.md."""
        write_json(self.path / "training" / f"{fit}.json", curves)

    def end_training(self, fit: str) -> None:
        """Let go of the states of a fit whose checkpoint is written."""
        shutil.rmtree(self.training(fit), ignore_errors=True)

    def release(self) -> None:
        """Let others write to it."""
        self._lock.release()

    def _claim(self) -> FileLock:
        lock = FileLock(self.path / "run.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise AnoframeError(f"{self.path} is read-only: choose another --output")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise AnoframeError(
                f"{self.path} is in use by run {self._id_of_other()}: wait until it ends, or choose another --output"
            ) from error
        except OSError as error:
            raise AnoframeError(f"cannot use {self.path} ({error.strerror}): choose another --output") from error
        return lock

    def _id_of_other(self) -> str:
        try:
            return str(read_json(self.path / "run.json")["id"])
        except AnoframeError:
            return "(just starting)"

    def _clean(self) -> None:
        """Remove an earlier run, first what says that there is one."""
        try:
            for name in ("config.yaml", *_FILES):
                (self.path / name).unlink(missing_ok=True)
            for name in _FOLDERS:
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
        except OSError as error:
            raise AnoframeError(f"cannot empty {self.path} ({error.strerror}): choose another --output") from error


class FollowedFolder(RunFolder):
    """The folder of a run for a process that follows another, which writes: it neither reads nor writes anything.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path, self.id, self.resumed, self.state = path, "", False, {"stages": {}}

    def write_state(self, **changes: Any) -> None:
        """Nothing."""

    def write_result(self, category: str, result: Mapping[str, Any]) -> None:
        """Nothing."""

    def write_curves(self, fit: str, curves: Mapping[str, Any]) -> None:
        """Nothing."""

    def end_training(self, fit: str) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing is held."""


def _has(tree: Any, kinds: Mapping[str, Any]) -> bool:
    """Whether what was read from a file has these keys, each of its kind."""
    return isinstance(tree, dict) and all(key in tree and matches_type(tree[key], kind) for key, kind in kinds.items())


def _three_ways(path: Path) -> str:
    found = "the results of an earlier run" if (path / "metrics.json").exists() else "a run that has not finished"
    return f"{path} has {found}: go on with it (--resume), choose another --output, or replace it with --overwrite"


def _fixed(cfg: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in flatten(cfg) if not key.startswith(RESULT_NEUTRAL_KEYS)}


def _agree(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under other conditions: its halves would not belong together."""
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        shown = ", ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in differing[:5])
        raise AnoframeError(
            f"cannot resume {path}, it began otherwise: {shown}. Use what it began with, choose another --output, or "
            "replace it with --overwrite"
        )
