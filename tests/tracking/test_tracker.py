"""Events of a run, on the console and in `log.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_several_trackers_get_every_event(tmp_path):
    Trackers(*(JsonLines(tmp_path / name) for name in ("a", "b"))).log("fit")
    assert [one["event"] for name in ("a", "b") for one in lines(tmp_path / name)] == ["fit", "fit"]


def test_the_log_of_a_run_tells_it_from_start_to_end(finished):
    events = [one["event"] for one in lines(finished.folder / "log.jsonl")]
    assert (events[0], events[-1]) == ("run", "finished")
    assert [event for event in events if event in ("fit", "evaluated")] == ["fit", "evaluated"] * 2


def test_the_log_of_a_run_has_its_metrics(finished):
    told = {
        one["category"]: one["metrics"] for one in lines(finished.folder / "log.jsonl") if one["event"] == "evaluated"
    }
    assert told == finished.metrics
