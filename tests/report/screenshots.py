"""Take the pictures of docs/report.md again: `python tests/report/screenshots.py REPORT.html FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browser import Browser, find_browser
from PIL import Image

_MISSED = "[...document.querySelectorAll('.badge.bad')].find(one => one.textContent === 'missed').closest('figure')"
SHOTS = {  # name: width, height, dark, what to do first
    "report_verdict": (1180, 1240, False, ""),
    "report_zoom": (1180, 860, True, _MISSED),
    "report_narrow": (400, 860, False, ""),
}


def main(page: Path, folder: Path) -> None:
    program = find_browser()
    if program is None:
        sys.exit("error: no browser, set ANOFRAME_BROWSER to a Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        for name, (width, height, dark, figure) in SHOTS.items():
            browser.open(page, width, height, dark)
            if figure:
                browser.run(f"{figure}.querySelector('button').click()")
            browser.screenshot(folder / "shot.png")
            with Image.open(folder / "shot.png") as shot:
                shot.convert("RGB").save(folder / f"{name}.webp", quality=88, method=6)
            (folder / "shot.png").unlink()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
