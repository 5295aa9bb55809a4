"""A pretraining: train the learner, export the encoder, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

import anoframe
from anoframe.backbones.exported import read_export, write_export
from anoframe.config import ConfigDict
from anoframe.errors import AnoframeError
from anoframe.pretraining.base import PHASE
from anoframe.report.write import write_report
from anoframe.runs.pretraining_plan import PretrainingPlan
from anoframe.runs.recording import Recorder
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.utils.files import write_atomic
from anoframe.utils.tensor_files import fingerprint

FIT = "encoder"  # name of the fit, of its curves and states
ENCODER_FILE = "encoder.safetensors"
HEADS_FILE = "heads.safetensors"


@dataclass(frozen=True)
class PretrainedEncoder:
    """Result of a pretraining.

    Attributes:
        folder: of the run.
        file: the exported encoder.
        curves: losses and measurements of each epoch.
    """

    folder: Path
    file: Path
    curves: dict[str, Any]


def pretrain(cfg: ConfigDict, output: str | Path = "runs", start: str = "new") -> PretrainedEncoder:
    """Train an encoder and export it.

    Args:
        cfg: of `configs/__base__/pretraining.py`, or one that inherits it.
        output: parent of run folders.
        start: `"new"`, `"resume"` or `"overwrite"`.

    Raises:
        AnoframeError: as `PretrainingPlan`, `Recorder` and the training.
    """
    plan = PretrainingPlan(cfg)
    with Recorder(plan, output, start) as recorder:
        context = _context(plan, recorder)
        file = recorder.folder.path / ENCODER_FILE
        if plan.group.broadcast_flag(_is_done(recorder, file)):
            recorder.tracker.log("done", fit=FIT)
        else:
            _train(plan, recorder, context)
            if plan.group.is_main:
                _export(plan, recorder, file)
        plan.group.barrier()
        if plan.group.is_main:
            recorder.write_state("finished")
            with recorder.isolate_decoration("report.html"):
                write_report(recorder.folder.path)
            recorder.tracker.log("finished", metrics=_last_measurements(context.curves))
        return PretrainedEncoder(recorder.folder.path, file, context.curves)


def _context(plan: PretrainingPlan, recorder: Recorder) -> FitContext:
    states = recorder.folder.training(FIT) if plan.group.is_main else None
    return FitContext(FIT, plan.cfg.seed, plan.trainer, recorder.tracker, states, group=plan.group)


def _is_done(recorder: Recorder, file: Path) -> bool:
    """Whether an interrupted run has exported its encoder already; a damaged file is written again."""
    if not recorder.folder.resumed or not file.exists():
        return False
    try:
        read_export(file)
    except AnoframeError as error:
        recorder.tracker.log("warning", text=f"the encoder is trained again: {error}")
        return False
    return True


def _train(plan: PretrainingPlan, recorder: Recorder, context: FitContext) -> None:
    images, tracker = plan.data.images, recorder.tracker
    counts = f"{len(images)} images of {len(images.classes)} class{'es' * (len(images.classes) > 1)}"
    negatives = "" if plan.negatives is None else f", {plan.negatives} negatives per anchor"
    tracker.log("method_message", text=f"pretraining {plan.learner.encoder.architecture} on {counts}{negatives}")
    seed_everything(plan.cfg.seed)
    fit_learner(plan.learner, (), len(images), recorder.clock, context, images=images)
    recorder.folder.write_curves(FIT, context.curves)


def _export(plan: PretrainingPlan, recorder: Recorder, file: Path) -> None:
    """Write the encoder and the heads, then remove the training states."""
    learner, images = plan.learner.cpu(), plan.data.images
    steps_per_epoch, steps = plan.settings.num_steps(len(images))
    facts = {
        "method": str(plan.cfg.learner.name),
        "epochs": f"{steps / steps_per_epoch:g}",
        "data": plan.data.manifest,
        "images": str(len(images)),
        "views": str(plan.cfg.views.preset),
        "seed": str(plan.cfg.seed),
        "anoframe": anoframe.__version__,
        **learner.facts(),
    }
    with recorder.clock.stage("save"):
        heads = {name: value for name, value in learner.learned_state().items() if not name.startswith("encoder.")}
        write_atomic(file.parent / HEADS_FILE, save({name: value.contiguous() for name, value in heads.items()}))
        count = write_export(file, learner.encoder, plan.cfg.views.size, facts)
    sha256 = fingerprint(learner.encoder.network.state_dict())
    excluded = sum(plan.data.excluded.values())
    description = {"file": file.name, "tensors": count, "sha256": sha256, **facts, "excluded": excluded}
    recorder.folder.write_state(encoder=description)
    recorder.folder.end_training(FIT)
    text = f"exported {count} tensors: --model.backbone.name exported:{file}"
    recorder.tracker.log("method_message", text=text)
    recorder.tracker.log("checkpoint", fit=FIT, folder=file, metadata=description)


def _last_measurements(curves: dict[str, Any]) -> dict[str, float]:
    """Return the losses and measurements of the last epoch, for the trackers."""
    phases = [phase for phase in curves["phases"] if phase["name"] == PHASE and phase["epochs"]]
    last = phases[-1]["epochs"][-1] if phases else {}
    return {**last.get("losses", {}), **last.get("measurements", {})}
