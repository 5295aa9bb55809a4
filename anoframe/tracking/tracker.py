"""Trackers: receivers of the events of a run. The console and `log.jsonl` are always on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from anoframe.utils.files import write_error
from anoframe.utils.progress import print_line

Status = Literal["finished", "failed", "interrupted"]


class Tracker(Protocol):
    """Receiver of events. A run passes every event to all of its trackers, and its status at the end."""

    def log(self, event: str, **fields: Any) -> None: ...

    def close(self, status: Status) -> None: ...


_SECONDS_BETWEEN_EPOCHS = 2.0  # minimum between two lines about epochs
_LINES = {  # event -> line on the console; other events print nothing
    "run": "run {folder}",
    "tracking": "  {text}",
    "warning": "warning: {text}",
    "fit": "fit {name}: {images} normal images",
    "supervised_fit": "fit {name}: {images} images, {defects} of them defects",
    "class_fit": "fit {name}: {images} new images, {exemplars} exemplars",
    "features": "  {text}",
    "forecast": "  {text}",
    "training_resumed": "  {fit}: training continues at step {done} of its phase",
    "epoch": "  {phase} epoch {epoch}/{epochs}: {summary}, lr {lr:.2e}, {images_per_second:.1f} images/s, "
    "{data_seconds:.1f} s waiting, peak {memory}",
    "look": "  {phase} epoch {epoch}, on the test images: {summary}",
    "stage": "  {name:<10} {seconds:8.1f} s",
    "evaluated": "  {category}: {summary}",
    "stream": "{summary}",
    "method_message": "  {text}",
    "method_summary": "  {message}",
    "done": "fit {fit}: already finished",
    "failed": "  {category} FAILED: {reason}",
}


class Console:
    """Print the main events, without breaking progress bars. A console that cannot print ends no run.

    If epochs are too fast to read, only the first, the last, and one every few seconds are printed.
    """

    def __init__(self) -> None:
        self._last_epoch_time = -math.inf

    def log(self, event: str, **fields: Any) -> None:
        line = _LINES.get("supervised_fit" if event == "fit" and fields.get("defects") else event)
        if line is None or (event == "method_summary" and not fields["message"]):
            return
        if event == "epoch" and not self._is_due(fields["epoch"], fields["epochs"]):
            return
        print_line(line.format(**fields))

    def _is_due(self, epoch: int, epochs: int) -> bool:
        """Whether to print an epoch: a task of few images has a thousand epochs of a few milliseconds each."""
        now = time.monotonic()
        due = epoch in (1, epochs) or now - self._last_epoch_time >= _SECONDS_BETWEEN_EPOCHS
        if due:
            self._last_epoch_time = now
        return due

    def close(self, status: Status) -> None:
        """Do nothing: the console holds no resource."""


class JsonLines:
    """Write each event as one line of JSON with its time; the file can be read during the run.

    An existing file is continued. A last line that a kill left incomplete stays as it is, and new events start on a new
    line.
    """

    def __init__(self, path: Path):
        self._path = path
        self._has_written = False

    def log(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, default=str)
        start = "" if self._has_written or _ends_with_line_break(self._path) else "\n"
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{start}{line}\n")
        except OSError as error:
            raise write_error(self._path, error) from error
        self._has_written = True

    def close(self, status: Status) -> None:
        """Do nothing: every line is on disk already."""


def _ends_with_line_break(path: Path) -> bool:
    """Whether a file ends with a line break; also True for a missing or empty file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 1, 0))
            return file.read() in (b"", b"\n")
    except FileNotFoundError:
        return True


class Trackers:
    """Pass events to several trackers.

    Args:
        trackers: required trackers; their errors end the run.
        optional: trackers that cannot end the run: one that raises is reported once as a warning and gets no more
            events.
    """

    def __init__(self, *trackers: Tracker, optional: Sequence[Tracker] = ()):
        self._trackers = trackers
        self._optional = list(optional)
        self._broken: list[Tracker] = []

    def log(self, event: str, **fields: Any) -> None:
        """Pass an event to every tracker."""
        for tracker in self._trackers:
            tracker.log(event, **fields)
        for tracker in tuple(self._optional):
            try:
                tracker.log(event, **fields)
            except Exception as error:  # a tracking service may raise anything
                self._optional.remove(tracker)
                self._broken.append(tracker)
                self._warn(tracker, "stopped", error)

    def close(self, status: Status) -> None:
        """Close every tracker with the status of the run; also those that raised, so that they free their resources."""
        for tracker in self._broken:
            with suppress(Exception):  # reported already
                tracker.close(status)
        for tracker in self._optional:
            try:
                tracker.close(status)
            except Exception as error:
                self._warn(tracker, "failed at the end", error)
        for tracker in self._trackers:
            tracker.close(status)

    def _warn(self, tracker: Tracker, problem: str, error: Exception) -> None:
        text = f"tracking by {type(tracker).__name__} {problem}: {first_line(error)}. The run is not affected"
        for required in self._trackers:
            required.log("warning", text=text)


def first_line(error: Exception) -> str:
    """Return the first line of an error message, without its full stop, for use inside a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".: ")
