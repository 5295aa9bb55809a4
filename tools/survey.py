"""Compare encoders, from a checkout: `python tools/survey.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.survey.cli import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
