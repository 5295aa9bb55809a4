"""Check a dataset, from a checkout: `python tools/check_data.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.data.check_command import main

if __name__ == "__main__":
    sys.exit(main())
