"""Training states on disk: what an interrupted training resumes from (weights, optimiser, random states, progress).

A state is a folder `<stage>.<optimiser steps>/` with `learned.safetensors`, `rest.pt` (plain values and tensors, loaded
with `weights_only`) and `state.json`, which holds a digest of both. It is written under another name and then renamed,
so a state is either complete or absent. The previous state is kept in case the disk loses the newest one.
"""

from __future__ import annotations

import io
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.utils.files import digest, read_json, write_atomic, write_error, write_json

NUM_KEPT = 2  # states kept on disk


@dataclass
class TrainingState:
    """Progress of a fit.

    Attributes:
        stage: index in `Detector.training_stages()` of the current stage; all stages before it are finished.
        steps: optimiser steps done in that stage.
        learned: `learned_state` of the detector.
        rest: plain values and tensors: state of the optimiser and of the gradient scaler, random states of each
            process, the curves so far.
    """

    stage: int
    steps: int
    learned: dict[str, Tensor]
    rest: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the state and delete all older ones except the previous one.

        Args:
            folder: parent of the states of this fit.

        Raises:
            OutputError: the state cannot be written; earlier states stay.
        """
        target = folder / f"{self.stage:03d}.{self.steps:09d}"
        temporary = folder / f".{target.name}.part"
        try:
            for incomplete in folder.glob(".*.part"):  # left by a process that was killed while writing
                shutil.rmtree(incomplete)
            self._write(temporary)
            shutil.rmtree(target, ignore_errors=True)  # a damaged state of this name; `replace` would fail on it
            temporary.replace(target)
            for older in _state_folders(folder)[NUM_KEPT:]:
                shutil.rmtree(older)
        except OSError as error:
            raise write_error(target, error) from error

    def _write(self, folder: Path) -> None:
        learned = save({name: value.contiguous().cpu() for name, value in self.learned.items()})
        rest = io.BytesIO()
        torch.save(self.rest, rest)
        write_atomic(folder / "learned.safetensors", learned)
        write_atomic(folder / "rest.pt", rest.getvalue())
        digests = {"learned": digest(learned), "rest": digest(rest.getvalue())}
        write_json(folder / "state.json", {"step": self.stage, "done": self.steps, **digests})


def latest_state(folder: Path) -> TrainingState | None:
    """The newest complete state below `folder`; None if there is none."""
    for state_folder in _state_folders(folder):
        try:
            return _read(state_folder)
        except (OSError, AnoframeError, SafetensorError, pickle.UnpicklingError, KeyError, TypeError, RuntimeError):
            continue  # damaged: the previous state gives the same result, it is only older
    return None


def _state_folders(folder: Path) -> list[Path]:
    """Folders of all states, newest first."""
    return sorted((path for path in folder.glob("[0-9]*.[0-9]*") if path.is_dir()), reverse=True)


def _read(folder: Path) -> TrainingState:
    description = read_json(folder / "state.json")
    learned, rest = (folder / "learned.safetensors").read_bytes(), (folder / "rest.pt").read_bytes()
    if digest(learned) != description["learned"] or digest(rest) != description["rest"]:
        raise AnoframeError(f"{folder} is damaged")
    values = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return TrainingState(description["step"], description["done"], load(learned), values)
