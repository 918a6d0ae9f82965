"""Documented command lines of other systems, translated into Kinsight's jobs: `kinsight compat SCRIPT --flag=value`.

Nothing here computes: a script's flags become a spec, the job runs, and what the script printed is printed.
"""

from kinsight.compat.command import run

__all__ = ["run"]
