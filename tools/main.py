"""Run the command line from a checkout; the same as `anoframe` once the package is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.cli import main

sys.exit(main())
