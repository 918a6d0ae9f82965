"""What a command line behind `kinsight compat` did, and flags that make a training short."""

import re
from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """Exit code, standard output and standard error."""

    code: int
    out: str
    err: str


Compat = Pai = Callable[..., Outcome]

SMALL = ["--image_shape=3,16,16"]
SHORT = [*SMALL, "--total_iter_num=2", "--display_iter_step=1", "--test_iter_step=2", "--save_iter_step=2"]


def trained(outcome: Outcome) -> Outcome:
    """Two steps were shown in the scripts' form, and one test."""
    assert outcome.code == 0, outcome.err
    lines = re.findall(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] trainbatch \d+, lr \S+, loss \S+", outcome.out, re.M)
    assert len(lines) == 2, outcome.out
    tested = re.findall(
        r"^\[[-\d]+ [:\d]+\] test_img_num 18, trainbatch 2, test_recall (\d\.\d{5})$", outcome.out, re.M
    )
    assert len(tested) == 1, outcome.out
    return outcome


def last(outcome: Outcome) -> str:
    """The last line that was printed."""
    return outcome.out.splitlines()[-1]
