"""Run a survey: pretrain, evaluate what is missing, write the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anoframe.config import ConfigDict, to_plain
from anoframe.errors import AnoframeError
from anoframe.grid.execution import check_workers, run_cells
from anoframe.grid.workers import Workers
from anoframe.report.compare import group_comparable, read_finished
from anoframe.report.grid_table import Failure
from anoframe.report.run_record import RunRecord
from anoframe.report.survey_export import survey_csv, survey_json, survey_markdown
from anoframe.report.survey_page import survey_page
from anoframe.report.survey_table import EncoderRow, Kind, SurveyTable, Value, build_survey
from anoframe.survey.cells import ProbeCell, read_probes
from anoframe.survey.encoders import describe_encoder
from anoframe.survey.plan import EvaluationRun, SurveyPlan, plan_survey
from anoframe.survey.settings import EncoderSpec, read_survey
from anoframe.tracking.tracker import Console
from anoframe.utils.files import write_atomic, write_json
from anoframe.utils.paths import expand_path

FOLDER = "survey"  # in the output folder: logs of processes
PAGE = "survey.html"


@dataclass(frozen=True)
class Survey:
    """A survey after its run.

    Attributes:
        table: its content.
        page: path of `survey.html`; `survey.md`, `survey.csv` and `survey.json` lie beside it.
    """

    table: SurveyTable
    page: Path


def run_survey(
    cfg: ConfigDict, output: str | Path = "runs", workers: Workers = 0, address: str | None = None, cores: int = 1
) -> Survey:
    """Pretrain and evaluate every encoder with every seed, as far as it is not done, and write the tables.

    Args:
        cfg: of `configs/__base__/survey.py`, or one that inherits it.
        output: parent of run folders; the tables are written into it.
        workers: 0 runs the cells one after another in this process, N in N processes, `"ray"` on a Ray cluster.
        address: of a Ray cluster; None starts one on this machine.
        cores: cores per cell on Ray.

    Raises:
        AnoframeError: anything that can be detected before the first cell starts, or an output that is not writable.
    """
    check_workers(workers)
    folder = expand_path(output, "output")
    plan = plan_survey(read_survey(cfg), folder)
    unavailable = [f"{name} is not evaluated: {reason}" for name, reason in plan.unavailable.items()]
    for text in [*plan.warnings, *unavailable]:
        Console().log("warning", text=text)
    cells = list(plan.pretraining.values())
    failures = run_cells(cells, workers, folder / FOLDER, address, cores)
    done = [key for key, cell in plan.pretraining.items() if cell.is_done()]
    runs = _in_order(plan, [*plan.evaluations, *plan.plan_pretrained(done)])
    failures += run_cells([run.cell for run in runs], workers, folder / FOLDER, address, cores)
    values, unreadable, refusals = _read_values(runs, {failure.cell for failure in failures})
    rows = [_row(plan, spec, done) for spec in plan.settings.encoders]
    kinds: dict[str, Kind] = {spec.name: "classification" for spec in plan.settings.classification}
    kinds |= {spec.name: "detection" for spec in plan.settings.methods}
    table = build_survey(rows, kinds, values, plan.settings.seeds, [*failures, *unreadable], refusals)
    _write(table, folder, cfg)
    return Survey(table, folder / PAGE)


def _in_order(plan: SurveyPlan, runs: Sequence[EvaluationRun]) -> list[EvaluationRun]:
    """Sort by seed, then by encoder: an interrupted survey has complete rows of the first seeds."""
    names = [spec.name for spec in plan.settings.encoders]
    return sorted(runs, key=lambda run: (plan.settings.seeds.index(run.seed), names.index(run.encoder)))


def _row(plan: SurveyPlan, spec: EncoderSpec, done: Sequence[tuple[str, int]]) -> EncoderRow:
    note = f"not evaluated: {plan.unavailable[spec.name]}" if spec.name in plan.unavailable else ""
    seeds = [seed for seed in plan.settings.seeds if spec.source != "pretrain" or (spec.name, seed) in done]
    file = plan.file(spec, seeds[0]) if seeds and not note else None
    return EncoderRow(spec.name, describe_encoder(spec, file), note)


def _read_values(runs: Sequence[EvaluationRun], failed: set[str]) -> tuple[list[Value], list[Failure], list[str]]:
    """Read the results of all runs.

    Returns:
        Values, runs that cannot be read and have not already failed, and why detectors of one method are not
        comparable.
    """
    values: list[Value] = []
    unreadable: list[Failure] = []
    records: dict[str, list[RunRecord]] = {}
    for run in runs:
        try:
            if isinstance(run.cell, ProbeCell):
                values += _probe_values(run)
            else:
                record = read_finished(run.cell.folder)
                records.setdefault(run.evaluation, []).append(record)
                values += _detector_values(run, record)
        except AnoframeError as error:
            if not any(name.startswith(run.cell.name) for name in failed):
                unreadable.append(Failure(run.cell.name, str(error)))
    refusals = [reason for group in records.values() for reason in group_comparable(group)[1]]
    return values, unreadable, refusals


def _probe_values(run: EvaluationRun) -> Iterator[Value]:
    for probe, metrics in read_probes(run.cell.folder).items():
        for metric, value in metrics.items():
            yield Value(run.encoder, run.evaluation, probe, metric, run.seed, value)


def _detector_values(run: EvaluationRun, record: RunRecord) -> Iterator[Value]:
    for category in record.evaluated:
        for metric, value in category.metrics.items():
            if value is not None:
                yield Value(run.encoder, run.evaluation, category.name, metric, run.seed, value)


def _write(table: SurveyTable, folder: Path, cfg: ConfigDict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "survey.md", survey_markdown(table))
    write_atomic(folder / "survey.csv", survey_csv(table))
    write_json(folder / "survey.json", survey_json(table, to_plain(cfg)))
    write_atomic(folder / PAGE, survey_page(table))
