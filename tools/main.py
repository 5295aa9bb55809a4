"""The door of a checkout; `anoframe` is the same door once installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.cli import main

sys.exit(main())
