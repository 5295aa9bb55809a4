"""What Weights & Biases gets of a run: read back from the files of offline runs, written without a network."""

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
from wandb_files import files_of, offline_runs

import anoframe
from anoframe.config import to_plain
from anoframe.tracking import wandb as module
from anoframe.tracking.factory import open_trackers
from anoframe.tracking.tracker import Trackers
from anoframe.tracking.wandb import WandB

ID = "3f9a0c21"
SIDE = 24
COLOURS = {"image": (200, 30, 30), "mask": (255, 255, 255), "map": (40, 11, 84), "outlines": (0, 200, 83)}
METRICS = {"image_auroc": 0.875, "pixel_auroc": 0.75, "aupro": None}


@pytest.fixture(scope="module")
def cfg():
    changes = {"wandb.enable": True, "wandb.log_freq": 5, "wandb.tags": ("wood", "first")}
    return anoframe.load_config("patchcore/patchcore_lite0_224.py", changes)


def write_run(folder: Path) -> None:
    """What a run has in its folder when it tells of it: a checkpoint and a picture."""
    strip = np.full((SIDE, 4 * SIDE + 12, 3), 255, np.uint8)
    for place, colour in enumerate(COLOURS.values()):
        strip[:, place * (SIDE + 4) :][:, :SIDE] = colour
    home = folder / "pictures" / "felt"
    home.mkdir(parents=True)
    Image.fromarray(strip).save(home / "000.png")
    (folder / "checkpoint" / "felt").mkdir(parents=True)
    (folder / "checkpoint" / "felt" / "learned.safetensors").write_bytes(b"learned")
    (folder / "checkpoint" / "felt" / "detector.json").write_text("{}", encoding="utf-8")


