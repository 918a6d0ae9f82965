"""Search in an index in shards: a batch of queries goes to one actor per shard, their answers become one.

Shapes: Q queries, K neighbours, S shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError, RunError, SpecError
from kinsight.indexing.cluster import connect
from kinsight.indexing.filters import Where
from kinsight.indexing.index import Hits, Index
from kinsight.indexing.shards import Shard, ShardsHeader, read_shards
from kinsight.neighbors.vectors import row_norms

Answer = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """How a search is to be done: as `Index.where` and `Index.at` take it."""

    where: Where | None = None
    recall: float | None = None


class ShardSearcher:
    """On a worker: one shard, opened."""

    def __init__(self, address: str, mapped: bool = False) -> None:
        self._index = Index.open(address, mapped=mapped)
        self._longest = self._index.gallery.longest
        self._restricted: tuple[Asked, Index] = (Asked(), self._index)

    def facts(self) -> dict[str, Any]:
        """What must fit the other shards, and the length of the longest vector."""
        index = self._index
        return {
            "rows": index.num_rows, "dim": index.dim, "metric": index.metric, "model_hash": index.model_hash,
            "longest": self._longest,
        }  # fmt: skip

    def be_part(self, longest: float) -> None:
        """Reckon similarities as in a whole whose longest vector has this length."""
        self._longest = longest

    def search(self, query_QD: np.ndarray, k: int, asked: Asked) -> Answer:
        """(similarity_QK float64, row_QK int64 of this shard)."""
        query, index = torch.from_numpy(np.array(query_QD)), self._as_asked(asked)
        if index.structure is None or not len(index):
            similarity_QK, row_QK, _ = index.gallery.within(self._longest).nearest(query, k)
            return similarity_QK.numpy(), row_QK.numpy()
        hits = index.search(query, k)
        return hits.similarity_QK.double().numpy(), hits.row_QK.numpy()

    def _as_asked(self, asked: Asked) -> Index:
        """The last one is kept: filters and levels are taken once."""
        if asked != self._restricted[0]:
            index = self._index if asked.where is None else self._index.where(asked.where)
            self._restricted = (asked, index if asked.recall is None else index.at(asked.recall))
        return self._restricted[1]

    def items(self, row_M: np.ndarray) -> pa.Table:
        """Items at rows of this shard."""
        return self._index.items(row_M)


class Shards:
    """An index in shards, opened for searching; made by `Shards.open`, closed by `close` or at the end of a `with`."""

    def __init__(
        self, place: storage.Address, header: ShardsHeader, ray: Any, actors: list[Any], wait_s: float
    ) -> None:
        self.address, self.header = place, header
        self._ray, self._actors, self._timeout_s = ray, actors, wait_s
        self._start_S1 = np.array([shard.start for shard in header.shards] + [header.rows])

    @classmethod
    def open(
        cls,
        address: storage.AddressLike,
        *,
        cluster: str | None = None,
        cpus: float = 1,
        timeout_s: float = 300,
        mapped: bool = False,
    ) -> "Shards":
        """The index in shards at an address, each shard in memory of some machine of the cluster.

        cluster: as in `build_shards`. cpus: that the cluster reserves for a shard. timeout_s: of each answer.
        mapped: as in `Index.open`.
        Raises StorageError, DataError naming a shard that does not fit, RunError naming one that cannot be opened.
        """
        place = storage.Address.parse(address)
        header = read_shards(place)
        ray = connect(cluster)
        kind = ray.remote(num_cpus=cpus)(ShardSearcher)
        actors = [kind.remote(str(place.child(shard.name)), mapped) for shard in header.shards]
        found = cls(place, header, ray, actors, timeout_s)
        try:
            found._agree()
        except BaseException:
            found.close()
            raise
        return found

    def __len__(self) -> int:
        return self.header.rows

    def search(self, query_QD: Tensor, k: int, *, where: Where | None = None, recall: float | None = None) -> Hits:
        """The k most similar items of each query, equal similarities by lower row; rows are those of the whole.

        where, recall: as `Index.where` and `Index.at` take them; each shard has levels of its own.
        Of kind flat the answer, without `where`, is to the last bit that of one index of all vectors. Raises SpecError
        for k below 1, SpecError and DataError as `Index.search`, RunError naming a shard that is lost or silent.
        """
        if k < 1:
            raise SpecError("index.k", "must be at least 1", field=f"k={k}")
        query_QD = self._checked(query_QD)
        answers: list[Answer] = self._ask("search", self._ray.put(query_QD.numpy()), k, Asked(where, recall))
        similarity_QM = np.concatenate([similarity_QK for similarity_QK, _ in answers], axis=1)
        row_QM = np.concatenate(
            [
                np.where(row_QK >= 0, row_QK + start, -1)
                for (_, row_QK), start in zip(answers, self._start_S1, strict=False)
            ],
            axis=1,
        )
        # none are last: their similarity is -inf
        order_QK = np.lexsort((row_QM, -similarity_QM), axis=1)[:, :k]
        similarity_QK, row_QK = (np.take_along_axis(each, order_QK, 1) for each in (similarity_QM, row_QM))
        return Hits(torch.from_numpy(similarity_QK).float(), torch.from_numpy(row_QK))

    def items(self, rows: Sequence[int] | np.ndarray | Tensor) -> pa.Table:
        """Items at rows of the whole, in that order; columns as `Index.items`. Raises SpecError, RunError."""
        row_N = np.asarray(rows, np.int64)
        if len(row_N) and not 0 <= int(row_N.min()) <= int(row_N.max()) < len(self):
            raise SpecError("index.row", f"rows are numbered from 0 to {len(self) - 1}", field="rows")
        shard_N = np.searchsorted(self._start_S1, row_N, side="right") - 1
        asked = [np.flatnonzero(shard_N == number) for number in range(len(self._actors))]
        parts = self._ask(
            "items", [row_N[here_M] - start for here_M, start in zip(asked, self._start_S1, strict=False)]
        )
        back_N = np.argsort(np.concatenate(asked), kind="stable")
        return pa.concat_tables(parts).take(pa.array(back_N))

    def close(self) -> None:
        """Let go of the shards. The cluster stays."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, query_QD: Tensor) -> Tensor:
        """Queries that every shard will take, on the CPU."""
        if query_QD.ndim != 2 or query_QD.shape[1] != self.header.dim:
            what = f"queries are {tuple(query_QD.shape)}, the index holds vectors of length {self.header.dim}"
            model = self.header.model or "which it does not name"
            remedy = f"embed the queries with the model of the index, {model}"
            raise DataError("index.dimension", what, field="vectors", remedy=remedy)
        row_norms(query_QD, "query", self.header.metric)
        query_QD = query_QD.detach().cpu()
        return query_QD if query_QD.dtype == torch.float64 else query_QD.float()

    def _agree(self) -> None:
        """All are open, fit each other, and reckon alike."""
        first, facts = self.header, self._ask("facts")
        for shard, fact in zip(first.shards, facts, strict=True):
            for name in ("dim", "metric", "model_hash"):
                if fact[name] != getattr(first, name):
                    raise self._unfit(shard, f"{name} is {fact[name]}, of the whole {getattr(first, name)}")
            if fact["rows"] != shard.rows:
                raise self._unfit(shard, f"holds {fact['rows']:,} rows, of the whole {shard.rows:,} are in it")
        self._ask("be_part", max(fact["longest"] for fact in facts))

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """The answer of each shard; a list among the arguments has one entry for each."""
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        if not self._actors:
            raise RunError("shards.closed", "is closed", field=str(self.address), remedy="open it again")
        calls = [
            getattr(actor, method).remote(*(each[number] if isinstance(each, list) else each for each in arguments))
            for number, actor in enumerate(self._actors)
        ]
        answers = []
        for shard, call in zip(self.header.shards, calls, strict=True):
            try:
                answers.append(self._ray.get(call, timeout=self._timeout_s))
            except GetTimeoutError:
                raise self._lost(shard, f"has not answered for {self._timeout_s:g} s") from None
            except RayTaskError as error:
                if isinstance(error.cause, SpecError | DataError):  # of what was asked: every shard says the same
                    raise error.cause from None
                raise self._lost(shard, f"failed: {str(error.cause).splitlines()[0]}") from None
            except RayActorError as error:
                raise self._lost(shard, f"is lost: {_reason(error)}") from None
        return answers

    def _lost(self, shard: Shard, what: str) -> RunError:
        number = self.header.shards.index(shard)
        return RunError(
            "shards.lost",
            f"shard {number} of {len(self.header.shards)} {what}",
            field=str(self.address.child(shard.name)),
            remedy="look after that machine or folder, and open the index again",
        )

    def _unfit(self, shard: Shard, what: str) -> DataError:
        field = str(self.address.child(shard.name))
        return DataError("shards.unfit", what, field=field, remedy="build the shards again, with --overwrite")


def _reason(error: Exception) -> str:
    """Ray's words on a lost actor end with what happened in it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if "Error" in line and not line.startswith(("File", "ray."))]
    return (causes or lines or ["its process has ended"])[-1]
