"""Exact neighbours among the vectors of a file: the longest stage of all, so it is kept while it is under way.

Shapes: Q queries, K neighbours, R routed dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinsight import progress
from kinsight.data.vector_files import VectorFile
from kinsight.partition.space import Space
from kinsight.partition.truth import Sought, nearest_in_blocks
from kinsight.partition.work import Work


def nearest_rows(
    work: Work,
    stage: str,
    source: VectorFile,
    space: Space,
    query_QR: Tensor,
    k: int,
    *,
    own_Q: Tensor | None = None,
    devices: Sequence[torch.device] = (),
    shown: str = "neighbours",
) -> Tensor:
    """`nearest_in_blocks` of all rows of `source` in `space`, under the name of the stage it is part of.

    Goes on where the same stage was stopped, some minutes lost at most. shown: its name beside the bar.
    """
    found = work.begun(stage)
    begun = None if found is None else Sought(int(found["rows"]), found["best"], found["row"])
    start = 0 if begun is None else begun.rows

    def keep(now: Sought) -> None:
        work.keep_begun(stage, {"rows": torch.tensor(now.rows), "best": now.best_QK, "row": now.row_QK})

    with progress.task(shown, len(source), "vectors") as task:
        task.skip_to(start)
        blocks = ((first, space.rows(torch.from_numpy(row_BD))) for first, row_BD in source.blocks(start=start))
        return nearest_in_blocks(
            query_QR, blocks, k, own_Q=own_Q, advance=task.advance, devices=devices, begun=begun, keep=keep
        )
