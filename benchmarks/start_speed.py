"""Start-up time: import and `--help`, compared with anomalib.

    python benchmarks/start_speed.py --anomalib-python PY

Ours: `import anoframe`, the same with access to `anoframe.train` (which imports torch), `--help`. anomalib: the import
lines of its README, `anomalib --help`. Times of whole processes; run it on a machine with warm file caches.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from _rounds import Side, run_alternately, table, write_section

ANOMALIB_IMPORTS = (
    "from anomalib.data import MVTecAD; from anomalib.models import Patchcore; from anomalib.engine import Engine"
)


def read_nothing(output: str) -> dict[str, Any]:
    """The commands print no results: whole processes are timed."""
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, required=True, help="interpreter that has anomalib")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer = options.anomalib_python
    pairs = {
        "import": [
            Side("import anoframe", [sys.executable, "-c", "import anoframe"], read_nothing),
            Side(
                "anoframe with torch and timm", [sys.executable, "-c", "import anoframe; anoframe.train"], read_nothing
            ),
            Side("anomalib's README", [peer, "-c", ANOMALIB_IMPORTS], read_nothing),
        ],
        "help": [
            Side("anoframe --help", [sys.executable, "tools/main.py", "--help"], read_nothing),
            Side("anomalib --help", [str(Path(peer).with_name("anomalib")), "--help"], read_nothing),
        ],
    }
    tables = []
    for sides in pairs.values():
        run_alternately(sides, options.rounds)
        tables.append(table(sides))
    text = "\n\n".join(tables)
    print(text)
    write_section("start", text)


if __name__ == "__main__":
    main()
