"""How long a user waits before anything happens: the import, the help, and what a wrong name says.

    python benchmarks/start_speed.py --anomalib-python PY

Ours: `import anoframe`, the same with `train` taken from it (which loads torch), `--help`. anomalib: the import lines
of its README, `anomalib --help`. Whole processes, best taken on a machine with warm file caches.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from _rounds import Side, alternate, keep, table

THEIRS = "from anomalib.data import MVTecAD; from anomalib.models import Patchcore; from anomalib.engine import Engine"


def nothing(output: str) -> dict[str, Any]:
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, required=True, help="interpreter that has anomalib")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer = options.anomalib_python
    pairs = {
        "import": [
            Side("import anoframe", [sys.executable, "-c", "import anoframe"], nothing),
            Side("anoframe with torch and timm", [sys.executable, "-c", "import anoframe; anoframe.train"], nothing),
            Side("anomalib's README", [peer, "-c", THEIRS], nothing),
        ],
        "help": [
            Side("anoframe --help", [sys.executable, "tools/main.py", "--help"], nothing),
            Side("anomalib --help", [str(Path(peer).with_name("anomalib")), "--help"], nothing),
        ],
    }
    parts = []
    for sides in pairs.values():
        alternate(sides, options.rounds)
        parts.append(table(sides))
    text = "\n\n".join(parts)
    print(text)
    keep("start", text)


if __name__ == "__main__":
    main()