def tell(tracker, folder: Path, cfg, resumed: bool = False) -> None:
    """One category from start to end, and one that fails."""
    tracker.log("run", id=ID, folder=str(folder), config=to_plain(cfg), resumed=resumed)
    tracker.log("warning", text="one defect lies outside the crop")
    tracker.log("fit", name="felt", images=6)
    for seconds, peak in ((1.5, 1000), (2.0, 3000)):
        tracker.log("stage", name="encode", seconds=seconds, peak_bytes=peak)
    for step in range(11):
        times = {"batch_seconds": 0.3, "data_seconds": 0.1, "optimisation_seconds": 0.2}
        losses = {"cosine": 1 / (1 + step), "total": 2.0}
        tracker.log("step", fit="felt", phase="distil", epoch=step // 4, step=step, losses=losses, lr=0.01, **times)
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
    """The folder of a run that was interrupted, resumed, and ended with a failed category."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "separate" / "felt+mesh" / "0"
    write_run(folder)
    for resumed, status in ((False, "interrupted"), (True, "failed")):
        trackers = open_trackers(cfg, folder)
        tell(trackers, folder, cfg, resumed)
        trackers.close(status)
        time.sleep(1)  # W&B names the folder of a start by the second
    return folder


@pytest.fixture(scope="module")
def starts(folder):
    return offline_runs(folder)


@pytest.fixture(scope="module")
def run(starts):
    """The first start, read back."""
    return starts[0]


@pytest.fixture
def start(offline, cfg, told, tmp_path, monkeypatch):
    """Starts a W&B run in an environment with some variables changed (None: removed), and gives the tracker."""
    opened = []

    def start(section=cfg.wandb, **variables):
        for name, value in {"WANDB_MODE": None, **variables}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        opened.append(WandB(section, tmp_path, told.log))
        opened[-1].log("run", id=ID, folder=str(tmp_path), config=to_plain(cfg), resumed=False)
        return opened[-1]

    yield start
    for tracker in opened:
        tracker.close("finished")


# --- what is logged --------------------------------------------------------------------------------------------------


def test_the_run_has_what_the_config_says_of_it(run):
    assert (run.run.run_id, run.run.project, run.run.display_name) == (ID, "anoframe", "tiny/separate/felt+mesh/0")
    assert sorted(run.run.tags) == ["first", "wood"]


def test_the_config_is_the_resolved_one(run, cfg):
    logged = {name: value for name, value in run.config.items() if name != "_wandb"}
    assert logged == json.loads(json.dumps(to_plain(cfg)))


def test_metrics_of_a_category_and_their_mean_are_in_history_and_summary(run):
    for key in ("test/felt/image_auroc", "test/mean/image_auroc"):
        assert (run.values(key), run.summary[key]) == ([0.875], 0.875)


def test_a_metric_that_is_not_available_is_not_logged(run):
    assert not [key for key in run.summary if "aupro" in key]


def test_the_summary_tells_of_the_run(run):
    told = {"status": "interrupted", "seconds": 12.5, "fit/felt/images": 6, "failed/mesh": "no test images"}
    assert {key: run.summary[key] for key in told} == told
    assert run.summary["warnings"] == ["one defect lies outside the crop"]


def test_seconds_of_a_stage_add_up_beside_its_peak_memory(run):
    assert (run.summary["stage/encode/seconds"], run.summary["stage/encode/peak_bytes"]) == (3.5, 3000)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("step", [0, 5, 10]),
        ("epoch", [0, 1, 2]),
        ("lr", [0.01] * 3),
        ("loss/cosine", [1, 1 / 6, 1 / 11]),
        ("loss/total", [2.0] * 3),
        ("batch_seconds", [0.3] * 3),
        ("data_seconds", [0.1] * 3),
        ("optimisation_seconds", [0.2] * 3),
    ],
)
def test_a_step_is_logged_every_log_freq_steps(run, name, values):
    assert run.values(f"train/felt/distil/{name}") == values


def test_training_is_drawn_over_its_steps_and_looks_over_its_epochs(run):
    assert run.steps == {
        "train/felt/distil/*": "train/felt/distil/step",
        "look/felt/distil/*": "look/felt/distil/epoch",
    }


def test_a_look_is_logged_with_its_epoch(run):
    looks = [row for row in run.history if "look/felt/distil/epoch" in row]
    found = [(row["look/felt/distil/epoch"], row["look/felt/distil/felt/image_auroc"]) for row in looks]
    assert found == [(2, 0.25), (4, 0.5)]


def test_pictures_are_a_table_with_what_is_known_of_each(run):
    table, _ = run.table("pictures/felt")
    assert table["columns"] == ["image", "mask", "map", "outlines", "kind", "defect", "name", "score"]
    assert [row[4:] for row in table["data"]] == [["worst", "cut", "cut/007.png", 1.25]]


def test_pictures_are_the_parts_of_the_strip(run):
    table, files = run.table("pictures/felt")
    for part, colour in zip(table["data"][0][:4], COLOURS.values(), strict=True):
        with Image.open(files[part["path"]]) as picture:
            assert picture.convert("RGB").getcolors() == [(SIDE * SIDE, colour)]


def test_a_curve_is_a_line_plot_of_a_table(run):
    table, _ = run.table("curves/felt/roc_table")
    assert table["columns"] == ["false positive rate", "true positive rate"]
    assert table["data"] == [[0, 0], [0.5, 0.75], [1, 1]]
    chart = run.config["_wandb"]["visualize"]["curves/felt/roc"]
    assert chart["panel_config"]["panelDefId"] == "wandb/line/v0"


def test_a_curve_that_is_not_available_is_not_logged(run):
    assert not [key for key in run.summary if "/pro" in key]


def test_a_checkpoint_is_an_artifact_with_metadata(run, folder):
    (model,) = run.artifacts["model"]
    assert (model.name, sorted(model.aliases)) == ("patchcore_lite0_224-felt", ["latest", f"run-{ID}"])
    assert '"learned_sha256":"ab12"' in model.metadata.replace(" ", "")
    home = folder / "checkpoint" / "felt"
    assert files_of(model) == {name: home / name for name in ("detector.json", "learned.safetensors")}


def test_the_end_has_its_exit_code(starts):
    assert [one.exit_code for one in starts] == [255, 1]


def test_everything_lies_in_the_run_folder(folder, starts):
    artifacts = [artifact for one in starts for kind in one.artifacts.values() for artifact in kind]
    staged = [path for artifact in artifacts for path in files_of(artifact).values()]
    assert len(artifacts) == 2 * 3
    assert all(path.is_relative_to(folder) for path in staged)


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_same_run(starts):
    assert [one.run.run_id for one in starts] == [ID, ID]


def test_the_history_goes_on_where_it_was(starts):
    first, second = ([row["_step"] for row in one.history] for one in starts)
    assert first[-1] < second[0]


def test_one_command_sends_all_starts(folder, starts):
    assert {one.folder.parent for one in starts} == {folder / "wandb"}


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
time.sleep(1.5)  # longer than what a kill may cost
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_logged_before_a_kill_is_kept(offline, tmp_path):
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # with a service of its own
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=120, env={**alone, "WANDB_MODE": "offline"})
    assert done.returncode == -signal.SIGKILL
    (kept,) = offline_runs(tmp_path, ended=False)
    assert (kept.run.run_id, kept.summary["test/felt/image_auroc"]) == (ID, 0.875)


def test_a_start_that_was_killed_before_its_first_record_does_not_stand_in_the_way(start, tmp_path):
    (tmp_path / "wandb" / "offline-run-20260101_000000-3f9a0c21").mkdir(parents=True)
    empty = tmp_path / "wandb" / "offline-run-20260101_000000-3f9a0c21" / "run-3f9a0c21.wandb"
    empty.write_bytes(b":W&B\xe1\xbe\x00")
    start(WANDB_MODE="offline").close("finished")
    assert not empty.exists()
    assert len(offline_runs(tmp_path)) == 1


# --- without an account, without a network ---------------------------------------------------------------------------


def test_no_account_is_one_warning_with_the_command_to_send_the_run(start, told, tmp_path, capfd):
    start().close("finished")
    (text,) = told.texts()
    assert "no account" in text
    assert text.endswith(shlex.join(["wandb", "sync", str(tmp_path / "wandb")]))
    assert capfd.readouterr() == ("", "")
    assert len(offline_runs(tmp_path)) == 1


def test_a_service_that_refuses_or_is_not_there_is_one_warning(start, told, tmp_path, monkeypatch):
    def refuse(**_):
        raise wandb.errors.AuthenticationError("Failed to authenticate with https://api.\nmore")

    monkeypatch.setattr(wandb, "login", refuse)
    start().close("finished")
    (text,) = told.texts()
    assert "offline (Failed to authenticate with https://api)" in text
    assert len(offline_runs(tmp_path)) == 1


def test_a_service_that_does_not_take_the_run_is_one_warning(start, told, tmp_path, monkeypatch):
    init = wandb.init

    def refuse(mode, **settings):
        if mode == "online":
            raise wandb.errors.CommError("entity nobody not found")
        return init(mode=mode, **settings)

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", refuse)
    start().close("finished")
    (text,) = told.texts()
    assert "offline (entity nobody not found)" in text
    assert len(offline_runs(tmp_path)) == 1


def test_offline_by_the_environment_asks_no_service(start, told, monkeypatch):
    monkeypatch.setattr(wandb, "login", lambda **_: pytest.fail("asked for an account"))
    start(WANDB_MODE="offline").close("finished")
    (text,) = told.texts()
    assert "WANDB_MODE=offline" in text


def test_disabled_by_the_environment_is_one_warning_and_no_file(start, told, tmp_path):
    tracker = start(WANDB_MODE="disabled")
    tracker.log("fit", name="felt", images=6)
    tracker.close("finished")
    (text,) = told.texts()
    assert "WANDB_MODE=disabled" in text
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_what_the_config_leaves_open(start, tmp_path):
    names = {"WANDB_PROJECT": "wood", "WANDB_NAME": "monday", "WANDB_ENTITY": "team", "WANDB_DIR": "/nowhere"}
    start(WANDB_MODE="offline", **names).close("finished")
    (kept,) = offline_runs(tmp_path)
    assert (kept.run.project, kept.run.display_name, kept.run.entity) == ("wood", "monday", "team")


def test_the_config_comes_before_the_environment(start, tmp_path, cfg):
    section = cfg.wandb.copy_and_resolve_references()
    section.update(project="steel", name="tuesday", entity="us")
    names = {"WANDB_PROJECT": "wood", "WANDB_NAME": "monday", "WANDB_ENTITY": "team", "WANDB_RUN_ID": "other"}
    start(section, WANDB_MODE="offline", **names).close("finished")
    (kept,) = offline_runs(tmp_path)
    assert (kept.run.project, kept.run.display_name, kept.run.entity) == ("steel", "tuesday", "us")
    assert kept.run.run_id == ID


@pytest.mark.parametrize("init", [None, lambda **_: 1 / 0], ids=["started", "failed"])
def test_the_environment_is_left_as_it_was(cfg, offline, told, tmp_path, monkeypatch, init):
    if init is not None:
        monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers = Trackers(told, optional=[WandB(cfg.wandb, tmp_path, told.log)])
    trackers.log("run", id=ID, folder=str(tmp_path), config=to_plain(cfg), resumed=False)
    trackers.close("finished")
    assert "WANDB_DATA_DIR" not in os.environ


def test_models_stay_at_home_when_told_so(start, tmp_path, cfg):
    section = cfg.wandb.copy_and_resolve_references()
    section.log_model = False
    tracker = start(section, WANDB_MODE="offline")
    write_run(tmp_path / "run")
    tracker.log("checkpoint", fit="felt", folder=tmp_path / "run" / "checkpoint" / "felt", metadata={})
    tracker.close("finished")
    assert offline_runs(tmp_path)[0].artifacts == {}


# --- an account and a network, played by a stand-in ------------------------------------------------------------------


class OnlineRun:
    """As much of a `wandb.Run` as a start and an end need."""

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
        monkeypatch.setattr(module, "_mode", lambda: ("online", ""))
        monkeypatch.setattr(wandb, "init", lambda **_: OnlineRun(error))

    return accept


def test_online_the_user_is_told_where_to_look(online, start, told):
    online()
    start().close("finished")
    assert told.events == [("tracking", {"text": "Weights & Biases: https://wandb.example/run"})]


def test_uploads_that_take_too_long_are_one_warning_with_the_command_to_send_the_rest(online, start, told, tmp_path):
    online(TimeoutError("Timed out finishing run."))
    start().close("finished")
    (text,) = told.texts()
    assert text.endswith(shlex.join(["wandb", "sync", "--include-online", str(tmp_path / "wandb")]))


def test_the_run_waits_for_the_service_for_a_bounded_time(offline, start, monkeypatch):
    seen = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **asked: seen.append(asked["settings"]) or init(**asked))
    start(WANDB_MODE="offline").close("finished")
    assert 0 < seen[0].init_timeout <= 60
    assert 0 < seen[0].finish_timeout <= 300


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_before_a_run_there_is_nothing_to_log(cfg, told, tmp_path):
    tracker = WandB(cfg.wandb, tmp_path, told.log)
    tracker.log("fit", name="felt", images=6)
    tracker.close("failed")
    assert (told.events, list(tmp_path.iterdir())) == ([], [])


def test_a_tracker_that_fails_to_start_costs_one_warning(offline, cfg, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb, "init", lambda **_: 1 / 0)
    write_run(tmp_path)
    trackers = open_trackers(cfg, tmp_path)
    tell(trackers, tmp_path, cfg)
    trackers.close("finished")
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if "WandB" in line] == [
        "warning: tracking by WandB stopped: division by zero. The run is not affected"
    ]


def test_pictures_that_cannot_be_sent_cost_one_warning_and_no_metrics(start, told, tmp_path):
    tracker = start(WANDB_MODE="offline")
    told.events.clear()
    row = {"file": "gone.png", "kind": "worst", "defect": "cut", "name": "cut/007.png", "score": 1.25}
    for category in ("felt", "mesh"):
        tracker.log("pictures", category=category, folder=tmp_path, rows=[row])
        tracker.log("evaluated", category=category, summary="fine", metrics=METRICS)
    tracker.close("finished")
    (text,) = told.texts()
    assert "gone.png" in text
    (kept,) = offline_runs(tmp_path)
    assert [kept.summary[f"test/{category}/image_auroc"] for category in ("felt", "mesh")] == [0.875, 0.875]


# --- continual runs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def streamed(offline, cfg, tmp_path_factory):
    """A stream of five tasks, read back."""
    folder = tmp_path_factory.mktemp("stream")
    tracker = open_trackers(cfg, folder)
    tracker.log("run", id=ID, folder=str(folder), config=to_plain(cfg))
    for task in range(5):
        results = stream_example(task + 1)
        tracker.log("growth", task=task, growth={"adapter_stats": results["adapter_stats"][-1]}, summary="grown")
        tracker.log("stream", results=results, summary="kept")
    tracker.close("finished")
    (run,) = offline_runs(folder)
    return run


def test_a_stream_is_drawn_over_its_tasks(streamed):
    assert streamed.steps == {"continual/*": "continual/task", "growth/*": "growth/task"}


def test_a_stream_is_a_row_a_task_with_what_was_kept(streamed):
    whole = [one["by_metric"]["image_auroc"] for one in stream_example()["cl_metrics"]]
    assert streamed.values("continual/task") == [0, 1, 2, 3, 4]
    assert streamed.values("continual/image_auroc/acc") == [one["acc"] for one in whole]
    assert streamed.values("continual/image_auroc/fm") == [one["fm"] for one in whole[1:]]
    assert streamed.values("continual/params_total") == stream_example()["params_total"]


def test_the_matrices_of_a_stream_are_a_table_in_the_same_row(streamed):
    table, _ = streamed.table("continual/R")
    assert table["columns"] == ["after task", "task", "categories", *stream_example()["R"]]
    assert len(table["data"]) == 25
    assert table["data"][3][:4] == [0, 3, "cork, slate", stream_example()["R"]["image_auroc"][0][3]]
    assert len([row for row in streamed.history if "continual/R" in row and "continual/task" in row]) == 5


def test_expansions_are_a_table_with_z(streamed):
    table, _ = streamed.table("continual/expansions")
    assert table["columns"] == ["layer", "kind", "task", "pass", "batch", "min_z", "all_z"]
    assert table["data"][2] == [0, "ffn", 3, 0, 0, 3.5, "[3.5, 5.5]"]


def test_adapters_of_each_site_are_logged_after_each_task(streamed):
    assert streamed.values("growth/layer_0_ffn") == [1, 2, 2, 3, 3]
    assert streamed.values("growth/total_adapters") == [8, 10, 10, 14, 15]


def test_what_cannot_grow_has_no_row_of_growth(start, tmp_path):
    tracker = start(WANDB_MODE="offline")
    tracker.log("growth", task=0, growth={}, summary="")
    tracker.close("finished")
    (kept,) = offline_runs(tmp_path)
    assert kept.history == []


def test_a_stream_whose_tables_cannot_be_sent_keeps_its_numbers(start, told, tmp_path, monkeypatch):
    tracker = start(WANDB_MODE="offline")
    monkeypatch.setattr(wandb, "Table", lambda **_: 1 / 0)
    tracker.log("stream", results=stream_example(), summary="kept")
    tracker.close("finished")
    (kept,) = offline_runs(tmp_path)
    assert kept.values("continual/task") == [4]
    assert len([text for text in told.texts() if "division by zero" in text]) == 1
