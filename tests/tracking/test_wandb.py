"""The data that Weights & Biases gets, read back from the files of offline runs; no network is used."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from PIL import Image
from stream_example import stream_example
from wandb_files import artifact_files, offline_runs

import anoframe
from anoframe.config import to_plain
from anoframe.models.summary import MethodSummary, Table
from anoframe.tracking import wandb as tracking
from anoframe.tracking.factory import open_trackers
from anoframe.tracking.tracker import Trackers
from anoframe.tracking.wandb import WandB
from anoframe.tracking.wandb_events import class_values

pytestmark = pytest.mark.slow

ID = "3f9a0c21"
SIDE = 24
COLOURS = {"image": (200, 30, 30), "mask": (255, 255, 255), "map": (40, 11, 84), "outlines": (0, 200, 83)}
METRICS = {"image_auroc": 0.875, "pixel_auroc": 0.75, "aupro": None}


@pytest.fixture(scope="module")
def cfg():
    changes = {"wandb.enable": True, "wandb.log_freq": 5, "wandb.tags": ("wood", "first")}
    return anoframe.load_config("patchcore/patchcore_lite0_224.py", changes)


def write_run(folder: Path) -> None:
    """Write the files that events of a run refer to: a checkpoint and a picture."""
    strip = np.full((SIDE, 4 * SIDE + 12, 3), 255, np.uint8)
    for index, colour in enumerate(COLOURS.values()):
        strip[:, index * (SIDE + 4) :][:, :SIDE] = colour
    pictures = folder / "pictures" / "felt"
    pictures.mkdir(parents=True)
    Image.fromarray(strip).save(pictures / "000.png")
    (folder / "checkpoint" / "felt").mkdir(parents=True)
    (folder / "checkpoint" / "felt" / "learned.safetensors").write_bytes(b"learned")
    (folder / "checkpoint" / "felt" / "detector.json").write_text("{}", encoding="utf-8")


def log_run(tracker, folder: Path, cfg, resumed: bool = False) -> None:
    """Log the events of a run: one category from start to end, and one that fails."""
    tracker.log("run", id=ID, folder=str(folder), config=to_plain(cfg), resumed=resumed)
    tracker.log("warning", text="one defect lies outside the crop")
    tracker.log("fit", name="felt", images=6)
    for seconds, peak in ((1.5, 1000), (2.0, 3000)):
        tracker.log("stage", name="encode", seconds=seconds, peak_bytes=peak)
    for step in range(11):
        times = {"batch_seconds": 0.3, "data_seconds": 0.1, "optimisation_seconds": 0.2}
        values = {"losses": {"cosine": 1 / (1 + step), "total": 2.0}, "measurements": {"top1": 0.5}}
        tracker.log("step", fit="felt", phase="distil", epoch=step // 4, step=step, lr=0.01, **values, **times)
    for epoch in (2, 4):
        metrics = {"felt": {**METRICS, "image_auroc": epoch / 8}}
        tracker.log("look", fit="felt", phase="distil", epoch=epoch, metrics=metrics, summary="fine")
    metadata = {"categories": ["felt"], "seed": 0, "learned_sha256": "ab12"}
    tracker.log("checkpoint", fit="felt", folder=folder / "checkpoint" / "felt", metadata=metadata)
    tracker.log("evaluated", category="felt", summary="fine", metrics=METRICS)
    row = {"file": "000.png", "kind": "worst", "defect": "cut", "name": "cut/007.png", "score": 1.25}
    tracker.log("pictures", category="felt", folder=folder / "pictures" / "felt", rows=[row])
    curves = {"roc": {"x": [0.0, 0.5, 1.0], "y": [0.0, 0.75, 1.0]}, "pro": None}
    tracker.log("curves", category="felt", curves=curves)
    tracker.log("failed", category="mesh", reason="no test images")
    tracker.log("finished", metrics={"image_auroc": 0.875, "aupro": None}, seconds=12.5)


@pytest.fixture(scope="module")
def folder(offline, cfg, tmp_path_factory) -> Path:
    """Folder of a run that was interrupted, resumed, and ended with a failed category."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "separate" / "felt+mesh" / "0"
    write_run(folder)
    for resumed, status in ((False, "interrupted"), (True, "failed")):
        trackers = open_trackers(cfg, folder)
        log_run(trackers, folder, cfg, resumed)
        trackers.close(status)
        if not resumed:
            time.sleep(1)  # the name of W&B's folder has the time of the start in seconds
    return folder


