"""Events of a run, on the console and in `log.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anoframe.tracking.tracker import Console, JsonLines, Trackers


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_event_is_a_line_that_is_there_at_once(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    for seed in (1, 2):
        log.log("fit", name="félt", seed=seed)
        assert [(one["event"], one["name"], one["seed"]) for one in lines(tmp_path / "log.jsonl")][-1] == (
            "fit",
            "félt",
            seed,
        )


def test_an_event_has_its_time(tmp_path):
    JsonLines(tmp_path / "log.jsonl").log("fit")
    assert lines(tmp_path / "log.jsonl")[0]["time"] > 1.7e9


def test_what_json_does_not_know_is_text(tmp_path):
    JsonLines(tmp_path / "log.jsonl").log("run", folder=Path("runs"))
    assert lines(tmp_path / "log.jsonl")[0]["folder"] == "runs"


def test_the_console_tells_what_a_person_wants_to_know(capsys):
    Console().log("fit", name="felt", images=6)
    assert capsys.readouterr().out == "fit felt: 6 normal images\n"


def test_the_console_keeps_quiet_about_the_rest(capsys):
    Console().log("whatever", name="felt")
    assert capsys.readouterr().out == ""


def test_braces_in_a_name_are_text(capsys):
    Console().log("warning", text="{felt}")
    assert capsys.readouterr().out == "warning: {felt}\n"


def test_the_console_tells_of_a_category_that_failed(capsys):
    Console().log("failed", category="felt", reason="no test images")
    assert capsys.readouterr().out == "  felt FAILED: no test images\n"


def test_the_console_tells_what_a_look_found(capsys):
    Console().log("look", fit="felt", phase="student", epoch=2, metrics={}, summary="image_auroc 98.00")
    assert capsys.readouterr().out == "  student epoch 2, on the test images: image_auroc 98.00\n"


def test_the_console_has_a_line_a_task_of_a_stream(capsys):
    Console().log("growth", task=1, growth={}, summary="9 adapters at 8 sites")
    Console().log("stream", results={}, summary="after task 1 of 0 to 4: aupro 91.20 (ACC)")
    assert capsys.readouterr().out == "  9 adapters at 8 sites\nafter task 1 of 0 to 4: aupro 91.20 (ACC)\n"


def test_epochs_that_fly_past_are_told_now_and_then(capsys, monkeypatch):
    """A thousand of them in ten seconds, then three that take a minute each."""
    clock = iter([0.01 * epoch for epoch in range(1000)] + [60.0, 120.0, 180.0])
    monkeypatch.setattr("anoframe.tracking.tracker.time.monotonic", lambda: next(clock))
    console, rest = Console(), {"summary": "mse 1", "lr": 0.1, "images_per_second": 9.0, "data_seconds": 0.0}
    for phase, epochs in (("adapter", 1000), ("descriptor", 3)):
        for epoch in range(1, epochs + 1):
            console.log("epoch", phase=phase, epoch=epoch, epochs=epochs, memory="1 GB", **rest)
    told = [line.split(":")[0].split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert told == [*(f"{epoch}/1000" for epoch in (1, 201, 401, 601, 801, 1000)), "1/3", "2/3", "3/3"]


@pytest.mark.parametrize("torn", ['{"event": "old"}\n{"event": "to', '{"event": "old"}\n{"event": "fél'])
def test_a_line_that_a_kill_has_torn_is_left_alone(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_bytes(torn.encode()[:-1])
    log = JsonLines(path)
    for name in ("felt", "mesh"):
        log.log("fit", name=name)
    first, rest, *new = path.read_bytes().splitlines()
    assert (first, rest) == tuple(torn.encode()[:-1].splitlines())
    assert [json.loads(line)["name"] for line in new] == ["felt", "mesh"]


@pytest.mark.parametrize("whole", ["", '{"event": "old"}\n'])
def test_a_whole_file_goes_on(tmp_path, whole):
    path = tmp_path / "log.jsonl"
    path.write_text(whole, encoding="utf-8")
    JsonLines(path).log("fit")
    assert [one["event"] for one in lines(path)] == ["old", "fit"][not whole :]


def test_several_trackers_get_every_event(tmp_path):
    Trackers(*(JsonLines(tmp_path / name) for name in ("a", "b"))).log("fit")
    assert [one["event"] for name in ("a", "b") for one in lines(tmp_path / name)] == ["fit", "fit"]


def test_several_trackers_are_told_the_end(told):
    Trackers(told, optional=[told]).close("interrupted")
    assert told.events == [("close", {"status": "interrupted"})] * 2


# --- trackers that break ---------------------------------------------------------------------------------------------


class Broken:
    """Breaks at an event, or at the end."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.got: list[str] = []

    def log(self, event, **fields):
        self.got.append(event)
        if event == self.at:
            raise RuntimeError("disk of the service is full\nand more")

    def close(self, status):
        self.log("close")


def test_a_tracker_that_breaks_is_told_once_and_gets_no_more(told):
    broken = Broken("fit")
    trackers = Trackers(told, optional=[broken])
    for event in ("run", "fit", "evaluated"):
        trackers.log(event)
    assert broken.got == ["run", "fit"]
    assert told.texts() == ["tracking by Broken stopped: disk of the service is full. The run is not affected"]


def test_the_others_get_every_event_when_one_breaks(told):
    beside = type(told)()
    Trackers(told, optional=[Broken("fit"), beside]).log("fit")
    assert [[event for event, _ in one.events] for one in (told, beside)] == [["fit", "warning"], ["fit"]]


def test_a_tracker_that_broke_is_closed(told):
    broken = Broken("fit")
    trackers = Trackers(told, optional=[broken])
    trackers.log("fit")
    trackers.close("finished")
    assert broken.got == ["fit", "close"]


def test_a_tracker_that_breaks_at_the_end_is_told(told):
    Trackers(told, optional=[Broken("close")]).close("finished")
    (text,) = told.texts()
    assert text.startswith("tracking by Broken did not end well: disk of the service is full")


def test_a_log_that_cannot_be_written_is_an_error_of_the_run(told):
    with pytest.raises(RuntimeError):
        Trackers(Broken("fit"), optional=[told]).log("fit")


def test_ctrl_c_in_a_tracker_stops_the_run(told):
    class Pressed(Broken):
        def log(self, event, **fields):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers(told, optional=[Pressed("fit")]).log("fit")


# --- of a run --------------------------------------------------------------------------------------------------------


def test_the_log_of_a_run_tells_it_from_start_to_end(finished):
    events = [one["event"] for one in lines(finished.folder / "log.jsonl")]
    assert (events[0], events[-1]) == ("run", "finished")
    assert [event for event in events if event in ("fit", "evaluated")] == ["fit", "evaluated"] * 2


def test_the_log_of_a_run_has_its_metrics(finished):
    told = {
        one["category"]: one["metrics"] for one in lines(finished.folder / "log.jsonl") if one["event"] == "evaluated"
    }
    assert told == finished.metrics
