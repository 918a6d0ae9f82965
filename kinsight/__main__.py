"""`python -m kinsight` is the command line."""

import sys

from kinsight.cli import main

sys.exit(main())
