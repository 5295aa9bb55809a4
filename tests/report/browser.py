"""A headless Chromium, controlled through its DevTools protocol over pipes, without further packages."""

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
_TIMEOUT = 60  # seconds; enough for a busy machine
_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Home": 36, "End": 35}


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome, from $ANOFRAME_BROWSER or the usual names."""
    names = [os.environ.get("ANOFRAME_BROWSER", ""), *BROWSERS]
    return next((path for name in names if name and (path := shutil.which(name))), None)


class Browser:
    """A browser with one page.

    Args:
        program: path of the browser.
        profile: empty folder for its profile.

    Attributes:
        complaints: console messages and errors of the page.
        requests: addresses that the page has requested.
    """

    def __init__(self, program: str, profile: Path):
        child_read, self._write = os.pipe()
        self._read, child_write = os.pipe()
        # the browser reads from descriptor 3 and writes to 4; first move the pipes to numbers that are not in the way
        child_ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 100) for end in (child_read, child_write)]
        for end in (child_read, child_write):
            os.close(end)

        def use_descriptors_3_and_4() -> None:
            os.dup2(child_ends[0], 3)
            os.dup2(child_ends[1], 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS.split(), f"--user-data-dir={profile}"],
            preexec_fn=use_descriptors_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in child_ends:
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
        self._process.wait(_TIMEOUT)
        os.close(self._write)
        os.close(self._read)

    def open(
        self,
        path: Path,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        smooth: bool = False,
        fragment: str = "",
    ) -> None:
        """Open a file by its `file:` address, and wait until it is loaded; `smooth` lets it scroll smoothly.

        `fragment` is the part of the address from "#" on. It has no effect on a page that is already open.
        """
        address = path.resolve().as_uri() + fragment
        self.complaints.clear()
        self.requests.clear()
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "no-preference" if smooth else "reduce"}
        self._send("Emulation.setEmulatedMedia", features=[scheme, motion])
        self._send("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        response = self._send("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        if "exceptionDetails" in response:
            raise AssertionError(response["exceptionDetails"])
        return response["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _TIMEOUT
        while not self._holds(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(f"!!({condition})"))
        except AssertionError:  # the page is being loaded again: elements are missing, or its script context has gone
            return False

    def press(self, key: str) -> None:
        """Press and release a key; the focused element gets it."""
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
        self._send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def move(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window, in CSS pixels."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="none")

    def click(self, x: float, y: float) -> None:
        """Click on a point of the window, in CSS pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        options: dict[str, Any] = {}
        if whole:
            size = self._send("Page.getLayoutMetrics")["cssContentSize"]
            options = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        response = self._send("Page.captureScreenshot", format="png", **options)
        path.write_bytes(base64.b64decode(response["data"]))

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._receive(lambda response: response.get("id") == number)

    def _receive(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read messages until the wanted response; note the events before it."""
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._read], [], [], _TIMEOUT)
                assert ready, "the browser does not answer"
                chunk = os.read(self._read, 1 << 20)
                assert chunk, "the browser has exited"
                self._buffer += chunk
            line, self._buffer = self._buffer.split(b"\0", 1)
            message = json.loads(line)
            if is_wanted(message):
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, facts = event.get("method"), event.get("params", {})
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(facts)[:500])
        elif method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
