"""Rows in parts, one a core."""

from collections.abc import Iterator
from threading import current_thread, main_thread

import pytest
import torch

from kinsight.neighbors.threads import in_parts


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_row_is_in_one_part_and_each_part_has_a_thread(threads: int) -> None:
    done: list[tuple[slice, int, bool]] = []
    in_parts(
        lambda here: done.append((here, torch.get_num_threads(), current_thread() is main_thread())), 1001, least=100
    )
    assert sorted(row for here, _, _ in done for row in range(here.start, here.stop)) == list(range(1001))
    assert [(inner, main) for _, inner, main in done] == [(1, False)] * threads
    assert torch.get_num_threads() == threads


def test_few_rows_are_one_part_that_has_all_threads(threads: int) -> None:
    done: list[tuple[slice, int]] = []
    in_parts(lambda here: done.append((here, torch.get_num_threads())), 100 * threads - 1, least=100)
    assert done == [(slice(0, 100 * threads - 1), threads)]


def test_what_goes_wrong_in_a_part_is_raised(threads: int) -> None:
    def work(here: slice) -> None:
        if here.stop == 1000:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        in_parts(work, 1000, least=100)
    in_parts(lambda here: None, 1000, least=100)  # and the threads are there for the next
