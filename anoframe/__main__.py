"""`python -m anoframe` is the command line."""

import sys

from anoframe.cli import main

sys.exit(main())
