"""How many lists, and vectors held out, there can be; what is too little, or too much alike, to learn from."""

import math

import numpy as np

from kinsight.data.vector_files import VectorFile
from kinsight.errors import DataError, SpecError
from kinsight.progress import warn
from kinsight.specs.partition import MlpRouter, PartitionSpec

FEW_PER_LIST = 8
"""Vectors."""
_AT_ONCE = 16_384
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


def refuse_alike(spec: PartitionSpec, vector_MD: np.ndarray, lists: int) -> None:
    """Raise DataError where vectors drawn, float32, are so often the same that lists would stay empty; warn where few
    differ.
    """
    distinct = _distinct(vector_MD)
    if distinct >= min(FEW_PER_LIST * lists, len(vector_MD)):
        return
    differ = "none differs from the others" if distinct == 1 else f"only {distinct:,} are distinct"
    said = f"of {len(vector_MD):,} vectors drawn {differ}"
    most = distinct // FEW_PER_LIST
    fewer = f"set lists to {most:,} at most" if most >= 2 else "use an index of kind flat, which needs no partition"
    if distinct < lists:
        raise DataError(
            "partition.alike",
            f"{said}: too few for {lists:,} lists",
            field=f"vectors={spec.vectors}",
            remedy=f"look for what made them alike, leave out repeated ones, or {fewer}",
        )
    warn(f"{said}, less than {FEW_PER_LIST} for each of {lists:,} lists: leave out repeated ones, or {fewer}")


def _distinct(vector_MD: np.ndarray) -> int:
    """How many different rows there are, by 64-bit sums that are the same for equal rows wherever they stand."""
    weight_D = np.random.default_rng(0).integers(0, 2**64, vector_MD.shape[1], dtype=np.uint64) | np.uint64(1)
    sums = []
    for start in range(0, len(vector_MD), _AT_ONCE):
        bits_BD = (vector_MD[start : start + _AT_ONCE] + np.float32(0)).view(np.uint32).astype(np.uint64)  # no -0
        bits_BD ^= bits_BD << np.uint64(23)
        sums.append((bits_BD * weight_D).sum(1, dtype=np.uint64))
    return len(np.unique(np.concatenate(sums)))


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
