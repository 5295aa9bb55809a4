"""Events of a run on the console and in `log.jsonl`, and trackers that fail."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from anoframe.models.summary import MethodSummary
from anoframe.tracking.tracker import Console, JsonLines, Trackers


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_event_is_a_line_on_disk_at_once(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    for seed in (1, 2):
        log.log("fit", name="félt", seed=seed)
        last = read_log(tmp_path / "log.jsonl")[-1]
        assert (last["event"], last["name"], last["seed"]) == ("fit", "félt", seed)


def test_event_has_its_time(tmp_path):
    JsonLines(tmp_path / "log.jsonl").log("fit")
    assert read_log(tmp_path / "log.jsonl")[0]["time"] > 1.7e9


def test_value_of_an_unknown_type_is_written_as_text(tmp_path):
    JsonLines(tmp_path / "log.jsonl").log("run", folder=Path("runs"))
    assert read_log(tmp_path / "log.jsonl")[0]["folder"] == "runs"


def test_console_prints_main_events(capsys):
    Console().log("fit", name="felt", images=6)
    assert capsys.readouterr().out == "fit felt: 6 normal images\n"


def test_console_ignores_other_events(capsys):
    Console().log("whatever", name="felt")
    assert capsys.readouterr().out == ""


def test_braces_in_a_field_are_text(capsys):
    Console().log("warning", text="{felt}")
    assert capsys.readouterr().out == "warning: {felt}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_console_escapes_letters_that_it_does_not_have(monkeypatch, encoding):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding, write_through=True))
    Console().log("warning", text="切れ目 caf\udce9")
    assert content.getvalue().decode(encoding).rstrip() in (
        "warning: \\u5207\\u308c\\u76ee caf\\udce9",
        "warning: 切れ目 caf\\udce9",
    )


class Closed(io.StringIO):
    """A pipe whose reader has ended."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stream", [Closed(), None])
def test_console_that_is_closed_raises_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    Console().log("warning", text="felt")


def test_name_that_is_not_utf8_is_logged(tmp_path):
    JsonLines(tmp_path / "log.jsonl").log("warning", text="caf\udce9.png")
    assert read_log(tmp_path / "log.jsonl")[0]["text"] == "caf\udce9.png"


def test_console_prints_a_failed_category(capsys):
    Console().log("failed", category="felt", reason="no test images")
    assert capsys.readouterr().out == "  felt FAILED: no test images\n"


def test_console_prints_metrics_during_training(capsys):
    Console().log("look", fit="felt", phase="student", epoch=2, metrics={}, summary="image_auroc 98.00")
    assert capsys.readouterr().out == "  student epoch 2, on the test images: image_auroc 98.00\n"


def test_console_prints_the_method_and_the_results_of_a_task(capsys):
    summary = MethodSummary({"growth/total_adapters": 9}, message="9 adapters at 8 sites")
    Console().log("method_message", text="task 1 adds an adapter at layer 3 ffn (z 3.25)")
    Console().log("method_summary", fit="task_01", task=1, **summary.to_json())
    Console().log("stream", results={}, summary="after task 1 of 0 to 4: aupro 91.20 (ACC)")
    assert capsys.readouterr().out.splitlines() == [
        "  task 1 adds an adapter at layer 3 ffn (z 3.25)",
        "  9 adapters at 8 sites",
        "after task 1 of 0 to 4: aupro 91.20 (ACC)",
    ]


def test_console_prints_nothing_for_a_method_without_a_message(capsys):
    Console().log("method_summary", fit="felt", task=None, **MethodSummary().to_json())
    assert capsys.readouterr().out == ""


