"""Lists of a learned partition: the router chooses a query's lists, faiss looks through them.

Vectors lie in the lists by their routed form (principal components, compressed if wished), under their rows' numbers, a
copy under the number of its vector. What the lists propose, `refining` puts into order by the full vectors.

Shapes: Q queries, L lists, R routed dimensions, P lists of a query at most.
"""

import copy
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinsight.indexing.list_graph import ListGraph
from kinsight.indexing.list_scores import ListScores
from kinsight.indexing.refining import lower_rows_first
from kinsight.indexing.settings import Level, Tuned
from kinsight.indexing.structures import Structure
from kinsight.indexing.untyped import faiss
from kinsight.neighbors.greatest import greatest
from kinsight.partition import Partition

LEAST_K = 10  # neighbours that candidates are reckoned for at least: of very few, the best may not be among them
_AT_ONCE = 4096
_SCORES = 2**25  # of lists, held at once: 128 MB
_TRAIN_PER_CODE = 64
_SQ8_TRAIN = 100_000
_QUERIES_AT_ONCE = 3  # each by one thread; faiss's default leaves that to who calls it, and takes one thread
_MOSTLY = 0.5  # share of rows that can be found, from which on a query stops by mass as if it were all
_BY_QUERY = 11  # one query after the other, candidates in a reservoir: with some dozens of them a third quicker


class LookedThrough(NamedTuple):
    """Of queries in the order they were looked for. row_QN: int64, -1 for none. distance_QN: float32, squared, between
    what the lists hold of vectors and queries. list_QP: int64, the lists of each query, -1 for none. asked_Q: int64,
    the place at which each was asked for.
    """

    row_QN: np.ndarray
    distance_QN: np.ndarray
    list_QP: np.ndarray
    asked_Q: np.ndarray

    def as_asked(self) -> "LookedThrough":
        """The same in the order of the queries as they were asked for."""
        at_Q = np.empty_like(self.asked_Q)
        at_Q[self.asked_Q] = np.arange(len(at_Q))
        return LookedThrough(*(each[at_Q] for each in self))


