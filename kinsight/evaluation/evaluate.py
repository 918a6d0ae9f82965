"""The `evaluate` job: how well do embeddings retrieve and verify?

metrics.json      flat: `recall@1`, `map@r`, `r_precision`, ..., with `<name>.low` and `<name>.high` bounds
per_class.csv     a row per class: name, queries, recall@1, r_precision, map@r
retrieval.png     queries with their nearest neighbours, mistakes among them
evaluation.json   what was evaluated; written last
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight import __version__, progress, storage
from kinsight.data import read_records, require_images
from kinsight.errors import DataError
from kinsight.evaluation import vectors
from kinsight.evaluation.embed import open_loader, open_model
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model
from kinsight.evaluation.pictures import draw_retrieval
from kinsight.metrics import (
    RetrievalResult,
    bootstrap_intervals,
    class_table,
    draw_pairs,
    retrieval_metrics,
    verification_metrics,
)
from kinsight.progress import clean
from kinsight.specs.data import Source
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.load import as_tree, of

FORMAT = "kinsight-evaluation"
VERSION = 1
HEADER = "evaluation.json"


@dataclass(frozen=True)
class Side:
    """Labelled vectors: the queries, or the gallery. name_N: class name of each row."""

    vector_ND: Tensor
    label_N: Tensor
    uri_N: list[str]
    class_names: tuple[str, ...]
    broken: list[tuple[str, str]]
    fingerprint: str | None


@dataclass(frozen=True)
class EvaluationResult:
    """metrics: the flat content of metrics.json (None where the data cannot tell). output: the folder's address."""

    metrics: dict[str, float | None]
    output: str


def evaluate(spec: EvaluateSpec | Mapping[str, Any]) -> EvaluationResult:
    """Measure retrieval and verification; the same as `kinsight evaluate`. Replaces what is at the output."""
    spec = of(EvaluateSpec, spec)
    output = storage.OutputDir(spec.output)
    output.check_writable()
    model = None
    if spec.embeddings is not None:
        query = _stored(spec.embeddings)
        gallery = _stored(spec.gallery_embeddings) if spec.gallery_embeddings is not None else None
    else:
        model = open_model(spec)
        assert spec.data is not None, "the spec has seen to it"
        query = _embedded(spec, model, spec.data, "data")
        gallery = _embedded(spec, model, spec.gallery, "gallery") if spec.gallery is not None else None
    if gallery is not None:
        query, gallery = _same_vocabulary(query, gallery)
    with output:
        return _measure(spec, model, query, gallery, output)


def _embedded(spec: EvaluateSpec, model: Model, source: Source, field: str) -> Side:
    records = read_records(source, own_vocabulary=True)
    require_images(records, source, field=field)
    for note in records.notes:
        progress.warn(note)
    label_N = records.label_N
    with open_loader(spec, model, records, labelled=True) as loader:
        with progress.task(f"embed {field}", len(records), "images") as task:
            found = embed_records(
                model.net, loader, model.device, model.arithmetic, batch_size=spec.batch_size, task=task
            )
        uris = [records.uri(index) for index in found.index_N]
        labels = torch.from_numpy(label_N[found.index_N])
        return Side(found.emb_ND, labels, uris, records.class_names, loader.broken, records.fingerprint)


def _stored(address: str) -> Side:
    stored = vectors.load_embeddings(address)
    unlabelled = int((stored.label_N < 0).sum())
    if unlabelled:
        raise DataError(
            "embeddings.labels",
            f"{unlabelled} of {len(stored.label_N)} vectors have no single label to be evaluated by",
            field=address,
            remedy="embed a labelled source",
        )
    names = stored.class_names or tuple(
        str(label) for label in range(int(stored.label_N.max()) + 1 if len(stored.label_N) else 0)
    )
    return Side(stored.vector_ND, stored.label_N, stored.uri_N, names, [], stored.header.get("data_fingerprint"))


def _same_vocabulary(query: Side, gallery: Side) -> tuple[Side, Side]:
    """Both sides with one numbering: classes are the same when their names are."""
    if query.vector_ND.shape[1] != gallery.vector_ND.shape[1]:
        raise DataError(
            "embeddings.shape",
            f"queries have length {query.vector_ND.shape[1]}, the gallery {gallery.vector_ND.shape[1]}",
            field="gallery",
            remedy="embed both with the same model",
        )
    names = list(dict.fromkeys([*gallery.class_names, *query.class_names]))
    number = {name: index for index, name in enumerate(names)}

    def renumbered(side: Side) -> Side:
        table = torch.tensor([number[name] for name in side.class_names])
        label_N = table[side.label_N]
        return Side(side.vector_ND, label_N, side.uri_N, tuple(names), side.broken, side.fingerprint)

    return renumbered(query), renumbered(gallery)