@pytest.fixture(scope="module")
def starts(folder):
    return offline_runs(folder)


@pytest.fixture(scope="module")
def run(starts):
    """First start of the run, read back."""
    return starts[0]


@pytest.fixture
def start(offline, cfg, recorder, tmp_path, monkeypatch):
    """Starts a W&B run with changed environment variables (None: removed), and returns the tracker."""
    opened = []

    def start(section=cfg.wandb, **variables):
        for name, value in {"WANDB_MODE": None, **variables}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        opened.append(WandB(section, tmp_path, recorder.log))
        opened[-1].log("run", id=ID, folder=str(tmp_path), config=to_plain(cfg), resumed=False)
        return opened[-1]

    yield start
    for tracker in opened:
        tracker.close("finished")


# --- logged data -----------------------------------------------------------------------------------------------------


def test_run_has_name_project_and_tags_of_the_config(run):
    assert (run.run.run_id, run.run.project, run.run.display_name) == (ID, "anoframe", "tiny/separate/felt+mesh/0")
    assert sorted(run.run.tags) == ["first", "wood"]


def test_run_has_group_and_job_type_of_its_folder(run):
    assert (run.run.run_group, run.run.job_type, run.run.notes) == ("tiny/separate", "train", "")


def test_group_job_type_and_notes_of_the_config_come_first(start, cfg, tmp_path):
    section = cfg.wandb.copy_and_resolve_references()
    section.update(group="own", job_type="ablation", notes="no coreset")
    start(section, WANDB_MODE="offline", WANDB_RUN_GROUP="theirs", WANDB_NOTES="other").close("finished")
    (logged,) = offline_runs(tmp_path)
    assert (logged.run.run_group, logged.run.job_type, logged.run.notes) == ("own", "ablation", "no coreset")


def test_a_trial_of_a_sweep_has_the_id_that_the_agent_chose(start, tmp_path):
    start(WANDB_MODE="offline", WANDB_SWEEP_ID="s1", WANDB_RUN_ID="trial7").close("finished")
    (logged,) = offline_runs(tmp_path)
    assert logged.run.run_id == "trial7"


def test_decisions_are_logged_with_the_metrics(start, tmp_path):
    tracker = start(WANDB_MODE="offline")
    tracker.log("evaluated", category="felt", metrics=METRICS, decisions={"misses": 3, "miss_rate": None})
    tracker.log("finished", metrics=METRICS, decisions={"miss_rate": 0.5})
    tracker.close("finished")
    (logged,) = offline_runs(tmp_path)
    assert (logged.values("test/felt/misses"), logged.values("test/mean/miss_rate")) == ([3], [0.5])
    assert "test/felt/miss_rate" not in logged.summary


def test_config_is_the_resolved_config(run, cfg):
    logged = {name: value for name, value in run.config.items() if name != "_wandb"}
    assert logged == json.loads(json.dumps(to_plain(cfg)))


def test_metrics_of_a_category_and_their_mean_are_in_history_and_summary(run):
    for key in ("test/felt/image_auroc", "test/mean/image_auroc"):
        assert (run.values(key), run.summary[key]) == ([0.875], 0.875)


def test_metric_that_is_not_available_is_not_logged(run):
    assert not [key for key in run.summary if "aupro" in key]


