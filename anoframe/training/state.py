"""What a killed training goes on from: weights, optimiser, random states, and how far it was.

A state is a folder, `<step of learning>.<steps of the optimiser>/`: `learned.safetensors`, `rest.pt` (plain values and
tensors, loaded with `weights_only`), and `state.json`, which has a digest of both. It is written beside and renamed, so
it is whole or not there; the one before stays, for a disk that loses what it said it wrote.
"""

from __future__ import annotations

import io
import pickle
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.utils.files import cannot_write, digest, read_json, write_atomic, write_json

KEPT = 2  # states at a time


@dataclass
class TrainingState:
    """Where training stands.

    Attributes:
        step: of learning: the place of an observation or phase in `Detector.training_stages()`; all before it are done.
        done: steps of the optimiser in that phase.
        learned: the detector's `learned_state`.
        rest: the optimiser's and scaler's state, random states of each process that trains along, the curves so far;
            plain values and tensors.
    """

    step: int
    done: int
    learned: dict[str, Tensor]
    rest: dict[str, Any] = field(default_factory=dict)

    def save(self, home: Path) -> None:
        """Write it, and let go of all but the one before.

        Raises:
            OutputError: it cannot be written; earlier ones stay.
        """
        folder = home / f"{self.step:03d}.{self.done:09d}"
        beside = home / f".{folder.name}.part"
        try:
            for torn in home.glob(".*.part"):  # of a kill while one was written
                shutil.rmtree(torn)
            self._write(beside)
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or `replace` would fail
            beside.replace(folder)
            for older in _states(home)[KEPT:]:
                shutil.rmtree(older)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def _write(self, folder: Path) -> None:
        learned = save({name: value.contiguous().cpu() for name, value in self.learned.items()})
        rest = io.BytesIO()
        torch.save(self.rest, rest)
        write_atomic(folder / "learned.safetensors", learned)
        write_atomic(folder / "rest.pt", rest.getvalue())
        digests = {"learned": digest(learned), "rest": digest(rest.getvalue())}
        write_json(folder / "state.json", {"step": self.step, "done": self.done, **digests})


def latest_state(home: Path) -> TrainingState | None:
    """The newest state that is whole; None where there is none."""
    for folder in _states(home):
        try:
            return _read(folder)
        except (OSError, AnoframeError, SafetensorError, pickle.UnpicklingError, KeyError, TypeError, RuntimeError):
            continue  # damaged: the one before it is as good, only earlier
    return None


def _states(home: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in home.glob("[0-9]*.[0-9]*") if path.is_dir()), reverse=True)


def _read(folder: Path) -> TrainingState:
    said = read_json(folder / "state.json")
    learned, rest = (folder / "learned.safetensors").read_bytes(), (folder / "rest.pt").read_bytes()
    if digest(learned) != said["learned"] or digest(rest) != said["rest"]:
        raise AnoframeError(f"{folder} is damaged")
    plain = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return TrainingState(said["step"], said["done"], load(learned), plain)


# ------------------------------------------------------------------------------------------------ random states


def seed_generators(*numbers: int) -> None:
    """Set every generator that a method might draw from by these numbers, whatever was drawn before."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Of every generator that a method might draw from, as plain values and tensors."""
    name, keys, *numbers = np.random.get_state()  # noqa: NPY002 - the global generator is what libraries draw from
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *numbers],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """What `random_states` gave."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    for number in range(min(len(states["cuda"]), torch.cuda.device_count())):  # a machine may have lost its GPUs since
        torch.cuda.set_rng_state(states["cuda"][number], number)