def test_fast_epochs_are_printed_every_few_seconds(capsys, monkeypatch):
    """A thousand epochs in ten seconds, then three of a minute each."""
    times = iter([0.01 * epoch for epoch in range(1000)] + [60.0, 120.0, 180.0])
    monkeypatch.setattr("anoframe.tracking.tracker.time.monotonic", lambda: next(times))
    console, rest = Console(), {"summary": "mse 1", "lr": 0.1, "images_per_second": 9.0, "data_seconds": 0.0}
    for phase, epochs in (("adapter", 1000), ("descriptor", 3)):
        for epoch in range(1, epochs + 1):
            console.log("epoch", phase=phase, epoch=epoch, epochs=epochs, memory="1 GB", **rest)
    printed = [line.split(":")[0].split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert printed == [*(f"{epoch}/1000" for epoch in (1, 201, 401, 601, 801, 1000)), "1/3", "2/3", "3/3"]


@pytest.mark.parametrize("torn", ['{"event": "old"}\n{"event": "to', '{"event": "old"}\n{"event": "fél'])
def test_line_that_a_kill_left_incomplete_is_not_changed(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_bytes(torn.encode()[:-1])
    log = JsonLines(path)
    for name in ("felt", "mesh"):
        log.log("fit", name=name)
    first, incomplete, *new = path.read_bytes().splitlines()
    assert (first, incomplete) == tuple(torn.encode()[:-1].splitlines())
    assert [json.loads(line)["name"] for line in new] == ["felt", "mesh"]


@pytest.mark.parametrize("content", ["", '{"event": "old"}\n'])
def test_existing_log_is_continued(tmp_path, content):
    path = tmp_path / "log.jsonl"
    path.write_text(content, encoding="utf-8")
    JsonLines(path).log("fit")
    assert [entry["event"] for entry in read_log(path)] == ["old", "fit"][not content :]


def test_every_tracker_gets_every_event(tmp_path):
    Trackers(*(JsonLines(tmp_path / name) for name in ("a", "b"))).log("fit")
    assert [one["event"] for name in ("a", "b") for one in read_log(tmp_path / name)] == ["fit", "fit"]


def test_every_tracker_gets_the_status_at_the_end(recorder):
    Trackers(recorder, optional=[recorder]).close("interrupted")
    assert recorder.events == [("close", {"status": "interrupted"})] * 2


# --- trackers that fail ----------------------------------------------------------------------------------------------


class Failing:
    """A tracker that raises at an event, or at `close`."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.events: list[str] = []

    def log(self, event, **fields):
        self.events.append(event)
        if event == self.at:
            raise RuntimeError("disk of the service is full\nand more")

    def close(self, status):
        self.log("close")


def test_failing_tracker_is_reported_once_and_gets_no_more_events(recorder):
    failing = Failing("fit")
    trackers = Trackers(recorder, optional=[failing])
    for event in ("run", "fit", "evaluated"):
        trackers.log(event)
    assert failing.events == ["run", "fit"]
    assert recorder.texts() == ["tracking by Failing stopped: disk of the service is full. The run is not affected"]


def test_other_trackers_get_every_event_if_one_fails(recorder):
    second = type(recorder)()
    Trackers(recorder, optional=[Failing("fit"), second]).log("fit")
    assert [[event for event, _ in tracker.events] for tracker in (recorder, second)] == [["fit", "warning"], ["fit"]]


def test_failed_tracker_is_closed(recorder):
    failing = Failing("fit")
    trackers = Trackers(recorder, optional=[failing])
    trackers.log("fit")
    trackers.close("finished")
    assert failing.events == ["fit", "close"]


def test_failure_at_the_end_is_reported(recorder):
    Trackers(recorder, optional=[Failing("close")]).close("finished")
    (text,) = recorder.texts()
    assert text.startswith("tracking by Failing failed at the end: disk of the service is full")


def test_failure_of_a_required_tracker_is_an_error_of_the_run(recorder):
    with pytest.raises(RuntimeError):
        Trackers(Failing("fit"), optional=[recorder]).log("fit")


def test_keyboard_interrupt_in_a_tracker_stops_the_run(recorder):
    class Interrupting(Failing):
        def log(self, event, **fields):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers(recorder, optional=[Interrupting("fit")]).log("fit")


# --- log of a run ----------------------------------------------------------------------------------------------------


def test_log_has_the_run_from_start_to_end(finished):
    events = [entry["event"] for entry in read_log(finished.folder / "log.jsonl")]
    assert (events[0], events[-1]) == ("run", "finished")
    assert [event for event in events if event in ("fit", "evaluated")] == ["fit", "evaluated"] * 2


def test_log_has_the_metrics(finished):
    events = read_log(finished.folder / "log.jsonl")
    metrics = {event["category"]: event["metrics"] for event in events if event["event"] == "evaluated"}
    assert metrics == finished.metrics
