"""Take the screenshots of the documentation.

    python tests/report/screenshots.py REPORT.html docs       # docs/report.md: the report of `make demo`
    python tests/report/screenshots.py OUTPUT/grid.html docs  # docs/benchmark.md

The grid is of three demo categories and three seeds, with `patchcore/patchcore_lite0_224.py` at 64 pixels and without
thresholds, and with the same and `model.sigma = 1.0`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browser import Browser, find_browser
from PIL import Image

_MISSED = "[...document.querySelectorAll('.badge.bad')].find(badge => badge.textContent === 'missed').closest('figure')"
SCREENSHOTS = {  # name: width, height, dark, picture to enlarge
    "report_verdict": (1180, 1240, False, ""),
    "report_zoom": (1180, 860, True, _MISSED),
    "report_narrow": (400, 860, False, ""),
}
GRID_SCREENSHOTS = {"grid": (1220, 1300, False, "")}


def main(page: Path, folder: Path) -> None:
    program = find_browser()
    if program is None:
        sys.exit("error: no browser found, set ANOFRAME_BROWSER to a Chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        for name, (width, height, dark, figure) in (
            GRID_SCREENSHOTS if page.name == "grid.html" else SCREENSHOTS
        ).items():
            browser.open(page, width, height, dark)
            if figure:
                browser.run(f"{figure}.querySelector('button').click()")
            png = folder / f"{name}.png"
            browser.screenshot(png)
            with Image.open(png) as image:
                image.convert("RGB").save(folder / f"{name}.webp", quality=88, method=6)
            png.unlink()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
