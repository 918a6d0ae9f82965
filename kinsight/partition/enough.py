"""How many lists, and vectors held out, there can be; what is too little to learn from."""

import math

from kinsight.data.vector_files import VectorFile
from kinsight.errors import DataError, SpecError
from kinsight.specs.partition import MlpRouter, PartitionSpec

FEW_PER_LIST = 8
"""Vectors."""
_FEWEST_HELD, _MOST_HELD = 100, 10_000


def held_of(spec: PartitionSpec, count: int) -> int:
    """How many of so many queries, or learn vectors, are held out."""
    wanted = max(_FEWEST_HELD, min(_MOST_HELD, count // 10)) if spec.held_out is None else spec.held_out
    return min(wanted, count // 2)


def refuse_few(spec: PartitionSpec, asked: VectorFile) -> None:
    """Raise where a step could not be made. asked: what routing is learned from, and measured on."""
    needed = "an mlp is normalised over the vectors of a step: 2 at least are needed"
    remedy = "set it to 2 at least, or router.kind to linear"
    learned_mlp = isinstance(spec.router, MlpRouter) and spec.fit.epochs > 0
    if learned_mlp and spec.fit.batch_size < 2:
        raise SpecError("partition.step", needed, field=f"fit.batch_size={spec.fit.batch_size}", remedy=remedy)
    if learned_mlp and spec.targets.sample < 2:
        raise SpecError("partition.step", needed, field=f"targets.sample={spec.targets.sample}", remedy=remedy)
    least = 2 + learned_mlp
    if len(asked) < least:
        raise DataError(
            "partition.few",
            f"holds {len(asked):,}: {least} at least are needed, of which half are held out",
            field=str(asked.place),
            remedy="give more of them; some thousand are usual",
        )


def decide_lists(spec: PartitionSpec, count: int) -> int:
    """How many lists so many vectors get. Raises SpecError for more than they fill, DataError for too few of any."""
    if count < 2 * FEW_PER_LIST:
        few = "1 vector is" if count == 1 else f"{count:,} vectors are"
        raise DataError(
            "partition.few",
            f"{few} too few: {2 * FEW_PER_LIST} at least are needed",
            field=f"vectors={spec.vectors}",
            remedy="learn from more vectors",
        )
    lists = spec.lists or max(2, min(round(4 * math.sqrt(count)), count // FEW_PER_LIST))
    if lists * FEW_PER_LIST > count:
        raise SpecError(
            "partition.lists",
            f"{count:,} vectors are too few for {lists:,} lists: {FEW_PER_LIST} are needed for each",
            field=f"lists={lists}",
            remedy=f"set lists to {count // FEW_PER_LIST:,} at most, or learn from more vectors",
        )
    return lists
