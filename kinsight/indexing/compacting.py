"""The job `index compact`: an index without the rows that count no more."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kinsight import progress
from kinsight.errors import SpecError
from kinsight.indexing.files import open_npy
from kinsight.indexing.generation import Generation
from kinsight.indexing.growing import add_rows, fill
from kinsight.indexing.header import IndexHeader, Segment
from kinsight.indexing.index import Index
from kinsight.indexing.kinds import build_structure
from kinsight.indexing.learned import Learned
from kinsight.indexing.lock import writing
from kinsight.indexing.outputs import carried, counted, writable
from kinsight.indexing.rewriting import blocks_of, num_bytes, partition_of, rows_left
from kinsight.indexing.settings import Settings
from kinsight.indexing.structures import Structure
from kinsight.indexing.summary import say_state
from kinsight.indexing.training_needs import least_vectors
from kinsight.indexing.tuning import tune
from kinsight.neighbors.gallery import Gallery
from kinsight.specs.index import IvfIndex, IvfPqIndex
from kinsight.specs.index_rewrite import IndexCompact
from kinsight.specs.load import of


def compact(spec: IndexCompact | Mapping[str, Any]) -> str:
    """Write an index without its deleted items; the same as `kinsight index compact`. Returns its address.

    Rows are numbered anew, ids stay, and so do the settings; graph or lists are filled again from the rows that are
    left. Until the next write the files of before stay too, for those who have it open.
    Raises SpecError where no item is left, DataError, StorageError, RunError while another process writes.
    """
    spec = of(IndexCompact, spec)
    place = writable(spec.index)
    with writing(place) as lock:
        index = Index.open(place)
        before = index.header
        row_M = rows_left(index)
        if len(row_M) == index.num_rows:
            progress.say(f"index       nothing to do: none of its {index.num_rows:,} items is deleted")
            return spec.index
        if not len(row_M):
            raise SpecError(
                "index.empty",
                f"all of its {index.num_rows:,} items are deleted, and an index holds one at least",
                field=f"index={place}",
                remedy="add items first, or build it anew with --overwrite",
            )
        with Generation(lock, before) as made:
            blocks = counted(blocks_of(index, row_M), "compact", len(row_M))
            segment = made.write_rows(blocks, before.dim, before.metric)
            assert segment is not None and segment.rows == len(row_M)
            structure = _filled(index, made, segment)
            header = made.publish(
                **carried(before)
                | {"rows": segment.rows, "live": segment.rows, "structure": _stored(structure, before)},
                segments=(segment,),
                structure_file=made.write_structure(structure),
                deleted_file=None,
            )
    progress.say(
        f"compacted   {before.rows - segment.rows:,} deleted items left out: {num_bytes(before):,} bytes before, "
        f"{num_bytes(header):,} now; the files of before go with the next write"
    )
    say_state(place, header)
    return spec.index


def _filled(index: Index, made: Generation, segment: Segment) -> Structure | None:
    """The graph or lists of the rows just written."""
    settings = _fitting(index.settings, segment.rows)
    if settings is None:
        progress.say("training    left as it was: too few items are left to learn from")
        return _filled_again(index, made, segment)
    structure = build_structure(settings, index.dim, index.metric, partition_of(index))
    return None if structure is None else fill(structure, made, segment, index.dim, index.metric)


def _filled_again(index: Index, made: Generation, segment: Segment) -> Structure:
    """What was learned before, with the rows just written."""
    kept = index.structure
    assert kept is not None
    kept.faiss.reset()
    if not isinstance(kept, Learned):
        add_rows(kept, made, segment, index.dim, index.metric)
        return kept
    empty = Learned(kept.settings, kept.partition, kept.faiss)
    add_rows(empty, made, segment, index.dim, index.metric)
    vector_ND = open_npy(made.path(segment.vectors), np.float32, segment.rows, index.dim)
    norm_N = open_npy(made.path(segment.norms), np.float64, segment.rows)
    return tune(empty, Gallery([vector_ND], norm_N, index.metric))


def _fitting(settings: Settings, rows: int) -> Settings | None:
    """The same settings for so many rows; None where they are too few for its centres or codes."""
    if rows < least_vectors(settings):
        return None
    if not isinstance(settings, IvfIndex | IvfPqIndex):
        return settings
    assert settings.train_vectors
    train = min(settings.train_vectors, rows)
    return settings.model_copy(update={"train_vectors": train}) if train >= least_vectors(settings) else None


def _stored(structure: Structure | None, before: IndexHeader) -> dict[str, Any]:
    return before.structure if structure is None else structure.settings.model_dump(mode="json", exclude={"kind"})
