"""Plan of a survey: its pretrainings and evaluations, checked before the first one starts as far as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anoframe.config import ConfigDict, load_config
from anoframe.errors import AnoframeError
from anoframe.grid.cells import Cell, plan_config
from anoframe.runs.plan import Plan
from anoframe.runs.probe_run import ProbePlan
from anoframe.survey.cells import PretrainingCell, ProbeCell, plan_pretraining, plan_probe
from anoframe.survey.encoders import (
    EncoderFile,
    encoder_file,
    exported_path,
    missing_weights,
    pretraining_config,
    write_random,
)
from anoframe.survey.leaks import check_not_trained_on, hash_test_images, recorded_training_images
from anoframe.survey.settings import EncoderSpec, EvaluationSpec, SurveySettings

EvaluationPlans = Sequence[Plan | ProbePlan]


@dataclass(frozen=True)
class EvaluationRun:
    """One evaluation of an encoder: a labelled dataset, or a detector on one or more categories.

    Attributes:
        encoder, seed, evaluation: names its place in the tables.
        cell: runs it.
    """

    encoder: str
    seed: int
    evaluation: str
    cell: ProbeCell | Cell


@dataclass
class SurveyPlan:
    """What a survey will do.

    Attributes:
        settings: of the survey.
        output: parent of run folders.
        unavailable: encoder -> why its ImageNet weights cannot be had; it is not evaluated.
        pretraining: (encoder, seed) -> cell.
        evaluations: of all encoders that need no training.
        warnings: for the user.
    """

    settings: SurveySettings
    output: Path
    unavailable: dict[str, str] = field(default_factory=dict)
    pretraining: dict[tuple[str, int], PretrainingCell] = field(default_factory=dict)
    evaluations: list[EvaluationRun] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def file(self, spec: EncoderSpec, seed: int) -> EncoderFile:
        """Name an encoder for the configs of runs."""
        cell = self.pretraining.get((spec.name, seed))
        return encoder_file(spec, seed, self.output, cell.folder if cell else None)

    def plan_pretrained(self, done: Iterable[tuple[str, int]]) -> list[EvaluationRun]:
        """Plan the evaluations of encoders that have been trained.

        Raises:
            AnoframeError: as `plan_evaluations`.
        """
        specs = {spec.name: spec for spec in self.settings.encoders}
        runs: list[EvaluationRun] = []
        for name, seed in done:
            runs += plan_evaluations(self.settings, name, self.file(specs[name], seed), seed, self.output)[0]
        return runs


def plan_survey(settings: SurveySettings, output: Path) -> SurveyPlan:
    """Check the encoders, their training images, and the evaluations of all encoders that need no training.

    The random encoders are written into the output folder; nothing else is.

    Raises:
        AnoframeError: anything that can be detected before the first pretraining starts.
    """
    plan = SurveyPlan(settings, output)
    plans: list[Plan | ProbePlan] = []
    for spec in settings.encoders:
        if spec.source == "imagenet" and (reason := missing_weights(spec)):
            plan.unavailable[spec.name] = reason
        elif spec.source != "pretrain":
            for seed in settings.seeds:
                if spec.source == "random":
                    write_random(spec, seed, output)
                file = plan.file(spec, seed)
                runs, own_plans = plan_evaluations(settings, spec.name, file, seed, output)
                plan.evaluations += runs
                plans = plans or list(own_plans)  # all encoders have the same test images
    _plan_pretraining(plan, plans)
    _check_exported(plan, hash_test_images(plans))
    return plan


def plan_evaluations(
    settings: SurveySettings, encoder: str, file: EncoderFile, seed: int, output: Path
) -> tuple[list[EvaluationRun], EvaluationPlans]:
    """Plan every evaluation of one encoder with one seed.

    Raises:
        AnoframeError: a config, key, dataset, category or the encoder is wrong, or a folder has another run.
    """
    runs, plans = [], []
    for spec in (*settings.classification, *settings.methods):
        is_probe = spec in settings.classification
        keys = file.probe_keys() if is_probe else file.detector_keys()
        cfg = _evaluation_config(spec, encoder, is_probe, {**keys, "seed": seed, "device": settings.device})
        cells: Sequence[ProbeCell | Cell]
        plan: Plan | ProbePlan
        if is_probe:
            cell, plan = plan_probe(cfg, output)
            cells = [cell]
        else:
            cells, plan = plan_config(cfg, settings.categories, [seed], output)
        runs += [EvaluationRun(encoder, seed, spec.name, cell) for cell in cells]
        plans.append(plan)
    return runs, plans


def _evaluation_config(spec: EvaluationSpec, encoder: str, is_probe: bool, keys: dict[str, object]) -> ConfigDict:
    """Load the config of an evaluation, named after evaluation and encoder."""
    where = f"{'classification' if is_probe else 'detection.methods'}.{spec.name}"
    try:
        given = load_config(spec.config)
        section = given.get("probes") if is_probe else given.get("model", {}).get("backbone")
        if section is None:
            needed = "section probes, as probe/probe.py has" if is_probe else "section model.backbone"
            raise AnoframeError(f"config {spec.config} has no {needed}")
        cfg = load_config(spec.config, {**spec.overrides, **keys})
    except AnoframeError as error:
        raise AnoframeError(f"{where}: {error}") from error
    cfg.config_name = f"{spec.name}-{encoder}"
    return cfg


def _plan_pretraining(plan: SurveyPlan, evaluations: EvaluationPlans) -> None:
    """Plan the pretrainings, without the test images of all evaluations."""
    specs = [spec for spec in plan.settings.encoders if spec.source == "pretrain"]
    exclude = tuple(dict.fromkeys(map(_source, evaluations)))
    tests = hash_test_images(evaluations) if specs else {}
    for spec in specs:
        for seed in plan.settings.seeds:
            cfg = pretraining_config(spec, seed, plan.settings.device, exclude)
            try:
                cell, own = plan_pretraining(cfg, plan.output)
            except AnoframeError as error:
                raise AnoframeError(f"encoders.{spec.name}: {error}") from error
            check_not_trained_on(spec.name, own.data.hashes, tests)
            plan.pretraining[spec.name, seed] = cell
            plan.warnings += [f"{spec.name}, seed {seed}: {text}" for text in own.warnings]


def _source(plan: Plan | ProbePlan) -> str:
    """Return the dataset of an evaluation as `KIND:PATH`, whose test images are left out."""
    root = plan.cfg.data.root if isinstance(plan, ProbePlan) else plan.dataset.root
    return f"{plan.cfg.data.name}:{root}"


def _check_exported(plan: SurveyPlan, tests: dict[str, str]) -> None:
    """Check the training images of exported encoders, as far as their runs have recorded them."""
    for spec in plan.settings.encoders:
        for seed in plan.settings.seeds if spec.source == "exported" else ():
            path = exported_path(spec, seed)
            trained = recorded_training_images(path)
            if trained is None:
                plan.warnings.append(
                    f"{spec.name}: {path} lies beside no run that recorded its training images, so whether it was "
                    "trained on a test image is not known"
                )
            else:
                check_not_trained_on(spec.name, trained, tests)
