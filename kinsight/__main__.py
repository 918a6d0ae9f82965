"""`python -m kinsight` is the command line."""

from kinsight.cli import main
from kinsight.parallel.leave import leave

leave(main())
