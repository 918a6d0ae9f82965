"""Top-1: whether the nearest vector in the lists that a query looks into is a true row.

The base is read in parts of 1 GB, a million rows at most; a part is held three times.

Shapes: Q queries, K true rows, N base vectors, P numbers of lists, S budgets of copies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data.vector_files import VectorFile
from kinsight.partition.seek import Best, Visits, best_in_block
from kinsight.partition.space import Space

_PART_BYTES, _PART_ROWS = 1 << 30, 1 << 20
Made = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Looking:
    """Who looks where. whole: where the nearest vector is the metric's. order_QL: int64, the first lists of each query,
    best first. probes: ascending.
    """

    base: VectorFile
    whole: Space
    query_QD: Tensor
    order_QL: Tensor
    probes: Sequence[int]
    device: torch.device


def parts(base: VectorFile) -> Iterator[tuple[int, int]]:
    """First row and the one behind the last of each part."""
    step = min(_PART_ROWS, max(1 << 16, _PART_BYTES // (4 * base.dim)))
    for start in range(0, len(base), step):
        yield start, min(start + step, len(base))


def rows_found(
    looking: Looking,
    budgets: int,
    entries: Callable[[slice], tuple[Tensor, ...]],
    *,
    stage: Callable[[str, Made], dict[str, Tensor]] = lambda _, made: made(),
    shown: str = "top-1",
) -> Tensor:
    """The row found for each query, number of lists and budget: int64 (Q, P, S), -1 for none.

    entries: of some rows, as `entries_of` gives them. stage: keeps what was made of a part, by its number.
    """
    base, whole, device = looking.base, looking.whole, looking.device
    query_QR = whole.queries(looking.query_QD).to(device)
    visits, shape = Visits.of(looking.order_QL, looking.probes), (len(looking.probes), budgets)
    best = Best.none(len(query_QR), *shape)
    with progress.task(shown, len(base), "vectors") as task:
        for number, (start, stop) in enumerate(parts(base)):

            def made(start: int = start, stop: int = stop) -> dict[str, Tensor]:
                row_BR = whole.rows(torch.from_numpy(base.take(np.arange(start, stop)))).to(device)
                each = best_in_block(query_QR, visits, row_BR, start, entries(slice(start, stop)), shape)
                return {"score": each.score_QPS, "row": each.row_QPS}

            kept = stage(f"{number:04}", made)
            best.take(Best(kept["score"], kept["row"]))
            task.advance(stop - start)
    return best.summed()


def hits(row_QPS: Tensor, truth_QK: Tensor) -> Tensor:
    """Whether rows found are true ones: bool (Q, P, S). truth_QK: int64, -1 for none."""
    return (row_QPS[..., None] == truth_QK[:, None, None, :]).any(3) & (row_QPS >= 0)
