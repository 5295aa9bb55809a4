"""A headless Chromium, driven over a pipe in its own protocol: nothing to install but the browser."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb --remote-debugging-pipe"
)
_PATIENCE = 60  # seconds, for a busy machine
_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, from $ANOFRAME_BROWSER or the usual names."""
    names = [os.environ.get("ANOFRAME_BROWSER", ""), *BROWSERS]
    return next((path for name in names if name and (path := shutil.which(name))), None)


class Browser:
    """One page. What it says on its console, and every error in it, gathers in `complaints`; requests in `requests`."""

    def __init__(self, program: str, profile: Path):
        down, self._write = os.pipe()
        self._read, up = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 100) for end in (down, up)]  # out of the way of 3 and 4
        for end in (down, up):
            os.close(end)

        def three_and_four() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS.split(), f"--user-data-dir={profile}"],
            preexec_fn=three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in theirs:
            os.close(end)
        self._count, self._buffer, self._session = 0, b"", ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE)
        os.close(self._write)
        os.close(self._read)

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """A file, as a person opens it: by its file address."""
        self.complaints.clear()
        self.requests.clear()
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._send("Emulation.setEmulatedMedia", features=[scheme, still])
        self._send("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"location.href === {json.dumps(path.resolve().as_uri())} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self._send("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key as the keyboard gives it, to whatever has the focus."""
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
        self._send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        extra: dict[str, Any] = {}
        if whole:
            size = self._send("Page.getLayoutMetrics")["cssContentSize"]
            extra = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        done = self._send("Page.captureScreenshot", format="png", **extra)
        path.write_bytes(base64.b64decode(done["data"]))

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._receive(lambda answer: answer.get("id") == number)

    def _receive(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._read], [], [], _PATIENCE)
                assert ready, "the browser does not answer"
                chunk = os.read(self._read, 1 << 20)
                assert chunk, "the browser has ended"
                self._buffer += chunk
            line, self._buffer = self._buffer.split(b"\0", 1)
            answer = json.loads(line)
            if wanted(answer):
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, facts = event.get("method"), event.get("params", {})
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(facts)[:500])
        elif method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
