"""What a command line behind `kinsight compat` did."""

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """Exit code, standard output and standard error."""

    code: int
    out: str
    err: str


Compat = Callable[..., Outcome]
