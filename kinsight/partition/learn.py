"""The `partition` job: vectors in, a partition out.

partition.json, ivfast.safetensors, ivfast.npy      the partition; see `artefact`
partition.png                                       recall against vectors scanned, learned and k-means
work/                                               what is done so far, while it is not finished

Shapes: N vectors of the file, S of the sample, H held out, L lists, K neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight import progress, storage
from kinsight.data.streaming import open_embeddings
from kinsight.data.vector_files import VectorFile
from kinsight.errors import DataError, SpecError
from kinsight.neighbors.vectors import row_norms
from kinsight.parallel.device import choose_precision, pick_device
from kinsight.partition.artefact import HEADER, Partition, PartitionHeader
from kinsight.partition.clusters import Clusters, balance, k_means
from kinsight.partition.devices import devices_with
from kinsight.partition.enough import decide_lists, held_of, refuse_alike, refuse_few
from kinsight.partition.exact import nearest_rows
from kinsight.partition.fit import FitPlan, FitState, fit
from kinsight.partition.measure import Truth
from kinsight.partition.routers import Router, best_scale, from_clusters
from kinsight.partition.space import Space, fit_space
from kinsight.partition.verdict import compare_with_start, draw_measured, print_measured, warn_if_in_vain
from kinsight.partition.work import Work
from kinsight.specs.load import as_tree, of
from kinsight.specs.partition import MlpRouter, PartitionSpec

PICTURE = "partition.png"
_SPACE_ROWS = 100_000
_ASKED = 2000  # queries that the space is measured by
_LR_SHARE = 0.02  # of the mean weight
MOST_HELD = 2000
"""Vectors that stay with the partition, for the tuning of indexes."""
_TRUTH = 100  # neighbours of held-out vectors, of which the first 1, 10 and 100 are looked for


def learn(spec: PartitionSpec | Mapping[str, Any], *, overwrite: bool = False) -> PartitionHeader:
    """Learn a partition; the same as `kinsight partition`. Gives its header.

    Goes on where it was stopped. Raises SpecError for settings that cannot work on these vectors, and for an output
    that holds a partition, unless `overwrite`; DataError for vectors with NaN, zero ones under cosine, or too few.
    """
    spec = of(PartitionSpec, spec)
    output = storage.OutputDir(spec.output)
    if storage.exists(output.address.child(HEADER)) and not overwrite:
        raise SpecError(
            "partition.occupied",
            "holds a partition",
            field=f"output={output.address}",
            remedy="choose another output, or --overwrite to learn it anew",
        )
    output.check_writable()
    learning = Learning.of(spec)
    settings = learning.settings()
    made = [folder for folder in (output.path, *output.path.parents) if not folder.exists()]
    with output:
        work = Work(output, settings, overwrite=overwrite)
        try:
            partition = learning.run(work)
        except DataError:  # with other vectors nothing of it can be gone on with
            work.clear()
            _remove_empty(made)
            raise
        # not by way of a copy in `output.path`: an upload that fails would have taken the old partition away
        header = partition.save(output.address)
        draw_measured(header, output.path / PICTURE)
        work.clear()
    return header


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def run(spec: PartitionSpec | Mapping[str, Any], *, overwrite: bool = False) -> PartitionHeader:
    """The `partition` job: `learn`, and what came of it on standard output."""
    header = learn(spec, overwrite=overwrite)
    print_measured(header)
    return header


@dataclass(frozen=True)
class Watch:
    """What a caller adds to the router's training.

    after_step: told the vectors of each step and its loss. after_epoch: told each state, once it is kept.
    loss_scale: as in FitPlan.
    """

    after_step: Callable[[int, float], None] | None = None
    after_epoch: Callable[[FitState], None] | None = None
    loss_scale: float | None = None


@dataclass
class Learning:
    """One run. source: the vectors. lists: how many. device: where lists are made; devices: where neighbours are sought
    and the router is trained, it among them.
    """

    spec: PartitionSpec
    source: VectorFile
    queries: VectorFile | None
    lists: int
    device: torch.device
    devices: tuple[torch.device, ...]
    model: str | None = None
    model_hash: str | None = None
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def of(cls, spec: PartitionSpec) -> "Learning":
        stream = open_embeddings(spec.vectors)
        source = stream.rows.for_metric(spec.metric)
        queries = open_embeddings(spec.queries).rows.for_metric(spec.metric) if spec.queries is not None else None
        if queries is not None and queries.dim != source.dim:
            raise DataError(
                "partition.dimension",
                f"queries have {queries.dim} dimensions, vectors {source.dim}",
                field="queries",
                remedy="embed both with the same model",
            )
        lists, device = decide_lists(spec, len(source)), pick_device(spec.device)
        refuse_few(spec, source if queries is None else queries)
        known = (stream.header.get("model"), stream.header.get("model_hash"))
        return cls(spec, source, queries, lists, device, devices_with(device), *known)

    def settings(self) -> dict[str, Any]:
        """What the stages kept depend on."""
        tree = {name: value for name, value in as_tree(self.spec).items() if name not in ("output", "device")}
        sources = [each for each in (self.source, self.queries) if each is not None]
        return {"spec": tree, "vectors": [each.fingerprint() for each in sources]}

    def run(self, work: Work) -> Partition:
        """All stages."""
        space = self._space(work)
        clusters = self._clusters(work, space)
        list_N, start_N = self._assigned(work, space, clusters)
        held, sample, held_HD = self._truth(work, space)
        router = self._router(work, space, clusters, list_N, sample)
        size_L = torch.bincount(list_N, minlength=self.lists)
        partition = Partition(self._header({}), space, clusters, router, size_L.float(), held_HD)
        measured = compare_with_start(partition, held, list_N, start_N)
        warn_if_in_vain(measured)
        return replace(partition, header=self._header(measured))

    def _space(self, work: Work) -> Space:
        def made() -> dict[str, Tensor]:
            vector_MD = torch.from_numpy(self.source.take(self._some(_SPACE_ROWS, 1)))
            asked = None
            if self.queries is not None:
                row_Q = self._query_rows[1]
                asked = torch.from_numpy(self.queries.take(row_Q[:: -(-len(row_Q) // _ASKED)]))
            return fit_space(vector_MD, self.spec.metric, self.spec.components, self._lengths(), asked).tensors()

        return Space.from_tensors(self.spec.metric, self.source.dim, work.stage("space", made))

    def _lengths(self) -> Tensor | None:
        """Of all vectors, under ip: the longest one decides."""
        if self.spec.metric != "ip":
            return None
        blocks = (torch.from_numpy(row_BD) for _, row_BD in self.source.blocks())
        return torch.cat([row_norms(row_BD, "vectors", "ip") for row_BD in blocks])

    def _clusters(self, work: Work, space: Space) -> Clusters:
        cluster = self.spec.cluster

        def made() -> dict[str, Tensor]:
            vector_MD = self.source.take(self._some(cluster.per_list * self.lists, 2))
            refuse_alike(self.spec, vector_MD, self.lists)
            vector_MR = space.rows(torch.from_numpy(vector_MD)).to(self.device)
            generator = torch.Generator().manual_seed(self.spec.seed)
            with progress.task("k-means", cluster.iterations, "rounds") as task:
                start = k_means(
                    vector_MR,
                    self.lists,
                    iterations=cluster.iterations,
                    spherical=self.spec.metric == "cosine" and space.projection is None,
                    generator=generator,
                    advance=task.advance,
                )
            found = balance(vector_MR, start, rounds=cluster.balance_rounds, rate=cluster.balance_rate)
            return {"centre": found.centre_LD, "price": found.price_L}

        kept = work.stage("clusters", made)
        return Clusters(kept["centre"], kept["price"])

    def _assigned(self, work: Work, space: Space, clusters: Clusters) -> tuple[Tensor, Tensor]:
        """The list of each vector, and what it would be without prices: int64 (N,) each."""

        def made() -> dict[str, Tensor]:
            ours, start = [], []
            here = clusters.to(self.device)
            free = Clusters(here.centre_LD, torch.zeros_like(here.price_L))
            with progress.task("assign", len(self.source), "vectors") as task:
                for _, row_BD in self.source.blocks():
                    row_BR = space.rows(torch.from_numpy(row_BD)).to(self.device)
                    ours.append(here.assign(row_BR)[0].int().cpu())
                    start.append(free.assign(row_BR)[0].int().cpu())
                    task.advance(len(row_BD))
            return {"list": torch.cat(ours), "start": torch.cat(start)}

        kept = work.stage("lists", made)
        return kept["list"].long(), kept["start"].long()

    def _truth(self, work: Work, space: Space) -> tuple["Truth", "Truth", Tensor]:
        """Held out, and to learn from: queries and their neighbours among all vectors; and of those held out some as
        the user gave them.
        """
        held_row_H, sample_row_S = self._query_rows
        source = self.queries or self.source

        def found(row_Q: np.ndarray, here: Space, k: int, stage: str, shown: str) -> tuple[Tensor, Tensor]:
            query_QD = torch.from_numpy(source.take(row_Q))
            query_QR = here.queries(query_QD).to(self.device)  # lengths are summed in float64, which MPS has not
            own_Q = torch.from_numpy(row_Q) if self.queries is None else None
            near_QK = nearest_rows(
                work, stage, self.source, here, query_QR, k, own_Q=own_Q, devices=self.devices, shown=shown
            )
            return query_QD, near_QK

        def made_held() -> dict[str, Tensor]:
            # measured by the metric, not by its principal components
            query_QD, near_QK = found(held_row_H, space.whole, self._truth_k(_TRUTH), "held", "held out")
            kept_M = np.sort(np.random.default_rng([self.spec.seed, 4]).permutation(len(held_row_H))[:MOST_HELD])
            kept_MD = query_QD[torch.from_numpy(kept_M).to(query_QD.device)]
            return {"query": space.queries(query_QD), "near": near_QK.int(), "held": kept_MD.float().clone()}

        def made_sample() -> dict[str, Tensor]:
            # in the components, where it is as many times quicker as they are fewer; targets need not be exact
            k = self._truth_k(self.spec.targets.neighbors)
            query_QD, near_QK = found(sample_row_S, space, k, "truth", "neighbours")
            return {"query": space.queries(query_QD), "near": near_QK.int()}

        held, sample = work.stage("held", made_held), work.stage("truth", made_sample)
        asked, learned = (Truth(each["query"], each["near"].long()) for each in (held, sample))
        return asked, learned, held["held"]

    def _router(self, work: Work, space: Space, clusters: Clusters, list_N: Tensor, sample: "Truth") -> Router:
        spec = self.spec
        query_SR = sample.query_QR.to(self.device)
        list_SKC = list_N[sample.near_QK[:, : spec.targets.neighbors]][:, :, None].to(self.device)
        here = clusters.to(self.device)
        some = slice(None, None, -(-len(query_SR) // 4096))  # rows may stand in the order of what they show
        scale = best_scale(here, query_SR[some], list_SKC[some])
        hidden = spec.router.hidden if isinstance(spec.router, MlpRouter) else ()
        dropout = spec.router.dropout if isinstance(spec.router, MlpRouter) else 0.0
        torch.manual_seed(spec.seed)
        router = from_clusters(here, scale, hidden, dropout).to(self.device)
        lr = spec.fit.lr or _LR_SHARE * float(router.weight.detach().abs().mean())
        plan = FitPlan(
            epochs=spec.fit.epochs,
            warmup_epochs=spec.fit.warmup_epochs,
            batch_size=min(spec.fit.batch_size, len(query_SR)),
            lr=lr,
            seed=spec.seed,
            arithmetic=choose_precision(spec.fit.precision, self.device),
            loss_scale=self.watch.loss_scale,
            devices=self.devices,
        )
        state = work.fit_state()
        with progress.task("router", spec.fit.epochs * len(query_SR), "vectors") as task:
            task.advance((state.epoch if state else 0) * len(query_SR))

            def after_step(number: int, loss: float) -> None:
                task.advance(number, detail=f"loss {loss:.3f}")
                if self.watch.after_step is not None:
                    self.watch.after_step(number, loss)

            def after_epoch(now: FitState) -> None:
                work.keep_fit(now)
                if self.watch.after_epoch is not None:
                    self.watch.after_epoch(now)

            fit(
                router,
                query_SR,
                list_SKC,
                plan,
                state=state,
                after_step=after_step,
                after_epoch=after_epoch,
            )
        return router.cpu().eval()

    @cached_property
    def _query_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows held out, and those to learn routing from, of the queries or else of the vectors: ascending."""
        source = self.queries or self.source
        held = held_of(self.spec, len(source))
        if self.spec.held_out is not None and held < self.spec.held_out:
            progress.warn(
                f"held_out={self.spec.held_out:,}: only {len(source):,} to choose from; {held:,} are held out"
            )
        order_Q = np.random.default_rng([self.spec.seed, 3]).permutation(len(source))
        return np.sort(order_Q[:held]), np.sort(order_Q[held : held + self.spec.targets.sample])

    def _truth_k(self, wanted: int) -> int:
        return min(wanted, len(self.source) - 1)

    def _some(self, number: int, stream: int) -> np.ndarray:
        """Numbers of some rows, ascending, none of them held out; each stage draws its own."""
        row_N = np.arange(len(self.source))
        if self.queries is None:
            row_N = np.delete(row_N, self._query_rows[0])
        if number >= len(row_N):
            return row_N
        drawn = np.random.default_rng([self.spec.seed, stream]).choice(len(row_N), number, replace=False)
        return np.sort(row_N[drawn])

    def _header(self, measured: dict[str, Any]) -> PartitionHeader:
        spec = self.spec
        return PartitionHeader(
            metric=spec.metric,
            dim=self.source.dim,
            lists=self.lists,
            hidden=tuple(spec.router.hidden) if isinstance(spec.router, MlpRouter) else (),
            model=self.model,
            model_hash=self.model_hash,
            measured=measured,
            spec=as_tree(spec),
        )
