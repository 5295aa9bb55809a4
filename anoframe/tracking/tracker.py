"""Where what happens in a run is told: the console, `log.jsonl`, and whatever else a user turns on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from anoframe.utils.files import cannot_write

Status = Literal["finished", "failed", "interrupted"]


class Tracker(Protocol):
    """Takes events. A run gives each event to every tracker it has, and tells each how it ended."""

    def log(self, event: str, **fields: Any) -> None: ...

    def close(self, status: Status) -> None: ...


class Console:
    """Prints what a person wants to know while waiting; stays out of the way of progress bars.

    Of epochs that follow each other faster than they can be read it prints the first, the last, and one now and then.
    """

    def __init__(self) -> None:
        self._epoch_told = -math.inf  # when

    def log(self, event: str, **fields: Any) -> None:
        text = _SENTENCES.get(event)
        if text is None or (event == "epoch" and not self._is_due(fields["epoch"], fields["epochs"])):
            return
        tqdm.write(text.format(**fields))

    def _is_due(self, epoch: int, epochs: int) -> bool:
        """A slot of a task of few images is trained for a thousand epochs, each of them done at once."""
        now = time.monotonic()
        due = epoch in (1, epochs) or now - self._epoch_told >= _EPOCHS_APART
        if due:
            self._epoch_told = now
        return due

    def close(self, status: Status) -> None:
        """Nothing is held open."""


_EPOCHS_APART = 2.0  # seconds between lines that tell of epochs
_SENTENCES = {
    "run": "run {folder}",
    "tracking": "  {text}",
    "warning": "warning: {text}",
    "fit": "fit {name}: {images} normal images",
    "features": "  {text}",
    "forecast": "  {text}",
    "training_resumed": "  {fit}: training goes on at step {done} of its phase",
    "epoch": "  {phase} epoch {epoch}/{epochs}: {summary}, lr {lr:.2e}, {images_per_second:.1f} images/s, "
    "{data_seconds:.1f} s waiting, peak {memory}",
    "look": "  {phase} epoch {epoch}, on the test images: {summary}",
    "stage": "  {name:<10} {seconds:8.1f} s",
    "evaluated": "  {category}: {summary}",
    "stream": "{summary}",
    "expansion": "  {summary}",
    "growth": "  {summary}",
    "done": "fit {fit}: done before",
    "failed": "  {category} FAILED: {reason}",
}


class JsonLines:
    """One JSON object a line, with the time; readable while the run goes on.

    A file that is there already goes on. Where a kill has torn its last line, that line stays torn, alone.
    """

    def __init__(self, path: Path):
        self._path = path
        self._looked = False

    def log(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, default=str)
        start = "" if self._looked or _ends_whole(self._path) else "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{start}{line}\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._looked = True

    def close(self, status: Status) -> None:
        """Every line is on disk already."""


def _ends_whole(path: Path) -> bool:
    """Whether a file is missing, empty, or ends with a line break."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 1, 0))
            return file.read() in (b"", b"\n")
    except FileNotFoundError:
        return True


class Trackers:
    """Several as one.

    Args:
        trackers: what a run cannot do without; their errors are the run's.
        optional: one that raises is told once, as a warning, and gets no more events. The run goes on.
    """

    def __init__(self, *trackers: Tracker, optional: Sequence[Tracker] = ()):
        self._trackers = trackers
        self._optional = list(optional)
        self._broken: list[Tracker] = []

    def log(self, event: str, **fields: Any) -> None:
        for tracker in self._trackers:
            tracker.log(event, **fields)
        for tracker in tuple(self._optional):
            try:
                tracker.log(event, **fields)
            except Exception as error:  # whatever a tracking service comes up with
                self._optional.remove(tracker)
                self._broken.append(tracker)
                self._warn(tracker, "stopped", error)

    def close(self, status: Status) -> None:
        """Tell every tracker how the run ended. Those that broke are closed too, to let go of what they hold."""
        for tracker in self._broken:
            with suppress(Exception):  # it was told already
                tracker.close(status)
        for tracker in self._optional:
            try:
                tracker.close(status)
            except Exception as error:
                self._warn(tracker, "did not end well", error)
        for tracker in self._trackers:
            tracker.close(status)

    def _warn(self, tracker: Tracker, what: str, error: Exception) -> None:
        text = f"tracking by {type(tracker).__name__} {what}: {first_line(error)}. The run is not affected"
        for one in self._trackers:
            one.log("warning", text=text)


def first_line(error: Exception) -> str:
    """What an error says, as part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".: ")
