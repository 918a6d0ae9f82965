"""The `partition evaluate` job: what a partition saves, on a base and queries of the user's own.

evaluation.json    every variant: recall against lists looked into, entries scanned, 95th percentile, routing, storage
evaluation.png     recall against entries scanned
work/              what is done so far, while it is not finished

Beside the partition, with copies by each rule and budget, stand k-means with the same lists and, for every budget,
k-means with lists times (1 + budget), learned from the same vectors.

Shapes: N base vectors, Q queries, K true rows, L lists.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from kinsight import progress, storage
from kinsight.data.streaming import open_embeddings
from kinsight.data.vector_files import VectorFile
from kinsight.errors import DataError, SpecError
from kinsight.parallel.device import pick_device
from kinsight.partition.artefact import Partition
from kinsight.partition.clusters import Clusters, k_means
from kinsight.partition.exact import nearest_rows
from kinsight.partition.given import that_count, true_rows
from kinsight.partition.measure import RECALLS, by_distance, by_yield, probes_of
from kinsight.partition.plots import Series, pareto
from kinsight.partition.space import Space
from kinsight.partition.variants import Exam, Near, Variant, homes, judged_by, measured, neighbours, spread
from kinsight.partition.work import Work
from kinsight.specs.load import as_tree, of
from kinsight.specs.partition import PartitionEvaluateSpec, PartitionSpec
from kinsight.specs.stored import lenient

RESULT, PICTURE = "evaluation.json", "evaluation.png"
_NEAREST = 100


def evaluate(spec: PartitionEvaluateSpec | Mapping[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
    """Measure; what evaluation.json holds. Goes on where it was stopped.

    Raises SpecError for an output that holds an evaluation, unless `overwrite`, and settings that cannot work;
    DataError, StorageError for vectors and rows of no use.
    """
    spec = of(PartitionEvaluateSpec, spec)
    output = storage.OutputDir(spec.output or str(storage.Address.parse(spec.partition).child("evaluation")))
    if storage.exists(output.address.child(RESULT)) and not overwrite:
        raise SpecError(
            "partition.evaluated",
            "holds an evaluation",
            field=f"output={output.address}",
            remedy="choose another output, or --overwrite to measure anew",
        )
    partition = Partition.load(spec.partition)
    output.check_writable()
    with output:
        told = _told(spec, partition, output)
        pareto(_panels(told["variants"], told["identity"]), output.path / PICTURE, title=_title(told))
        storage.write_text(output.path / RESULT, json.dumps(told, indent=1) + "\n")
        Work(output, {}, overwrite=True).clear()
    return told


def run(spec: PartitionEvaluateSpec | Mapping[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
    """The job: `evaluate`, and its table on standard output."""
    told = evaluate(spec, overwrite=overwrite)
    print_table(told)
    return told


def _told(spec: PartitionEvaluateSpec, partition: Partition, output: storage.OutputDir) -> dict[str, Any]:
    header = partition.header
    base = open_embeddings(spec.base).rows.for_metric(header.metric)
    queries = open_embeddings(spec.queries, dataset="test").rows.for_metric(header.metric)
    for name, each in (("base", base), ("queries", queries)):
        if each.dim != header.dim:
            raise DataError(
                "partition.dimension",
                f"{each.place} has {each.dim} dimensions, the partition {header.dim}",
                field=name,
                remedy="give vectors of the same model",
            )
    given = None if spec.truth is None else true_rows(spec.truth, len(queries), len(base))
    device, query_QD = pick_device(spec.device), torch.from_numpy(queries.take(np.arange(len(queries))))
    tree = {name: value for name, value in as_tree(spec).items() if name not in ("output", "device")}
    state = {"spec": tree, "vectors": _fingerprints(spec, partition, base, queries, given), "files": header.files}
    work = Work(output, state, overwrite=True)
    whole = _whole(partition.space, base)
    if given is None or spec.truth is None:
        truth_QK = _nearest(work, whole, base, query_QD, device)
    else:
        query_QD, truth_QK = that_count(query_QD, given, spec.truth)
    exam = Exam(base, partition.space, whole, query_QD, truth_QK, spec.identity, spec.probes, device)
    rows = [measured(each, exam, _probes(spec, each.lists)) for each in _variants(spec, partition, exam, work)]
    return {
        "partition": spec.partition,
        "metric": header.metric,
        "base": {"address": spec.base, "vectors": len(base), "dim": base.dim},
        "queries": {"address": spec.queries, "number": len(query_QD)},
        "truth": spec.truth or f"the nearest {truth_QK.shape[1]}, exact",
        "identity": spec.identity,
        "variants": rows,
    }


def _fingerprints(
    spec: PartitionEvaluateSpec, partition: Partition, base: VectorFile, queries: VectorFile, given: Tensor | None
) -> list[list[Any]]:
    """What the stages kept depend on, beside settings and partition."""
    found = [base.fingerprint(), queries.fingerprint()]
    if given is not None:
        found.append([hashlib.sha256(given.numpy().tobytes()).hexdigest()])
    if max(spec.budgets) > 0:
        address = spec.vectors or _made_by(partition).vectors
        if spec.vectors is not None or storage.exists(address):
            found.append(open_embeddings(address).rows.fingerprint())
    return found


def _made_by(partition: Partition) -> PartitionSpec:
    """The settings it was learned with."""
    try:
        return lenient(PartitionSpec.model_validate, partition.header.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"does not say how it was learned: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        remedy = "learn it again, or leave further copies out: --budgets 0"
        raise DataError("partition.spec", what, field="partition", remedy=remedy) from None


def _variants(spec: PartitionEvaluateSpec, partition: Partition, exam: Exam, work: Work) -> list[Variant]:
    space, device, lists = partition.space, exam.device, partition.header.lists
    projection = space.multiply_adds
    router = partition.router.to(device).eval()
    list_N = _homes(work, "homes", exam, partition.clusters)

    def learned(name: str, rule: str | None, budget: float, list_NC: Tensor) -> Variant:
        score = lambda size_L: by_yield(router, size_L)  # noqa: E731
        return Variant(name, "learned", rule, budget, list_NC, score, router.multiply_adds + projection, lists)

    found = [learned("learned", None, 0.0, list_N[:, None])] if 0 in spec.budgets else []
    budgets = sorted({budget for budget in spec.budgets if budget > 0})
    near = None
    if budgets and "misses" in spec.copies:
        kept = work.stage("near", lambda: _plain(neighbours(work, "near", exam, spec.sample, spec.seed)))
        near = Near(kept["row"].long(), kept["near"].long())
    for rule in dict.fromkeys(spec.copies) if budgets else ():
        spreads = spread(rule, budgets, exam.base, partition, list_N, near, device)
        for budget, list_NC in zip(budgets, spreads, strict=True):
            found.append(learned(f"learned, {rule} {budget:g}", rule, budget, list_NC))
    start = Clusters(partition.clusters.centre_LD, torch.zeros(lists))
    found.append(
        _plain_k_means(f"k-means, {lists:,} lists", start, _homes(work, "start", exam, start), device, projection)
    )
    for budget in budgets:
        more = round(lists * (1 + budget))
        clusters = _k_means(spec, partition, more, work, device)
        if clusters is not None:
            homes_N = _homes(work, f"k-means-{more}", exam, clusters)
            found.append(_plain_k_means(f"k-means, {more:,} lists", clusters, homes_N, device, projection))
    return found


def _plain_k_means(name: str, clusters: Clusters, list_N: Tensor, device: torch.device, projection: int) -> Variant:
    here, cost = clusters.to(device), clusters.centre_LD.numel() + projection
    score = by_distance(here)
    return Variant(name, "k-means", None, 0.0, list_N[:, None], lambda _: score, cost, len(clusters.price_L))


def _k_means(
    spec: PartitionEvaluateSpec, partition: Partition, lists: int, work: Work, device: torch.device
) -> Clusters | None:
    """With more lists, from the vectors that the partition learned from, as it was begun; None where they are gone."""
    made_by = _made_by(partition)
    address = spec.vectors or made_by.vectors
    if spec.vectors is None and not storage.exists(address):
        progress.warn(f"no k-means with {lists:,} lists: {address}, which the partition learned from, is not there")
        return None
    source = open_embeddings(address).rows.for_metric(partition.header.metric)
    if len(source) < lists:
        progress.warn(f"{len(source):,} vectors in {address}: too few for k-means with {lists:,} lists")
        return None

    def made() -> dict[str, Tensor]:
        wanted = min(len(source), made_by.cluster.per_list * lists)
        random = np.random.default_rng([spec.seed, 2])
        row_M = np.sort(random.choice(len(source), wanted, replace=False))
        vector_MR = partition.space.rows(torch.from_numpy(source.take(row_M))).to(device)
        with progress.task(f"k-means, {lists:,} lists", made_by.cluster.iterations, "rounds") as task:
            found = k_means(
                vector_MR,
                lists,
                iterations=made_by.cluster.iterations,
                spherical=partition.header.metric == "cosine" and partition.space.projection is None,
                generator=torch.Generator().manual_seed(spec.seed),
                advance=task.advance,
            )
        return {"centre": found.centre_LD, "price": found.price_L}

    kept = work.stage(f"centres-{lists}", made)
    return Clusters(kept["centre"], kept["price"])


def _homes(work: Work, name: str, exam: Exam, clusters: Clusters) -> Tensor:
    kept = work.stage(name, lambda: {"list": homes(exam.base, exam.space, clusters, exam.device, f"assign, {name}")})
    return kept["list"]


def _plain(near: Near) -> dict[str, Tensor]:
    return {"row": near.row_S, "near": near.near_SK.int()}


def _nearest(work: Work, whole: Space, base: VectorFile, query_QD: Tensor, device: torch.device) -> Tensor:
    """The nearest rows of the base, int64 (Q, K)."""

    def made() -> dict[str, Tensor]:
        query_QR, k = whole.queries(query_QD).to(device), min(_NEAREST, len(base))
        near_QK = nearest_rows(work, "truth", base, whole, query_QR, k, shown="exact neighbours")
        return {"near": near_QK.int()}

    return work.stage("truth", made)["near"].long()


def _whole(space: Space, base: VectorFile) -> Space:
    """Where squared distances rank this base as the metric does: its lengths may be only nearly alike."""
    if space.metric != "ip":
        return space.whole
    longest = max(float(np.linalg.norm(row_BD.astype(np.float64), axis=1).max()) for _, row_BD in base.blocks())
    return Space(space.metric, space.dim, longest, None)


def _probes(spec: PartitionEvaluateSpec, lists: int) -> list[int]:
    if spec.probes is None:
        return probes_of(lists)
    if max(spec.probes) > lists:
        raise SpecError("partition.probes", f"there are {lists} lists", field=f"probes={max(spec.probes)}")
    return sorted(set(spec.probes))


def _title(told: dict[str, Any]) -> str:
    return f"{told['base']['vectors']:,} vectors, {told['queries']['number']:,} queries, {told['metric']}"


def _panels(variants: list[dict[str, Any]], identity: bool) -> list[tuple[str, list[Series]]]:
    names = {"in_lists": "true rows in the lists looked into", "top1": "top-1 is a true row"}
    if not identity:
        names = {judged_by(variants[0]): judged_by(variants[0])}
    return [
        (shown, [Series(row["name"], row["scanned"], row[name], row["kind"] == "k-means") for row in variants])
        for name, shown in names.items()
    ]


def print_table(told: dict[str, Any]) -> None:
    """What each variant costs, on standard output."""
    from rich.console import Console
    from rich.table import Table

    judged = judged_by(told["variants"][0])
    what = "recall of true rows in the lists looked into" if told["identity"] else judged
    table = Table(
        title=f"{_title(told)}: share of the base scanned for {what}",
        caption="scanned: entries, copies counted; route: multiply-adds of choosing lists, of those of a full scan; "
        "stored: entries of a vector; uneven: 1 for lists of equal size",
    )
    for name in ("", *(f"{100 * recall:g}%" for recall in RECALLS), "route", "stored", "uneven"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in told["variants"]:
        costs = ["-" if cost is None else f"{100 * cost:.3g}%" for cost in row["scanned_for"].values()]
        shown = [f"{100 * row['routing']:.3g}%", f"{row['stored']:.4g}", f"{row['imbalance']:.2f}"]
        table.add_row(row["name"].replace("learned, ", "  copies: "), *costs, *shown)
    Console(highlight=False).print(table)