def _measure(
    spec: EvaluateSpec, model: Model | None, query: Side, gallery: Side | None, output: storage.OutputDir
) -> EvaluationResult:
    device = model.device if model is not None else torch.device("cpu")
    searched = gallery or query
    with progress.task("rank", None, "queries") as task:
        retrieval = retrieval_metrics(
            searched.vector_ND,
            searched.label_N,
            query=(query.vector_ND, query.label_N) if gallery is not None else None,
            ks=spec.ks,
            whole=True,
            metric=spec.metric,
            device=device,
        )
        task.advance(len(query.label_N))
    metrics, reasons, thresholds = _flat_metrics(spec, query, gallery, retrieval)
    storage.write_text(output.path / "metrics.json", json.dumps(clean(metrics), indent=1) + "\n")
    storage.write_text(output.path / "per_class.csv", _per_class(query, retrieval))
    if model is not None:
        draw_retrieval(spec, model, query, gallery, retrieval, metrics, output.path / "retrieval.png")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "model": model.name if model is not None else spec.embeddings,
        "model_hash": model.content_hash if model is not None else None,
        "ties": "equal similarity: the earlier item of the gallery first",
        "protocol": "query and gallery" if gallery is not None else "leave-one-out",
        "data_fingerprint": query.fingerprint,
        "gallery_fingerprint": gallery.fingerprint if gallery is not None else None,
        "thresholds": thresholds,
        "not_measurable": reasons,
        "broken_images": [
            {"image": uri, "reason": why} for side in (query, gallery) if side is not None for uri, why in side.broken
        ],
        "spec": as_tree(spec),
    }
    storage.write_text(output.path / HEADER, json.dumps(clean(header), indent=1, ensure_ascii=False) + "\n")
    if spec.save_embeddings:
        _save_embeddings(output.path / "embeddings", query, model)
    output.publish(HEADER)
    _print(spec, metrics)
    return EvaluationResult(clean(metrics), spec.output)


def _flat_metrics(
    spec: EvaluateSpec, query: Side, gallery: Side | None, retrieval: RetrievalResult
) -> tuple[dict[str, Any], dict[str, str], dict[str, float]]:
    """All numbers by flat name, why some are missing, and the thresholds behind the verification numbers."""
    metrics: dict[str, Any] = dict(retrieval.means)
    reasons: dict[str, str] = {}
    if spec.bootstrap:
        try:
            intervals = bootstrap_intervals(
                retrieval.class_Q,
                retrieval.per_query,
                confidence=spec.confidence,
                resamples=spec.bootstrap,
                seed=spec.seed,
            )
        except DataError as error:
            reasons["intervals"] = error.message
        else:
            for name, interval in intervals.items():
                metrics[f"{name}.low"], metrics[f"{name}.high"] = interval.low, interval.high
    thresholds: dict[str, float] = {}
    sides = [side for side in (query, gallery) if side is not None]
    try:
        pairs = draw_pairs(
            torch.cat([side.vector_ND for side in sides]),
            torch.cat([side.label_N for side in sides]),
            max_pairs=spec.max_pairs,
            seed=spec.seed,
            metric=spec.metric,
        )
    except DataError as error:
        reasons["verification"] = error.message
    else:
        verification = verification_metrics(pairs.same_P, pairs.different_P, fprs=spec.fprs, seed=spec.seed)
        metrics |= verification.means
        reasons |= verification.reasons
        thresholds = verification.thresholds
        metrics["same_pairs"], metrics["different_pairs"] = len(pairs.same_P), len(pairs.different_P)
    metrics["queries"], metrics["queries_without_match"] = retrieval.num_queries, retrieval.num_skipped
    metrics["gallery"] = len((gallery or query).label_N)
    metrics["classes"] = int(torch.unique(query.label_N).numel())
    metrics["broken_images"] = sum(len(side.broken) for side in sides)
    return metrics, reasons, thresholds


def _per_class(query: Side, retrieval: RetrievalResult) -> str:
    names = [name for name in ("recall@1", "r_precision", "map@r") if name in retrieval.per_query]
    table = class_table(retrieval.class_Q, retrieval.per_query, names)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "queries", *names])
    order = np.argsort(table.column[names[0]].numpy(), kind="stable")
    for row in order.tolist():
        values = [f"{float(table.column[name][row]):.6f}" for name in names]
        writer.writerow([query.class_names[int(table.class_C[row])], int(table.count_C[row]), *values])
    return text.getvalue()


def _save_embeddings(folder: Path, side: Side, model: Model | None) -> None:
    import pyarrow as pa

    storage.make_directory(folder)
    count = len(side.label_N)
    starts = range(0, count, vectors.SHARD_ROWS)
    for number, start in enumerate(starts):
        rows = slice(start, start + vectors.SHARD_ROWS)
        labels = pa.array([[label] for label in side.label_N[rows].tolist()], pa.list_(pa.int32()))
        ids = np.arange(count)[rows]
        uris = pa.array(side.uri_N[rows], pa.string())
        vectors.write_shard(folder / vectors.shard_name(number), ids, labels, uris, side.vector_ND[rows].numpy())
    fields = {
        "kinsight": __version__,
        "storage": "parquet",
        "count": count,
        "dim": side.vector_ND.shape[1],
        "shards": len(starts),
        "normalized": False,
        "class_names": side.class_names,
        "model": model.name if model is not None else None,
        "model_hash": model.content_hash if model is not None else None,
        "data_fingerprint": side.fingerprint,
    }
    vectors.write_header(folder, fields)


def _print(spec: EvaluateSpec, metrics: dict[str, Any]) -> None:
    """The headline numbers, on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    percent = f"{100 * spec.confidence:g} %"
    for title in ("metric", "value", f"{percent} interval"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for name, value in metrics.items():
        if name.endswith((".low", ".high")) or name.startswith("cmc@"):
            continue
        shown = "not measurable" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
        table.add_row(name, shown, f"{low:.4f} to {high:.4f}" if low is not None and high is not None else "")
    Console(highlight=False).print(table)
    progress.say(f"written to  {spec.output}")
