"""Cells of a survey beside those of detectors: the pretraining of an encoder, and its evaluation by classification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.backbones.exported import read_export
from anoframe.config import ConfigDict
from anoframe.data.fingerprint import FileHashes
from anoframe.errors import AnoframeError
from anoframe.runs.folder import earlier_state
from anoframe.runs.pretraining_plan import PretrainingPlan
from anoframe.runs.pretraining_run import pretrain
from anoframe.runs.probe_run import RESULT_FILE, ProbePlan, evaluate_encoder
from anoframe.utils.files import read_json
from anoframe.utils.type_check import matches_type


@dataclass(frozen=True)
class _EncoderRun(ABC):
    """A run that is not one of detectors.

    Attributes:
        cfg: resolved, with the seed.
        output: parent folder of run folders.
        folder: the run folder.
    """

    cfg: ConfigDict
    output: str
    folder: Path

    @property
    def categories(self) -> tuple[str, ...]:
        """The config, which stands for the whole run."""
        return (str(self.cfg.config_name),)

    @property
    @abstractmethod
    def name(self) -> str:
        """One line for the console."""

    @abstractmethod
    def is_done(self) -> bool:
        """Whether the run has finished and its results can be read."""

    @abstractmethod
    def work(self) -> None:
        """Begin or resume the run."""

    def run(self) -> dict[str, str]:
        """Begin or resume the run; returns what failed -> reason, empty if nothing did."""
        try:
            self.work()
        except Exception as error:  # an error of any run must not stop the others
            reason = str(error) if isinstance(error, AnoframeError) else f"{type(error).__name__}: {error}"
            return {str(self.cfg.config_name): reason}
        return {}


class PretrainingCell(_EncoderRun):
    """The pretraining of one encoder with one seed."""

    @property
    def name(self) -> str:
        return f"{self.cfg.config_name} pretraining seed {self.cfg.seed}"

    def is_done(self) -> bool:
        try:
            read_export(self.folder)
            return has_finished(self.folder)
        except AnoframeError:
            return False

    def work(self) -> None:
        pretrain(self.cfg, self.output, start="resume")


class ProbeCell(_EncoderRun):
    """The evaluation of one encoder by classification with one seed."""

    @property
    def name(self) -> str:
        return f"{self.cfg.config_name} {self.cfg.data.name} seed {self.cfg.seed}"

    def is_done(self) -> bool:
        try:
            read_probes(self.folder)
            return has_finished(self.folder)
        except AnoframeError:
            return False

    def work(self) -> None:
        evaluate_encoder(self.cfg, self.output, start="resume")


def plan_pretraining(cfg: ConfigDict, output: Path) -> tuple[PretrainingCell, PretrainingPlan]:
    """Check a pretraining and an existing run folder of it.

    Raises:
        AnoframeError: as `PretrainingPlan`; or the folder has another run.
    """
    cfg = cfg.copy_and_resolve_references()
    plan = PretrainingPlan(cfg)
    cell = PretrainingCell(cfg, str(output), plan.folder(output))
    check_folder(cell.folder, cfg, plan.provenance, plan.files)
    return cell, plan


def plan_probe(cfg: ConfigDict, output: Path) -> tuple[ProbeCell, ProbePlan]:
    """Check an evaluation by classification and an existing run folder of it.

    Raises:
        AnoframeError: as `ProbePlan`; or the folder has another run.
    """
    cfg = cfg.copy_and_resolve_references()
    plan = ProbePlan(cfg)
    cell = ProbeCell(cfg, str(output), plan.folder(output))
    check_folder(cell.folder, cfg, plan.provenance, plan.files)
    return cell, plan


def check_folder(folder: Path, cfg: ConfigDict, provenance: Mapping[str, Any], files: FileHashes) -> None:
    """Raise AnoframeError if a run folder has a run that is not this one."""
    if not (folder / "config.yaml").exists():
        return
    try:
        earlier_state(folder, cfg, provenance, files)
    except AnoframeError as error:
        raise AnoframeError(
            f"{error}. A survey has no --overwrite: choose another --output, or remove that folder"
        ) from error


def has_finished(folder: Path) -> bool:
    """Return whether a run folder is of a finished run.

    Raises:
        AnoframeError: it has no `run.json` that can be read.
    """
    state = read_json(folder / "run.json")
    return isinstance(state, dict) and state.get("status") == "finished"


def read_probes(folder: Path) -> dict[str, dict[str, float]]:
    """Read probe -> metric -> share of the test images.

    Raises:
        AnoframeError: the file is missing or damaged.
    """
    tree = read_json(folder / RESULT_FILE)
    metrics: Any = tree.get("metrics") if isinstance(tree, dict) else None
    if not matches_type(metrics, dict[str, dict[str, float]]):
        raise AnoframeError(f"{folder / RESULT_FILE} is damaged: remove its run folder, it is made again")
    result: dict[str, dict[str, float]] = metrics
    return result