def test_summary_has_status_duration_images_failures_and_warnings(run):
    expected = {"status": "interrupted", "seconds": 12.5, "fit/felt/images": 6, "failed/mesh": "no test images"}
    assert {key: run.summary[key] for key in expected} == expected
    assert run.summary["warnings"] == ["one defect lies outside the crop"]


def test_summary_has_total_seconds_and_peak_memory_of_a_stage(run):
    assert (run.summary["stage/encode/seconds"], run.summary["stage/encode/peak_bytes"]) == (3.5, 3000)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("step", [0, 5, 10]),
        ("epoch", [0, 1, 2]),
        ("lr", [0.01] * 3),
        ("loss/cosine", [1, 1 / 6, 1 / 11]),
        ("loss/total", [2.0] * 3),
        ("measured/top1", [0.5] * 3),
        ("batch_seconds", [0.3] * 3),
        ("data_seconds", [0.1] * 3),
        ("optimisation_seconds", [0.2] * 3),
    ],
)
def test_every_log_freq_th_step_is_logged(run, name, values):
    assert run.values(f"train/felt/distil/{name}") == values


def test_training_is_drawn_over_steps_and_test_metrics_over_epochs(run):
    assert run.axes == {
        "train/felt/distil/*": "train/felt/distil/step",
        "look/felt/distil/*": "look/felt/distil/epoch",
    }


def test_metrics_during_training_are_logged_with_their_epoch(run):
    rows = [row for row in run.history if "look/felt/distil/epoch" in row]
    values = [(row["look/felt/distil/epoch"], row["look/felt/distil/felt/image_auroc"]) for row in rows]
    assert values == [(2, 0.25), (4, 0.5)]


def test_pictures_are_a_table_with_their_rows(run):
    table, _ = run.table("pictures/felt")
    assert table["columns"] == ["image", "mask", "map", "outlines", "kind", "defect", "name", "score"]
    assert [row[4:] for row in table["data"]] == [["worst", "cut", "cut/007.png", 1.25]]


def test_pictures_are_the_parts_of_the_strip(run):
    table, files = run.table("pictures/felt")
    for part, colour in zip(table["data"][0][:4], COLOURS.values(), strict=True):
        with Image.open(files[part["path"]]) as picture:
            assert picture.convert("RGB").getcolors() == [(SIDE * SIDE, colour)]


def test_curve_is_a_line_plot_of_a_table(run):
    table, _ = run.table("curves/felt/roc_table")
    assert table["columns"] == ["false positive rate", "true positive rate"]
    assert table["data"] == [[0, 0], [0.5, 0.75], [1, 1]]
    chart = run.config["_wandb"]["visualize"]["curves/felt/roc"]
    assert chart["panel_config"]["panelDefId"] == "wandb/line/v0"


def test_curve_that_is_not_available_is_not_logged(run):
    assert not [key for key in run.summary if "/pro" in key]


def test_checkpoint_is_an_artifact_with_metadata(run, folder):
    (model,) = run.artifacts["model"]
    assert (model.name, sorted(model.aliases)) == ("patchcore_lite0_224-felt", ["latest", f"run-{ID}"])
    assert '"learned_sha256":"ab12"' in model.metadata.replace(" ", "")
    checkpoint = folder / "checkpoint" / "felt"
    assert artifact_files(model) == {name: checkpoint / name for name in ("detector.json", "learned.safetensors")}


def test_exit_code_is_that_of_the_status(starts):
    assert [start.exit_code for start in starts] == [255, 1]


def test_all_staged_files_are_in_the_run_folder(folder, starts):
    artifacts = [artifact for start in starts for group in start.artifacts.values() for artifact in group]
    staged = [path for artifact in artifacts for path in artifact_files(artifact).values()]
    assert len(artifacts) == 2 * 3
    assert all(path.is_relative_to(folder) for path in staged)


# --- resuming --------------------------------------------------------------------------------------------------------


def test_resumed_run_has_the_same_id(starts):
    assert [start.run.run_id for start in starts] == [ID, ID]


