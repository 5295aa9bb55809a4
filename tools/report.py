"""Write a report again, or compare runs, from a checkout: `python tools/report.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.report.command import main

if __name__ == "__main__":
    sys.exit(main())
