"""Rows of one write: which segments they make up, and how a graph or lists take them in."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from kinsight import progress
from kinsight.indexing.files import open_npy
from kinsight.indexing.generation import Generation
from kinsight.indexing.header import Segment
from kinsight.indexing.index import Index
from kinsight.indexing.learned import Learned
from kinsight.indexing.spreading import spread
from kinsight.indexing.structures import Hnsw, Structure, prepared
from kinsight.indexing.tuning import tune
from kinsight.neighbors import Metric
from kinsight.neighbors.gallery import Gallery

_BLOCK = 16_384
_GROWN = 1.1
Blocks = Iterator[tuple[np.ndarray, pa.Table]]


def fill(structure: Structure, made: Generation, segment: Segment, dim: int, metric: Metric) -> Structure:
    """The structure trained and filled from the vectors just written, its settings found where they are to be."""
    if structure.num_train:
        row_M = _sample(segment.rows, structure.num_train, structure.settings)
        progress.say(f"training    on {len(row_M):,} vectors")
        vector_ND, norm_N = _written(made, segment, dim)
        structure.train(prepared(vector_ND[row_M], norm_N[row_M], metric))
    add_rows(structure, made, segment, dim, metric)
    if not isinstance(structure, Learned):
        return structure
    vector_ND, norm_N = _written(made, segment, dim)
    return tune(structure, Gallery([torch.from_numpy(vector_ND)], torch.from_numpy(norm_N), metric))


def add_rows(
    structure: Structure, made: Generation, segment: Segment, dim: int, metric: Metric, start: int = 0
) -> None:
    """Put the rows of a segment from `start` on into a structure, in their order."""
    vector_ND, norm_N = _written(made, segment, dim)
    step = 1024 if isinstance(structure, Hnsw) else _BLOCK  # a graph takes its time: the bar should move
    with progress.task("insert", segment.rows - start, "vectors") as task:
        for left in range(start, segment.rows, step):
            part_BD = vector_ND[left : left + step]
            structure.add(prepared(part_BD, norm_N[left : left + step], metric))
            task.advance(len(part_BD))
    if not isinstance(structure, Learned):
        return
    before = structure.num_rows - segment.rows

    def rows(first: int, stop: int) -> np.ndarray:
        here = slice(first - before, stop - before)
        return prepared(vector_ND[here], norm_N[here], metric)

    spread(structure, rows, before + start)


def tuned_again(structure: Structure, gallery: Gallery) -> Structure:
    """The structure, of a learned index that has grown by a tenth since its settings were found with new ones."""
    if not isinstance(structure, Learned) or structure.num_rows <= _GROWN * structure.settings.tuned_rows:
        return structure
    rows, then = structure.num_rows, structure.settings.tuned_rows
    progress.say(f"tuning      again: lists hold {rows:,} rows, deleted ones too; {then:,} when settings were found")
    return tune(structure, gallery)


def grown_gallery(index: Index, stays: int, made: Generation, segment: Segment, dead_M: np.ndarray) -> Gallery:
    """All vectors after a write: the first `stays` segments of the index, and the one just written."""
    header = index.header
    vector_ND, norm_N = _written(made, segment, header.dim)
    before = sum(part.rows for part in header.segments[:stays])
    live_N = torch.ones(before + segment.rows, dtype=torch.bool)
    live_N[torch.from_numpy(dead_M)] = False
    segments = [*index.gallery.segments[:stays], torch.from_numpy(vector_ND)]
    norms = torch.cat([index.gallery.norm_N[:before], torch.from_numpy(norm_N)])
    return Gallery(segments, norms, header.metric, live_N=live_N)


def _sample(count: int, wanted: int, settings: Any) -> np.ndarray:
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(settings.seed).choice(count, wanted, replace=False))


def _written(made: Generation, segment: Segment, dim: int) -> tuple[np.ndarray, np.ndarray]:
    vector_ND = open_npy(made.path(segment.vectors), np.float32, segment.rows, dim)
    return vector_ND.numpy(), open_npy(made.path(segment.norms), np.float64, segment.rows).numpy()


def absorb(segments: tuple[Segment, ...], count: int) -> tuple[list[Segment], list[Segment]]:
    """Segments that stay, and those at the end that are small enough to be written again with the new rows: so there
    are only ever some dozen, and a row is rewritten as often.
    """
    stays, absorbed = list(segments), []
    while stays and stays[-1].rows <= count:
        absorbed.insert(0, stays.pop())
        count += absorbed[0].rows
    return stays, absorbed


def old_blocks(index: Index, first: int, stop: int) -> Blocks:
    """Rows that are written again."""
    for start in range(first, stop, _BLOCK):
        row_N = np.arange(start, min(start + _BLOCK, stop))
        yield index.vectors(row_N).numpy(), index.items(row_N)