def test_resumed_run_continues_the_history(starts):
    first, second = ([row["_step"] for row in start.history] for start in starts)
    assert first[-1] < second[0]


def test_all_starts_are_in_one_folder_that_one_command_sends(folder, starts):
    assert {start.folder.parent for start in starts} == {folder / "wandb"}


KILLED = """
import os, signal, sys, time
from pathlib import Path
import anoframe
from anoframe.config import to_plain
from anoframe.tracking.wandb import WandB

folder = Path(sys.argv[1])
cfg = anoframe.load_config("patchcore/patchcore_lite0_224.py")
tracker = WandB(cfg.wandb, folder, lambda event, **fields: None)
tracker.log("run", id="3f9a0c21", folder=str(folder), config=to_plain(cfg), resumed=False)
tracker.log("evaluated", category="felt", summary="fine", metrics={"image_auroc": 0.875})
deadline = time.monotonic() + 20
while time.monotonic() < deadline and max(path.stat().st_size for path in folder.rglob("*.wandb")) < 1000:
    time.sleep(0.05)
time.sleep(1.5)  # longer than the time whose data a kill may lose
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_data_logged_before_a_kill_is_kept(offline, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # has its own service
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=120, env={**environment, "WANDB_MODE": "offline"})
    assert done.returncode == -signal.SIGKILL
    (run,) = offline_runs(tmp_path, ended=False)
    assert (run.run.run_id, run.summary["test/felt/image_auroc"]) == (ID, 0.875)


def test_run_file_without_a_record_is_removed_at_the_next_start(start, tmp_path):
    (tmp_path / "wandb" / "offline-run-20260101_000000-3f9a0c21").mkdir(parents=True)
    empty = tmp_path / "wandb" / "offline-run-20260101_000000-3f9a0c21" / "run-3f9a0c21.wandb"
    empty.write_bytes(b":W&B\xe1\xbe\x00")
    start(WANDB_MODE="offline").close("finished")
    assert not empty.exists()
    assert len(offline_runs(tmp_path)) == 1


# --- without an account, without a network ---------------------------------------------------------------------------


def test_missing_account_is_one_warning_with_the_sync_command(start, recorder, tmp_path, capfd):
    start().close("finished")
    (text,) = recorder.texts()
    assert "no account" in text
    assert text.endswith(shlex.join(["wandb", "sync", str(tmp_path / "wandb")]))
    assert capfd.readouterr() == ("", "")
    assert len(offline_runs(tmp_path)) == 1


def test_rejected_login_is_one_warning(start, recorder, tmp_path, monkeypatch):
    def reject(**_):
        raise wandb.errors.AuthenticationError("Failed to authenticate with https://api.\nmore")

    monkeypatch.setattr(wandb, "login", reject)
    start().close("finished")
    (text,) = recorder.texts()
    assert "offline (Failed to authenticate with https://api)" in text
    assert len(offline_runs(tmp_path)) == 1


def test_rejected_run_is_one_warning(start, recorder, tmp_path, monkeypatch):
    init = wandb.init

    def reject(mode, **settings):
        if mode == "online":
            raise wandb.errors.CommError("entity nobody not found")
        return init(mode=mode, **settings)

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", reject)
    start().close("finished")
    (text,) = recorder.texts()
    assert "offline (entity nobody not found)" in text
    assert len(offline_runs(tmp_path)) == 1


def test_offline_mode_does_not_contact_the_service(start, recorder, monkeypatch):
    monkeypatch.setattr(wandb, "login", lambda **_: pytest.fail("tried to log in"))
    start(WANDB_MODE="offline").close("finished")
    (text,) = recorder.texts()
    assert "WANDB_MODE=offline" in text


def test_disabled_mode_is_one_warning_and_writes_no_file(start, recorder, tmp_path):
    tracker = start(WANDB_MODE="disabled")
    tracker.log("fit", name="felt", images=6)
    tracker.close("finished")
    (text,) = recorder.texts()
    assert "WANDB_MODE=disabled" in text
    assert list(tmp_path.iterdir()) == []


def test_environment_sets_values_that_the_config_leaves_open(start, tmp_path):
    names = {"WANDB_PROJECT": "wood", "WANDB_NAME": "monday", "WANDB_ENTITY": "team", "WANDB_DIR": "/nowhere"}
    start(WANDB_MODE="offline", **names).close("finished")
    (run,) = offline_runs(tmp_path)
    assert (run.run.project, run.run.display_name, run.run.entity) == ("wood", "monday", "team")


def test_config_has_priority_over_the_environment(start, tmp_path, cfg):
    section = cfg.wandb.copy_and_resolve_references()
    section.update(project="steel", name="tuesday", entity="us")
    names = {"WANDB_PROJECT": "wood", "WANDB_NAME": "monday", "WANDB_ENTITY": "team", "WANDB_RUN_ID": "other"}
    start(section, WANDB_MODE="offline", **names).close("finished")
    (run,) = offline_runs(tmp_path)
    assert (run.run.project, run.run.display_name, run.run.entity) == ("steel", "tuesday", "us")
    assert run.run.run_id == ID


@pytest.mark.parametrize("init", [None, lambda **_: 1 / 0], ids=["started", "failed"])
def test_environment_is_restored(cfg, offline, recorder, tmp_path, monkeypatch, init):
    if init is not None:
        monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers = Trackers(recorder, optional=[WandB(cfg.wandb, tmp_path, recorder.log)])
    trackers.log("run", id=ID, folder=str(tmp_path), config=to_plain(cfg), resumed=False)
    trackers.close("finished")
    assert "WANDB_DATA_DIR" not in os.environ


def test_checkpoints_are_not_logged_without_log_model(start, tmp_path, cfg):
    section = cfg.wandb.copy_and_resolve_references()
    section.log_model = False
    tracker = start(section, WANDB_MODE="offline")
    write_run(tmp_path / "run")
    tracker.log("checkpoint", fit="felt", folder=tmp_path / "run" / "checkpoint" / "felt", metadata={})
    tracker.close("finished")
    assert offline_runs(tmp_path)[0].artifacts == {}


# --- online, with a stand-in for the service -------------------------------------------------------------------------


class OnlineRun:
    """The attributes of `wandb.Run` that a start and an end use."""

    settings = SimpleNamespace(mode="online")
    url = "https://wandb.example/run"

    def __init__(self, error: Exception | None):
        self.summary: dict = {}
        self._error = error

    def finish(self, exit_code):
        if self._error is not None:
            raise self._error


@pytest.fixture
def online(monkeypatch):
    def accept(error=None):
        monkeypatch.setattr(tracking, "run_mode", lambda: ("online", ""))
        monkeypatch.setattr(wandb, "init", lambda **_: OnlineRun(error))

    return accept


def test_online_run_reports_its_address(online, start, recorder):
    online()
    start().close("finished")
    assert recorder.events == [("tracking", {"text": "Weights & Biases: https://wandb.example/run"})]


def test_upload_timeout_is_one_warning_with_the_sync_command(online, start, recorder, tmp_path):
    online(TimeoutError("Timed out finishing run."))
    start().close("finished")
    (text,) = recorder.texts()
    assert text.endswith(shlex.join(["wandb", "sync", "--include-online", str(tmp_path / "wandb")]))


def test_waiting_times_for_the_service_are_bounded(offline, start, monkeypatch):
    settings = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: settings.append(given["settings"]) or init(**given))
    start(WANDB_MODE="offline").close("finished")
    assert 0 < settings[0].init_timeout <= 60
    assert 0 < settings[0].finish_timeout <= 300


# --- failures --------------------------------------------------------------------------------------------------------


def test_events_before_the_run_event_are_ignored(cfg, recorder, tmp_path):
    tracker = WandB(cfg.wandb, tmp_path, recorder.log)
    tracker.log("fit", name="felt", images=6)
    tracker.close("failed")
    assert (recorder.events, list(tmp_path.iterdir())) == ([], [])


def test_failure_to_start_is_one_warning(offline, cfg, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb, "init", lambda **_: 1 / 0)
    write_run(tmp_path)
    trackers = open_trackers(cfg, tmp_path)
    log_run(trackers, tmp_path, cfg)
    trackers.close("finished")
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if "WandB" in line] == [
        "warning: tracking by WandB stopped: division by zero. The run is not affected"
    ]


def test_pictures_that_cannot_be_sent_are_one_warning_and_metrics_are_still_sent(start, recorder, tmp_path):
    tracker = start(WANDB_MODE="offline")
    recorder.events.clear()
    row = {"file": "gone.png", "kind": "worst", "defect": "cut", "name": "cut/007.png", "score": 1.25}
    for category in ("felt", "mesh"):
        tracker.log("pictures", category=category, folder=tmp_path, rows=[row])
        tracker.log("evaluated", category=category, summary="fine", metrics=METRICS)
    tracker.close("finished")
    (text,) = recorder.texts()
    assert "gone.png" in text
    (run,) = offline_runs(tmp_path)
    assert [run.summary[f"test/{category}/image_auroc"] for category in ("felt", "mesh")] == [0.875, 0.875]


# --- streams and methods ---------------------------------------------------------------------------------------------

ADDED = {1: [0, 5], 2: [], 3: [0, 1, 5, 7], 4: [6]}  # task -> layers that got one more adapter
COLUMNS = ["layer", "kind", "task", "pass", "batch", "min_z", "all_z"]


def summary_after(task: int) -> MethodSummary:
    """Summary of a method with one adapter in each of eight layers, which adds adapters in later tasks."""
    counts = [1 + sum(layer in ADDED[later] for later in range(1, task + 1)) for layer in range(8)]
    scalars = {"growth/total_adapters": sum(counts)}
    scalars |= {f"growth/layer_{layer}_ffn": count for layer, count in enumerate(counts)}
    z = {(1, 0): "[3.5]", (1, 5): "[4.75]", (3, 0): "[3.5, 5.5]"}
    rows = [
        [layer, "ffn", later, 0, layer % 2, 3.5 + 0.25 * layer, z.get((later, layer), "[]")]
        for later in range(1, task + 1)
        for layer in ADDED[later]
    ]
    return MethodSummary(scalars, [Table("expansions", "Expansions", COLUMNS, rows)] if rows else [])


@pytest.fixture(scope="module")
def streamed(offline, cfg, tmp_path_factory):
    """A stream of five tasks, read back."""
    folder = tmp_path_factory.mktemp("stream")
    tracker = open_trackers(cfg, folder)
    tracker.log("run", id=ID, folder=str(folder), config=to_plain(cfg))
    for task in range(5):
        tracker.log("method_summary", fit=f"task_0{task}", task=task, **summary_after(task).to_json())
        tracker.log("stream", results=stream_example(task + 1), summary="done")
    tracker.close("finished")
    (run,) = offline_runs(folder)
    return run


def test_stream_is_drawn_over_its_tasks(streamed):
    assert streamed.axes == {"continual/*": "continual/task", "growth/*": "growth/task"}


def test_stream_has_one_row_per_task_with_its_metrics(streamed):
    expected = [row["by_metric"]["image_auroc"] for row in stream_example()["cl_metrics"]]
    rows = [row for row in streamed.history if "continual/params_total" in row]
    assert [row["continual/task"] for row in rows] == [0, 1, 2, 3, 4]
    assert streamed.values("continual/image_auroc/acc") == [row["acc"] for row in expected]
    assert streamed.values("continual/image_auroc/fm") == [row["fm"] for row in expected[1:]]
    assert streamed.values("continual/params_total") == stream_example()["params_total"]


def test_matrices_of_a_stream_are_a_table_in_the_same_row(streamed):
    table, _ = streamed.table("continual/R")
    assert table["columns"] == ["after task", "task", "categories", *stream_example()["R"]]
    assert len(table["data"]) == 25
    assert table["data"][3][:4] == [0, 3, "cork, slate", stream_example()["R"]["image_auroc"][0][3]]
    assert len([row for row in streamed.history if "continual/R" in row and "continual/task" in row]) == 5


def test_table_of_a_method_is_logged_on_a_stream(streamed):
    table, _ = streamed.table("continual/expansions")
    assert table["columns"] == COLUMNS
    assert table["data"][2] == [0, "ffn", 3, 0, 0, 3.5, "[3.5, 5.5]"]
    rows = [row for row in streamed.history if "continual/expansions" in row]
    assert [(row["continual/task"], row["growth/task"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_scalars_of_a_method_are_logged_under_their_names_after_each_task(streamed):
    assert streamed.values("growth/task") == [0, 1, 2, 3, 4]
    assert streamed.values("growth/layer_0_ffn") == [1, 2, 2, 3, 3]
    assert streamed.values("growth/total_adapters") == [8, 10, 10, 14, 15]


def test_scalar_without_a_group_is_drawn_over_the_tasks_of_the_method(start, tmp_path):
    tracker = start(WANDB_MODE="offline")
    for task in range(2):
        tracker.log("method_summary", fit=f"task_0{task}", task=task, **MethodSummary({"size": task + 1}).to_json())
    tracker.close("finished")
    (run,) = offline_runs(tmp_path)
    assert (run.values("size"), run.values("method/task")) == ([1, 2], [0, 1])
    assert run.axes == {"size": "method/task"}


def test_summary_of_a_method_without_a_stream_has_no_axis(start, tmp_path):
    tracker = start(WANDB_MODE="offline")
    table = Table("coreset", "Coreset", ["level", "rows"], [["layer2", 12], [3, None]])
    summary = MethodSummary({"memory/rows": 12}, [table])
    tracker.log("method_summary", fit="felt", task=None, **summary.to_json())
    tracker.close("finished")
    (run,) = offline_runs(tmp_path)
    assert (run.values("memory/rows"), run.axes) == ([12], {})
    logged, _ = run.table("method/coreset")
    assert (logged["columns"], logged["data"]) == (["level", "rows"], [["layer2", 12], [3, None]])


def test_empty_summary_of_a_method_writes_no_row(start, tmp_path):
    tracker = start(WANDB_MODE="offline")
    tracker.log("method_summary", fit="task_00", task=0, **MethodSummary().to_json())
    tracker.close("finished")
    (run,) = offline_runs(tmp_path)
    assert run.history == []


def test_stream_whose_tables_cannot_be_sent_keeps_its_numbers(start, recorder, tmp_path, monkeypatch):
    tracker = start(WANDB_MODE="offline")
    monkeypatch.setattr(wandb, "Table", lambda **_: 1 / 0)
    tracker.log("method_summary", fit="task_04", task=4, **summary_after(4).to_json())
    tracker.log("stream", results=stream_example(), summary="done")
    tracker.close("finished")
    (run,) = offline_runs(tmp_path)
    assert [row["continual/task"] for row in run.history if "continual/params_total" in row] == [4]
    assert run.values("growth/total_adapters") == [15]
    assert len([text for text in recorder.texts() if "division by zero" in text]) == 1


def test_calibration_and_novelty_of_a_classifier_are_values_of_the_stream():
    novelty = {"energy": {"auroc": 0.75, "fpr95": 0.5}}
    results = {"ece": [0.2, 0.1], "category_top1": [0.9, 0.8], "novelty": [None, novelty]}
    expected = {"ece": 0.1, "category_top1": 0.8, "novelty/energy/auroc": 0.75, "novelty/energy/fpr95": 0.5}
    assert class_values(results) == expected
    assert class_values({"novelty": [novelty, None]}) == {}
    assert class_values({}) == {}
