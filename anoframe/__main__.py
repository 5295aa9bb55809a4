"""Run the command line with `python -m anoframe`."""

import sys

from anoframe.cli import main

sys.exit(main())
