"""Evaluate an encoder by classification, from a checkout: `python tools/evaluate_encoder.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.evaluate_encoder import main

if __name__ == "__main__":
    sys.exit(main())
