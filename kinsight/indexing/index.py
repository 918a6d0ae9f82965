"""An index opened for searching."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError, SpecError
from kinsight.indexing.files import Gone, altered, fetch, open_items, open_npy
from kinsight.indexing.header import HEADER, IndexHeader, read_header
from kinsight.indexing.items import Items
from kinsight.indexing.settings import Settings, stored_settings
from kinsight.indexing.structures import Structure, build_structure, prepared
from kinsight.indexing.untyped import faiss
from kinsight.neighbors import Metric
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.vectors import row_norms

_ATTEMPTS = 20
_EFFORTS = (1, 4, 16)  # how much harder an approximate search tries before every vector is compared


@dataclass(frozen=True)
class Hits:
    """similarity_QK: float32, best first, exact for every kind of index; cosine, inner product, or negated squared
    distance, so larger is closer. row_QK: int64. Where there are fewer than k: -inf and -1.
    """

    similarity_QK: Tensor
    row_QK: Tensor


class Index:
    """Vectors of one model with ids, labels and addresses; made by `Index.open`, safe to search from many threads.

    It stays as it was opened, whatever is written meanwhile. version: number of the write it shows.
    """

    def __init__(self, address: storage.Address, header: IndexHeader, settings: Settings, parts: "_Parts") -> None:
        self.address, self.header, self.settings = address, header, settings
        self.kind, self.dim = header.kind, header.dim
        self.metric: Metric = header.metric
        self.model_hash, self.model, self.version = header.model_hash, header.model, header.generation
        self._gallery, self._items, self._structure = parts.gallery, parts.items, parts.structure
        self._live = parts.selector()

    @classmethod
    def open(cls, address: storage.AddressLike) -> "Index":
        """The index at an address, every file checked by size and SHA-256.

        Raises StorageError where nothing is, DataError for what is incomplete, altered or of another format.
        """
        place = storage.Address.parse(address)
        header = read_header(place)
        for _ in range(_ATTEMPTS):
            try:
                return cls(place, header, *_load(place, header))
            except Gone as gone:
                newer = read_header(place)
                if newer.generation == header.generation:
                    file = place.child(str(gone))
                    raise DataError(
                        "index.incomplete",
                        f"is missing, though {HEADER} names it",
                        field=str(file),
                        remedy="copy the index again, whole, or build it again",
                    ) from None
                header = newer
        raise DataError(
            "index.busy", "is written faster than it can be opened", field=str(place), remedy="write it less often"
        )

    def __len__(self) -> int:
        return self._gallery.num_live

    @property
    def num_rows(self) -> int:
        """Rows in all, deleted ones too: rows are numbered below it."""
        return len(self._gallery)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return self.header.columns

    def search(self, query_QD: Tensor, k: int, *, exclude_Q: Tensor | None = None) -> Hits:
        """The k most similar items of each query, equal similarities by lower row.

        query_QD: floating-point rows. exclude_Q: int64, a row per query to leave out, -1 for none.
        Raises SpecError for k below 1, DataError for queries of another length, with NaN, infinity, or zero under
        cosine.
        """
        if k < 1:
            raise SpecError("index.k", "must be at least 1", field=f"k={k}")
        query_QD = self._checked(query_QD)
        exclude_Q = None if exclude_Q is None else exclude_Q.cpu()
        if self._structure is None or not len(self):
            return Hits(*self._gallery.topk(query_QD, k, exclude=exclude_Q))
        return self._approximate(self._structure, query_QD, k, exclude_Q)

    def rows_of(self, ids: Sequence[str | int]) -> np.ndarray:
        """int64 rows of items by id. Raises DataError naming ids that are not there."""
        row_N, unknown = self._items.rows_of(ids)
        if unknown:
            raise self._items.unknown(unknown)
        return row_N

    def known_rows_of(self, ids: Sequence[str | int]) -> np.ndarray:
        """int64 rows of items by id, -1 where there is none."""
        return self._items.rows_of(ids)[0]

    def vectors(self, rows: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Stored vectors, float32 (N, dim), as they were given to the index."""
        return self._gallery.take(torch.from_numpy(self._rows(rows)))

    def items(self, rows: Sequence[int] | np.ndarray | Tensor) -> pa.Table:
        """Columns id, label (names, joined by " | "), uri, then the further columns; a row each, in that order."""
        return self._items.take(self._rows(rows))

    def dead_rows(self) -> np.ndarray:
        """int64 rows that searches leave out, ascending."""
        return self._gallery.dead_M.numpy()

    def live_rows(self, rows: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        """bool per row: whether searches find it; False for deleted and replaced items. Raises SpecError for rows that
        are not there.
        """
        return self._items.live_rows(self._rows(rows))

    def is_live(self, row: int) -> bool:
        """Whether searches find this row: not a deleted or replaced item. Raises SpecError where there is none."""
        return bool(self.live_rows([row])[0])

    def live_ids(self) -> pa.ChunkedArray:
        """Ids of the items that searches find, in the order of their rows."""
        return self._items.live_ids()

    def label_sizes(self) -> dict[str, int]:
        """How many items each label has, of those that searches find; counted once."""
        return self._items.label_sizes

    @property
    def structure(self) -> Structure | None:
        """What proposes neighbours; None where every vector is compared. To be added to only by a writer."""
        return self._structure

    def _approximate(self, structure: Structure, query_QD: Tensor, k: int, exclude_Q: Tensor | None) -> Hits:
        exclude_Q = torch.full((len(query_QD),), -1) if exclude_Q is None else exclude_Q
        available_Q = len(self) - (exclude_Q >= 0).long()
        norm_Q = row_norms(query_QD, "query", self.metric).numpy()
        ready_QD = prepared(query_QD.numpy(), norm_Q, self.metric)
        similarity_QK, row_QK = torch.full((len(query_QD), k), -torch.inf), torch.full((len(query_QD), k), -1)
        todo_M = torch.arange(len(query_QD))
        wanted = min(structure.num_candidates(k) + 1, len(self))  # one more: the row left out may be among them
        for effort in _EFFORTS:
            found = structure.candidates(ready_QD[todo_M.numpy()], wanted, effort, self._live)
            row_MN = torch.from_numpy(found)
            row_MN = torch.where(row_MN == exclude_Q[todo_M, None], -1, row_MN)
            similarity_QK[todo_M], row_QK[todo_M] = self._gallery.rescore(query_QD[todo_M], row_MN, k)
            todo_M = ((row_QK >= 0).sum(1) < available_Q.clamp(max=k)).nonzero().squeeze(1)
            if not len(todo_M):
                break
        if len(todo_M):  # fewer than k came back though there are k
            exact = self._gallery.topk(query_QD[todo_M], k, exclude=exclude_Q[todo_M])
            similarity_QK[todo_M], row_QK[todo_M] = exact
        return Hits(similarity_QK, row_QK)

    def _checked(self, query_QD: Tensor) -> Tensor:
        if query_QD.ndim != 2 or query_QD.shape[1] != self.dim:
            raise DataError(
                "index.dimension",
                f"queries are {tuple(query_QD.shape)}, the index holds vectors of length {self.dim}",
                field="vectors",
                remedy=f"embed the queries with the model of the index, {self.model or 'which it does not name'}",
            )
        return query_QD.detach().float().cpu() if query_QD.dtype != torch.float64 else query_QD.detach().cpu()

    def _rows(self, rows: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
        row_N = np.asarray(rows, np.int64)
        if len(row_N) and not 0 <= int(row_N.min()) <= int(row_N.max()) < self.num_rows:
            raise SpecError("index.row", f"rows are numbered from 0 to {self.num_rows - 1}", field="rows")
        return row_N


@dataclass(frozen=True)
class _Parts:
    gallery: Gallery
    items: Items
    structure: Structure | None

    def selector(self) -> Any | None:
        """What tells faiss which rows count; None: all."""
        if self.structure is None or not len(self.gallery.dead_M):
            return None
        live_N = np.ones(len(self.gallery), bool)
        live_N[self.gallery.dead_M.numpy()] = False
        return faiss.IDSelectorBitmap(np.packbits(live_N, bitorder="little"))


def _load(place: storage.Address, header: IndexHeader) -> tuple[Settings, _Parts]:
    paths = {name: fetch(place, name, mark) for name, mark in header.files.items()}
    settings = _settings(place, header)
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
    structure = build_structure(settings, dim, header.metric, stored)
    if structure is not None and (structure.faiss.ntotal, structure.faiss.d) != (rows, dim):
        found = f"holds {structure.faiss.ntotal} vectors of length {structure.faiss.d}"
        raise altered(place, f"{header.structure_file} {found}, {HEADER} says {rows} of {dim}")
    return settings, _Parts(gallery, Items(tables, live_N, id_type), structure)


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