class Learned(Structure):
    """rows: how many rows the stored lists hold, copies not counted. graph: what finds lists with `routing: graph`."""

    def __init__(self, settings: Tuned, partition: Partition, stored: Any | None, rows: int = 0) -> None:
        self._settings, self.partition, self._rows = settings, partition, rows
        self._live_L: Tensor | None = None
        self.graph: ListGraph | None = None
        self.faiss = stored or _new_lists(settings, partition)
        self.ready()

    @property
    def settings(self) -> Tuned:
        return self._settings

    @property
    def num_train(self) -> int:
        match self.settings.payload:
            case "flat" | "fp16":
                return 0
            case "rabitq":
                return self.faiss.nlist  # it learns nothing from them, but wants to have been trained
            case "sq8":
                return _SQ8_TRAIN
            case "pq" | "fastscan":  # of 256 and of 16 codes, for which more cost little
                return _TRAIN_PER_CODE * 256

    @property
    def num_rows(self) -> int:
        return self._rows

    @property
    def entries_L(self) -> Tensor:
        """Entries of each list, copies counted: int64 (L,)."""
        lists = self.faiss.invlists
        return torch.tensor([lists.list_size(number) for number in range(self.faiss.nlist)])

    def multiply_adds(self, query_QD: np.ndarray) -> float:
        """Of routing one of these queries, mean: its principal components, the router, or what a graph compares of it,
        and centres where codes count from them. Queries as `prepared` gives them.
        """
        centres = self.partition.clusters.centre_LD.numel() if self.settings.payload in _RESIDUAL else 0
        router: float = self.partition.router.multiply_adds
        if (graph := self._graph_for(probes := self._probes(1))) is not None:
            routed_QR = self.partition.space.ready_queries(torch.from_numpy(query_QD))
            router = graph.compared(routed_QR, probes) * graph.numbers
        return router + self.partition.space.multiply_adds + centres

    def holds(self, rows: int, dim: int) -> bool:
        return self.faiss.ntotal >= rows and self.faiss.d == self.partition.space.routed_dim and dim == self._dim

    def at(self, level: Level) -> "Learned":
        """The same lists, searched with other settings."""
        other = copy.copy(self)
        other._settings = self.settings.model_copy(
            update={"nprobe": level.nprobe, "mass": level.mass, "refine": level.refine}
        )
        return other

    def with_levels(self, levels: tuple[Level, ...]) -> "Learned":
        """The same with levels to choose from."""
        other = copy.copy(self)
        other._settings = self.settings.model_copy(update={"levels": levels, "tuned_rows": self._rows})
        return other

    def among(self, live_N: np.ndarray) -> "Learned":
        """The same for searches that find no other rows than these (bool, one per row): they look into as many lists
        more as it takes to see as many entries as otherwise, and into none without one.
        """
        lists = self.faiss.invlists
        live_L = torch.zeros(self.faiss.nlist, dtype=torch.int64)
        for number in range(self.faiss.nlist):
            if size := lists.list_size(number):
                live_L[number] = int(live_N[faiss.rev_swig_ptr(lists.get_ids(number), size)].sum())
        other = copy.copy(self)
        other._live_L = live_L if int(live_L.sum()) < self.faiss.ntotal else None
        return other

    def num_candidates(self, k: int) -> int:
        assert self.settings.refine
        copies = 0.0 if self.settings.copies is None else self.settings.copies.budget
        return max(k, math.ceil((1 + copies) * self.settings.refine * max(k, LEAST_K)))

    def train(self, sample_MD: np.ndarray) -> None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        routed_MR = self.partition.space.rows(torch.from_numpy(sample_MD))
        self.faiss.train(routed_MR.numpy())

    def add(self, vector_BD: np.ndarray) -> None:
        routed_BR = self.partition.space.rows(torch.from_numpy(vector_BD))
        row_B = np.arange(self._rows, self._rows + len(vector_BD))
        self.append(routed_BR, row_B, self.partition.clusters.assign(routed_BR)[0].numpy())
        self._rows += len(vector_BD)

    def candidates(self, query_QD: np.ndarray, wanted: int, effort: int, live: Any | None) -> np.ndarray:
        return self.looked_through(query_QD, wanted, effort, live).as_asked().row_QN

    @property
    def is_exact(self) -> bool:
        """Whether distances in the lists are those of the vectors, so that nothing is to be refined."""
        space, settings = self.partition.space, self.settings
        return (
            settings.payload == "flat" and settings.copies is None and space.metric == "l2" and space.projection is None
        )

    def nearest(self, query_QD: np.ndarray, k: int, effort: int, live: Any | None) -> tuple[Tensor, Tensor]:
        """(similarity_QK, row_QK) as `refine` gives them, where `is_exact`."""
        found = self.looked_through(query_QD, k, effort, live).as_asked()
        row_QK = torch.from_numpy(found.row_QN)
        similarity_QK = torch.from_numpy(found.distance_QN).neg_().masked_fill_(row_QK < 0, -torch.inf)
        return lower_rows_first(similarity_QK, row_QK)

    def looked_through(self, query_QD: np.ndarray, wanted: int, effort: int, live: Any | None) -> LookedThrough:
        """What the lists of each query hold, nearest first, a vector with copies as often as it was met.

        Queries of the same lists follow each other, so that entries, and full vectors later, are still in a cache.
        """
        faiss.omp_set_num_threads(torch.get_num_threads())
        row_QN, distance_QN = (np.empty((len(query_QD), wanted), kind) for kind in (np.int64, np.float32))
        lists, asked = [], []
        step = max(64, min(_AT_ONCE, _SCORES // self.faiss.nlist))
        for start in range(0, len(query_QD), step):
            here = slice(start, min(start + step, len(query_QD)))
            routed_BR = self.partition.space.ready_queries(torch.from_numpy(query_QD[here]))
            list_BP = self._lists(routed_BR, effort)
            order_B = self._place_L[list_BP[:, 0]].argsort()
            routed_BR, list_BP = routed_BR[order_B], list_BP[order_B]
            self._search(routed_BR, list_BP, row_QN[here], distance_QN[here], live)
            lists.append(list_BP.numpy())
            asked.append(order_B.numpy() + start)
        if not lists:
            return LookedThrough(row_QN, distance_QN, np.empty((0, 1), np.int64), np.empty(0, np.int64))
        return LookedThrough(row_QN, distance_QN, np.concatenate(lists), np.concatenate(asked))

    def ready(self) -> None:
        """What searches read, after lists have changed."""
        self._dim, self._live_L = self.partition.space.dim, None
        router = self.partition.router
        self._log_size_L = self.entries_L.clamp_min(1).float().log()
        weight_LR, bias_L = router.weight.detach(), router.bias.detach() - self._log_size_L
        self._scores = ListScores(weight_LR, bias_L, self.partition.clusters.centre_LD.mean(0))
        centre_LR = self.partition.clusters.centre_LD
        along_L = centre_LR[:, centre_LR.var(0).argmax()]  # the axis on which lists differ most
        self._place_L = along_L.argsort().argsort()
        if self.settings.routing == "graph":
            length = float(centre_LR.square().sum(1).mean().sqrt())
            self.graph = ListGraph(weight_LR, bias_L, length)
        self._scanned = self.faiss
        if self.settings.payload == "fastscan":
            self._scanned = faiss.IndexIVFPQFastScan(self.faiss)
            self._scanned.implem = _BY_QUERY
        else:
            self._scanned.parallel_mode = _QUERIES_AT_ONCE

    def _lists(self, routed_BR: Tensor, effort: int) -> Tensor:
        """The lists of each query, those of most expected yield first: int64 (B, P), -1 behind those it needs."""
        probes = self._probes(effort)
        if (graph := self._graph_for(probes)) is not None:
            return graph.nearest(routed_BR, probes, None if self._live_L is None else (self._live_L > 0).numpy())
        by_mass = self.settings.mass is not None and effort == 1 and not self._few_live
        gone_L = None if self._live_L is None else self._live_L == 0
        with torch.inference_mode():
            blocks = routed_BR.split(self._scores.rows)
            return torch.cat([self._chosen(block_BR, probes, gone_L, by_mass=by_mass) for block_BR in blocks])

    def _chosen(self, routed_BR: Tensor, probes: int, gone_L: Tensor | None, *, by_mass: bool) -> Tensor:
        network = self.partition.router.network
        if network is None and not by_mass:
            return self._scores.greatest(routed_BR, probes, gone_L)
        yield_BL = self._scores.all(routed_BR)
        if network is not None:
            yield_BL += network(routed_BR)
        if gone_L is not None:
            yield_BL.masked_fill_(gone_L, -torch.inf)
        top_BP, list_BP = greatest(yield_BL, probes)
        if not by_mass:
            return list_BP
        assert self.settings.mass is not None
        # the share of the neighbours is without the price of the size: of all lists, and of those chosen
        whole_B1 = (yield_BL + self._log_size_L).logsumexp(1, keepdim=True)
        share_BP = (top_BP + self._log_size_L[list_BP] - whole_B1).exp()
        enough_BP = share_BP.cumsum(1) - share_BP >= self.settings.mass
        return list_BP.masked_fill_(enough_BP, -1)

    @property
    def by_graph(self) -> bool:
        """Whether a usual query's lists are chosen through a graph."""
        return self._graph_for(self._probes(1)) is not None

    def _graph_for(self, probes: int) -> ListGraph | None:
        """The graph, where it chooses so many lists."""
        assert self.graph is None or self.settings.mass is None
        return self.graph if self.graph is not None and self.graph.pays(probes) and not self._few_live else None

    @property
    def _few_live(self) -> bool:
        """Whether so few rows can be found that the neighbours among them lie elsewhere than the router expects."""
        return self._live_L is not None and int(self._live_L.sum()) < _MOSTLY * self.faiss.ntotal

    def _probes(self, effort: int) -> int:
        """How many lists a query looks into at most."""
        assert self.settings.nprobe
        wanted, there = effort * self.settings.nprobe, self.faiss.nlist
        if self._live_L is not None:
            there = max(1, int((self._live_L > 0).sum()))
            usual, live = self.faiss.ntotal / self.faiss.nlist, int(self._live_L.sum()) / there
            wanted = math.ceil(wanted * max(1.0, usual / max(live, 1e-9)))
        return min(there, wanted)

    def _search(
        self, routed_BR: Tensor, list_BP: Tensor, row_BN: np.ndarray, distance_BN: np.ndarray, live: Any | None
    ) -> None:
        ready_BR, list_np = np.ascontiguousarray(routed_BR.numpy()), list_BP.numpy()
        coarse_BP = self._coarse(routed_BR, list_BP)
        parameters = faiss.SearchParametersIVF(nprobe=list_np.shape[1], sel=live)
        self._scanned.search_preassigned_c(
            len(ready_BR), faiss.swig_ptr(ready_BR), row_BN.shape[1], faiss.swig_ptr(list_np),
            faiss.swig_ptr(coarse_BP), faiss.swig_ptr(distance_BN), faiss.swig_ptr(row_BN), False, parameters,
        )  # fmt: skip

    def _coarse(self, routed_BR: Tensor, list_BP: Tensor) -> np.ndarray:
        """Squared distances to the lists' centres, which codes of residuals count from; zeros for other payloads."""
        if self.settings.payload not in _RESIDUAL:
            return np.zeros(list_BP.shape, np.float32)
        centre_LR = self.partition.clusters.centre_LD
        square_BL = centre_LR.square().sum(1) - 2 * routed_BR @ centre_LR.T
        chosen_BP = square_BL.gather(1, list_BP.clamp_min(0)) + routed_BR.square().sum(1, keepdim=True)
        return np.ascontiguousarray(chosen_BP.numpy())

    def append(self, routed_BR: Tensor, row_B: np.ndarray, list_B: np.ndarray) -> None:
        """Put routed vectors into lists under rows' numbers; `ready` is to be called when all are in."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        # named, not temporary: faiss takes pointers
        vector_BR = np.ascontiguousarray(routed_BR.numpy())
        id_B, home_B = np.ascontiguousarray(row_B, np.int64), np.ascontiguousarray(list_B, np.int64)
        swig = faiss.swig_ptr
        self.faiss.add_core(len(vector_BR), swig(vector_BR), swig(id_B), swig(home_B))

    def homes(self) -> Tensor:
        """A list of each row, int64 (rows,)."""
        home_N = np.full(self._rows, -1, np.int64)
        lists = self.faiss.invlists
        for number in range(self.faiss.nlist):
            if size := lists.list_size(number):
                home_N[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return torch.from_numpy(home_N)

    def save(self, path: Path) -> None:
        faiss.write_index(self.faiss, str(path))


_RESIDUAL = ("pq", "rabitq")


def _new_lists(settings: Tuned, partition: Partition) -> Any:
    centre_LR = np.ascontiguousarray(partition.clusters.centre_LD.numpy())
    lists, dim = centre_LR.shape
    quantizer = faiss.IndexFlatL2(dim)
    quantizer.add(centre_LR)
    l2 = faiss.METRIC_L2
    index: Any
    match settings.payload:
        case "flat":
            index = faiss.IndexIVFFlat(quantizer, dim, lists, l2)
        case "fp16" | "sq8":
            codec = faiss.ScalarQuantizer
            kind = codec.QT_fp16 if settings.payload == "fp16" else codec.QT_8bit
            index = faiss.IndexIVFScalarQuantizer(quantizer, dim, lists, kind, l2, False)
        case "rabitq":
            index = faiss.IndexIVFRaBitQ(quantizer, dim, lists, l2)
        case payload:
            bits = 8 if payload == "pq" else 4
            index = faiss.IndexIVFPQ(quantizer, dim, lists, settings.subvectors, bits, l2)
            index.pq.cp.seed = settings.seed
            index.pq.cp.min_points_per_centroid = 1
            index.by_residual = payload == "pq"  # FastScan: one table of a query serves all of its lists
    index.own_fields = True
    quantizer.this.disown()
    if settings.payload in ("flat", "fp16"):
        index.is_trained = True
    return index
