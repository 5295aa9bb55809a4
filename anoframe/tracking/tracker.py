"""Where what happens in a run is told: the console, and `log.jsonl`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from anoframe.errors import AnoframeError
from anoframe.files import cannot_write


class Tracker(Protocol):
    """Takes events. A run gives each event to every tracker it has."""

    def log(self, event: str, **fields: Any) -> None: ...


class Console:
    """Prints what a person wants to know while waiting; stays out of the way of progress bars."""

    def log(self, event: str, **fields: Any) -> None:
        text = _SENTENCES.get(event)
        if text is not None:
            tqdm.write(text.format(**fields))


_SENTENCES = {
    "run": "run {folder}",
    "warning": "warning: {text}",
    "fit": "fit {name}: {images} normal images",
    "features": "  {text}",
    "forecast": "  {text}",
    "stage": "  {name:<10} {seconds:8.1f} s",
    "evaluated": "  {category}: {summary}",
}


class JsonLines:
    """One JSON object a line, with the time; readable while the run goes on."""

    def __init__(self, path: Path):
        self._path = path

    def log(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, default=str)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise AnoframeError(cannot_write(self._path, error)) from error


class Trackers:
    """Several as one."""

    def __init__(self, *trackers: Tracker):
        self._trackers = trackers

    def log(self, event: str, **fields: Any) -> None:
        for tracker in self._trackers:
            tracker.log(event, **fields)
