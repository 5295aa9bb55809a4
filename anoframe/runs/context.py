"""Assembly of the parts of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anoframe.config import ConfigDict
from anoframe.data.fingerprint import FileHashes
from anoframe.runs.evaluating import Evaluator
from anoframe.runs.fitting import Fitter
from anoframe.runs.plan import Plan
from anoframe.runs.recording import RunRecorder
from anoframe.runs.samples import RunSamples
from anoframe.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class RunContext:
    """The parts of one run, which the loops over fits and over tasks share."""

    plan: Plan
    recorder: RunRecorder
    fitter: Fitter
    evaluator: Evaluator


@contextmanager
def open_run(
    cfg: ConfigDict,
    output: str | Path,
    start: str,
    tested: Checkpoint | None = None,
    trained_files: FileHashes | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Iterator[RunContext]:
    """Plan a run, claim its folder, and hold the folder until the run ends.

    Where several processes work on a run, each opens it, and they run in lockstep: they train together, and each
    predicts a part of the test images. The main process alone decides which work is left, measures, writes and logs.

    Args:
        cfg: from `config_for_run`.
        output, start: as for `RunRecorder`.
        tested, trained_files: as for `Plan`.
        provenance: further values for the provenance of the results.

    Raises:
        AnoframeError: as `Plan` and `RunRecorder`.
    """
    plan = Plan(cfg, tested, cfg.protocol.name == "continual", trained_files)
    plan.provenance |= provenance or {}
    with RunRecorder(plan, output, start) as recorder:
        samples = RunSamples(plan, recorder.tracker)
        evaluator = Evaluator(plan, samples, recorder)
        yield RunContext(plan, recorder, Fitter(plan, samples, recorder, evaluator), evaluator)
