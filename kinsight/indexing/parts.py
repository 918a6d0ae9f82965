"""What an open index is made of, read from its files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.indexing.files import altered, fetch, open_items, open_npy
from kinsight.indexing.filters import Where, matching
from kinsight.indexing.header import HEADER, IndexHeader
from kinsight.indexing.items import Items
from kinsight.indexing.kinds import build_structure
from kinsight.indexing.settings import Settings, Tuned, stored_settings
from kinsight.indexing.structures import Structure
from kinsight.indexing.untyped import faiss
from kinsight.neighbors.gallery import Gallery
from kinsight.partition import Partition
from kinsight.specs.index import FlatIndex


@dataclass(frozen=True)
class Parts:
    """settings: all of them decided. tables: of the items, one after the other."""

    settings: Settings
    gallery: Gallery
    items: Items
    structure: Structure | None
    tables: Sequence[pa.Table]
    mapped: bool

    def only(self, where: Where) -> "Parts":
        """The same, but that searches find no other items than these. Raises as `matching`."""
        live_N = matching(self.tables, where)
        live_N[self.gallery.dead_M.numpy()] = False
        old = self.gallery
        gallery = Gallery(old.segments, old.norm_N, old.metric, live_N=torch.from_numpy(live_N))
        items = Items(self.tables, live_N, self.items.id_type)
        return replace(self, gallery=gallery, items=items)

    def live_rows(self) -> np.ndarray:
        """bool per row: whether searches find it."""
        live_N = np.ones(len(self.gallery), bool)
        live_N[self.gallery.dead_M.numpy()] = False
        return live_N

    def selector(self) -> Any | None:
        """What tells faiss which rows count; None: all."""
        if self.structure is None or not len(self.gallery.dead_M):
            return None
        return faiss.IDSelectorBitmap(np.packbits(self.live_rows(), bitorder="little"))


def load(place: storage.Address, header: IndexHeader, *, mapped: bool) -> Parts:
    """What the header names. mapped: lists stay on disk until they are looked through; vectors always do.

    Raises Gone where a newer generation has replaced a file, DataError for altered ones, SpecError for `mapped` where
    it has no effect.
    """
    settings = _settings(place, header)
    if mapped:
        _refuse_mapped(place, settings)
    paths = {name: fetch(place, name, mark) for name, mark in header.files.items()}
    rows, dim = header.rows, header.dim
    live_N = np.ones(rows, bool)
    if header.deleted_file is not None:
        live_N[_deleted(paths[header.deleted_file], rows, rows - header.live)] = False
    segments = [open_npy(paths[part.vectors], np.float32, part.rows, dim) for part in header.segments]
    norms = [open_npy(paths[part.norms], np.float64, part.rows) for part in header.segments]
    norm_N = torch.cat(norms) if norms else torch.zeros(0, dtype=torch.float64)
    gallery = Gallery(segments, norm_N, header.metric, live_N=torch.from_numpy(live_N))
    tables = [_items(paths[part.items], part.rows, header) for part in header.segments]
    id_type = pa.int64() if header.id_type == "int64" else pa.string()
    stored = paths[header.structure_file] if header.structure_file is not None else None
    partition = _partition(place, header, paths)
    structure = build_structure(settings, dim, header.metric, partition, stored=stored, rows=rows, mapped=mapped)
    if structure is not None and not structure.holds(rows, dim):
        found = f"holds {structure.faiss.ntotal} vectors of length {structure.faiss.d}"
        raise altered(place, f"{header.structure_file} {found}, {HEADER} says {rows} of {dim}")
    return Parts(settings, gallery, Items(tables, live_N, id_type), structure, tables, mapped)


def _refuse_mapped(place: storage.Address, settings: Settings) -> None:
    """Raise SpecError for an index whose memory it would not spare."""
    match settings:
        case FlatIndex():
            why, remedy = "has neither lists nor a graph, and its vectors stay on disk anyway", "leave it out"
        case Tuned(payload="fastscan"):
            why = "is of payload fastscan, whose codes are put in another order in memory"
            remedy = "leave it out, or build with payload sq8 or pq"
        case _:
            return
    raise SpecError("index.setting", f"has no effect: {place} {why}", field="mapped", remedy=remedy)


def _partition(place: storage.Address, header: IndexHeader, paths: dict[str, Path]) -> Partition | None:
    if header.partition_file is None:
        return None
    path = paths[header.partition_file]
    partition = Partition.from_bytes(path.read_bytes(), path)
    if (partition.header.dim, partition.header.metric) != (header.dim, header.metric):
        found = f"is of vectors of length {partition.header.dim} under {partition.header.metric}"
        raise altered(place, f"{header.partition_file} {found}, {HEADER} says {header.dim} under {header.metric}")
    return partition


def _settings(place: storage.Address, header: IndexHeader) -> Settings:
    try:
        return stored_settings(header.kind, header.structure)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise altered(
            place.child(HEADER), f"{header.kind}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def _deleted(path: Any, rows: int, expected: int) -> np.ndarray:
    row_M = open_npy(path, np.int64, expected).numpy()
    if expected and (int(row_M.min()) < 0 or int(row_M.max()) >= rows or bool((np.diff(row_M) <= 0).any())):
        raise altered(path, f"does not hold ascending rows below {rows}")
    return row_M


def _items(path: Any, rows: int, header: IndexHeader) -> pa.Table:
    table = open_items(path)
    if len(table) != rows or table.column_names != ["id", "label", "uri", *header.columns]:
        raise altered(path, f"holds {len(table)} items with columns {', '.join(table.column_names)}")
    return table
