"""An index opened for searching."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError, SpecError
from kinsight.indexing.files import Gone
from kinsight.indexing.filters import Where
from kinsight.indexing.header import HEADER, IndexHeader, read_header
from kinsight.indexing.learned import Learned
from kinsight.indexing.parts import Parts, load
from kinsight.indexing.refining import refine
from kinsight.indexing.settings import Level
from kinsight.indexing.structures import Structure, prepared
from kinsight.neighbors import Metric
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.threads import in_parts
from kinsight.neighbors.vectors import row_norms

_ATTEMPTS = 20
_MORE_EFFORT = (4, 16)  # how much harder an approximate search tries before every vector is compared
_REFINED = 1024  # queries at once
_PART = (256, 8192)  # queries that a core takes for itself, at least and at most


@dataclass(frozen=True)
class Hits:
    """similarity_QK: float32, best first; cosine, inner product, or negated squared distance, so larger is closer;
    exact, but of kind learned sums in float32. row_QK: int64. Where there are fewer than k: -inf and -1.
    """

    similarity_QK: Tensor
    row_QK: Tensor


@dataclass(frozen=True)
class _Asked:
    """Queries as they were given, and as structures take them; the row that each leaves out, -1 for none."""

    query_MD: Tensor
    ready_MD: np.ndarray
    exclude_M: Tensor

    def at(self, which: slice | Tensor) -> "_Asked":
        """Some of them."""
        ready_MD = self.ready_MD[which if isinstance(which, slice) else which.numpy()]
        return _Asked(self.query_MD[which], ready_MD, self.exclude_M[which])


class Index:
    """Vectors of one model with ids, labels and addresses; made by `Index.open`, safe to search from many threads.

    It stays as it was opened, whatever is written meanwhile. version: number of the write it shows.
    """

    def __init__(self, address: storage.Address, header: IndexHeader, parts: Parts) -> None:
        self.address, self.header, self.settings = address, header, parts.settings
        self.kind, self.dim = header.kind, header.dim
        self.metric: Metric = header.metric
        self.model_hash, self.model, self.version = header.model_hash, header.model, header.generation
        self._take(parts)

    @property
    def mapped(self) -> bool:
        """Whether graph or lists were left on disk."""
        return self._parts.mapped

    def _take(self, parts: Parts) -> None:
        self._parts = parts
        self._gallery, self._items, self._structure = parts.gallery, parts.items, parts.structure
        self._live = parts.selector()
        if isinstance(parts.structure, Learned) and self._live is not None:
            self._structure = parts.structure.among(parts.live_rows())

    @classmethod
    def open(cls, address: storage.AddressLike, *, mapped: bool = False) -> "Index":
        """The index at an address, every file checked by size and SHA-256.

        mapped: graph or lists stay on disk until a search looks into them, for indexes larger than memory; the vectors
        always do.

        Raises StorageError where nothing is, DataError for what is incomplete, altered or of another format, SpecError
        for `mapped` where it has no effect: kind flat, payload fastscan.
        """
        place = storage.Address.parse(address)
        header = read_header(place)
        for _ in range(_ATTEMPTS):
            try:
                return cls(place, header, load(place, header, mapped=mapped))
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

    def where(self, where: Where) -> "Index":
        """The same index, of which searches find only items whose columns have these values: `{"label": ["a", "b"]}`.

        What it takes is taken once; search it as often as wished. Raises SpecError for columns that are not there.
        """
        other = copy(self)
        parts = self._parts.only(where)
        structure = self._structure  # set as it is now: to a recall, say
        other._take(replace(parts, structure=structure))
        return other

    def at(self, recall: float | Level) -> "Index":
        """The same learned index, searched with other settings: these, or the cheapest that reached this recall@10 on
        held-out vectors.

        Raises SpecError for a recall that no settings are known for, and for other kinds.
        """
        other = copy(self)
        other._structure = self._at(recall)
        return other

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

    def live_uris(self) -> pa.ChunkedArray:
        """Addresses of the items that searches find, in the order of their rows."""
        return self._items.live_column("uri", pa.string())

    def label_sizes(self) -> dict[str, int]:
        """How many items each label has, of those that searches find; counted once."""
        return self._items.label_sizes

    @property
    def gallery(self) -> Gallery:
        """All vectors, to be compared with exactly."""
        return self._gallery

    @property
    def structure(self) -> Structure | None:
        """What proposes neighbours; None where every vector is compared. To be added to only by a writer."""
        return self._structure

    def _approximate(self, structure: Structure, query_QD: Tensor, k: int, exclude_Q: Tensor | None) -> Hits:
        norm_Q = row_norms(query_QD, "query", self.metric).numpy()
        exclude_Q = torch.full((len(query_QD),), -1) if exclude_Q is None else exclude_Q
        whole = _Asked(query_QD, prepared(query_QD.numpy(), norm_Q, self.metric), exclude_Q)
        parts = in_parts(lambda here: self._proposed(structure, whole.at(here), k), len(query_QD), *_PART)
        similarity_QK, row_QK = (torch.cat(each) for each in zip(*parts, strict=True))
        short_M = self._short(row_QK, whole)
        if len(short_M):  # fewer than k came back though there are k
            left = whole.at(short_M)
            exact = self._gallery.topk(left.query_MD, k, exclude=left.exclude_M)
            similarity_QK[short_M], row_QK[short_M] = exact
        return Hits(similarity_QK, row_QK)

    def _proposed(self, structure: Structure, asked: "_Asked", k: int) -> tuple[Tensor, Tensor]:
        """(similarity_MK, row_MK), of fewer than k rows where the structure gives no more."""
        similarity_MK, row_MK = self._tried(structure, asked, k, 1)
        for effort in _MORE_EFFORT:
            short_M = self._short(row_MK, asked)
            if not len(short_M):
                break
            similarity_MK[short_M], row_MK[short_M] = self._tried(structure, asked.at(short_M), k, effort)
        return similarity_MK, row_MK

    def _short(self, row_MK: Tensor, asked: "_Asked") -> Tensor:
        """Queries that have fewer rows than there are for them."""
        available_M = (len(self) - (asked.exclude_M >= 0).long()).clamp(max=row_MK.shape[1])
        return ((row_MK >= 0).sum(1) < available_M).nonzero().squeeze(1)

    def _tried(self, structure: Structure, asked: "_Asked", k: int, effort: int) -> tuple[Tensor, Tensor]:
        """The k best of what the structure proposes with this effort."""
        wanted = min(structure.num_candidates(k) + 1, len(self))  # one more: the row left out may be among them
        wanted = min(wanted * effort, len(self))
        if isinstance(structure, Learned):
            return self._by_lists(structure, asked, k, wanted, effort)
        row_MN = torch.from_numpy(structure.candidates(asked.ready_MD, wanted, effort, self._live))
        row_MN = torch.where(row_MN == asked.exclude_M[:, None], -1, row_MN)
        return self._gallery.rescore(asked.query_MD, row_MN, k)

    def _by_lists(self, learned: Learned, asked: "_Asked", k: int, wanted: int, effort: int) -> tuple[Tensor, Tensor]:
        """What learned lists propose, put into order by the full vectors where that is still to be done."""
        leaves_out = bool((asked.exclude_M >= 0).any())
        if learned.is_exact and not leaves_out:
            return learned.nearest(asked.ready_MD, k, effort, self._live)
        looked = learned.looked_through(asked.ready_MD, wanted, effort, self._live)
        asked_M, row_MN = torch.from_numpy(looked.asked_Q), looked.row_QN
        if leaves_out:
            row_MN[row_MN == asked.exclude_M[asked_M, None].numpy()] = -1
        repeated, gallery = learned.settings.copies is not None, self._gallery
        similarity_MK, row_MK = torch.empty(len(row_MN), k), torch.empty(len(row_MN), k, dtype=torch.int64)
        for start in range(0, len(row_MN), _REFINED):  # few, so that a copy of the queries stays in a cache
            here = slice(start, start + _REFINED)
            ready_BD = asked.ready_MD[looked.asked_Q[here]]
            similarity_MK[asked_M[here]], row_MK[asked_M[here]] = refine(
                ready_BD, gallery.segments, row_MN[here], k, self.metric, gallery.scale_N, repeated=repeated
            )
        return similarity_MK, row_MK

    def _at(self, recall: float | Level) -> Structure:
        """The structure with other settings."""
        if isinstance(recall, Level):
            assert isinstance(self._structure, Learned), self.kind
            return self._structure.at(recall)
        if not isinstance(self._structure, Learned):
            raise SpecError(
                "index.recall", f"has no effect on an index of kind {self.kind}", field=f"recall={recall:g}"
            )
        levels = [level for level in self._structure.settings.levels if level.recall >= recall]
        if not levels:
            known = ", ".join(f"{level.recall:g}" for level in self._structure.settings.levels)
            raise SpecError(
                "index.recall",
                f"no settings that reach it are known; there are some for {known or 'none: its settings were given'}",
                field=f"recall={recall:g}",
                remedy="build with index.recall, or from a partition of fewer or larger lists",
            )
        return self._structure.at(min(levels, key=lambda level: level.cost))

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
