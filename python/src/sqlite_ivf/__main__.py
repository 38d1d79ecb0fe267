"""`python -m sqlite_ivf` is the command `sqlite-ivf`."""

import sys

from .cli import main

sys.exit(main())
