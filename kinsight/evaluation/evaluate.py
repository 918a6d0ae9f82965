"""The `evaluate` job: how well do embeddings retrieve and verify? For classifiers see `evaluate_classes`.

metrics.json      flat: `recall@1`, `map@r`, `r_precision`, ..., with `<name>.low` and `<name>.high` bounds
per_class.csv     a row per class (label, where images have several), worst first: name, queries, recall@1, r_precision,
                  map@r
retrieval.png     queries with their nearest neighbours, mistakes among them; where the images can be had
report/           index.html: all of it on one page, for people; see `reports.page`
embeddings/       with `save_embeddings`: see `vectors`; `gallery-embeddings/` where there is a gallery
evaluation.json   what was evaluated, and why a number is missing; written last
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from kinsight import __version__, storage
from kinsight.data import vectors
from kinsight.errors import SpecError
from kinsight.evaluation.embed import open_model
from kinsight.evaluation.evaluate_classes import evaluate_classes, judged_task
from kinsight.evaluation.matching import Wanted, wanted_relation
from kinsight.evaluation.measure import Measured, measure
from kinsight.evaluation.model import Model
from kinsight.evaluation.pictures import draw_retrieval
from kinsight.evaluation.printed import print_class_metrics, print_metrics
from kinsight.evaluation.report import broken_images, evaluated, facts
from kinsight.evaluation.settings import differing_fields, printed_tree, printed_yaml
from kinsight.evaluation.sides import Side, embedded_sides, stored_sides
from kinsight.evaluation.thresholds import keep_thresholds
from kinsight.evaluation.variants import add_variants, check_improvements
from kinsight.metrics import RetrievalResult, class_table, label_table
from kinsight.models import Task
from kinsight.progress import clean
from kinsight.reports.evaluated import Report
from kinsight.reports.page import FOLDER, PAGE, write_report
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.load import of

FORMAT = "kinsight-evaluation"
VERSION = 1
HEADER = "evaluation.json"
# What may differ between an evaluation and the one that replaces it: how it is computed and shown.
_MACHINE = ("output", "workers", "device", "batch_size", "max_broken", "precision", "report", "save_embeddings")
METRICS, CLASSES, PICTURE = "metrics.json", "per_class.csv", "retrieval.png"
EMBEDDINGS, GALLERY_EMBEDDINGS = "embeddings", "gallery-embeddings"
_OTHERS = {
    "run.json": "a training run",
    "checkpoints": "a training run",
    "bundle.json": "a model bundle",
    vectors.HEADER: "embeddings",
    "index.json": "an index",
}


@dataclass(frozen=True)
class EvaluationResult:
    """metrics: the flat content of metrics.json (None where the data cannot tell). output: the folder's address."""

    metrics: dict[str, float | None]
    output: str
    task: Task = "metric"


def run(spec: EvaluateSpec | Mapping[str, Any], *, overwrite: bool = False) -> EvaluationResult:
    """The `evaluate` job: `evaluate`, and the headline numbers on standard output."""
    spec = of(EvaluateSpec, spec)
    result = evaluate(spec, overwrite=overwrite)
    if result.task == "metric":
        print_metrics(spec, result.metrics)
    else:
        print_class_metrics(spec, result.metrics)
    return result


def evaluate(spec: EvaluateSpec | Mapping[str, Any], *, overwrite: bool = False) -> EvaluationResult:
    """Measure retrieval and verification, or a classifier by its classes; what `kinsight evaluate` does.

    An evaluation of the same settings at the output is replaced, one of others with `overwrite` alone. Raises
    KinsightError: SpecError, also for an output that holds something else; StorageError; DataError for data that no
    metric can be computed on.
    """
    spec = of(EvaluateSpec, spec)
    output = storage.OutputDir(spec.output)
    _refuse_occupied(output.address)
    if not overwrite:
        _refuse_other_settings(spec, output.address)
    task = judged_task(spec)
    output.check_writable()
    if task != "metric":
        return EvaluationResult(evaluate_classes(spec, output), spec.output, task)
    wanted = wanted_relation(spec)
    if spec.embeddings is not None:
        model = None
        query, gallery, matching = stored_sides(spec, wanted)
    else:
        model = open_model(spec)
        query, gallery, matching = embedded_sides(spec, model, wanted)
    check_improvements(spec, query, gallery)
    device = model.device if model is not None else torch.device("cpu")
    found = measure(spec, query, gallery, device, matching)
    add_variants(spec, query, gallery, device, found, _origin(spec, model))
    with output:
        _write(spec, wanted, model, query, gallery, found, output)
    if spec.bundle is not None and spec.write_thresholds:
        uris = chain.from_iterable(side.uri_N.to_pylist() for side in (query, gallery) if side is not None)
        keep_thresholds(spec.bundle, found.decision, gallery.fingerprint if gallery is not None else None, uris)
    return EvaluationResult(clean(found.metrics), spec.output)


def _refuse_occupied(output: storage.Address) -> None:
    """An evaluation's files among those of another artefact could be told apart by nobody."""
    for name, what in _OTHERS.items():
        if storage.exists(output.child(name)):
            raise SpecError(
                "evaluate.occupied",
                f"holds {what}",
                field=f"output={output}",
                remedy="choose another folder, such as one beside it",
            )


def _refuse_other_settings(spec: EvaluateSpec, output: storage.Address) -> None:
    header = output.child(HEADER)
    try:
        before = json.loads(storage.read_text(header)).get("spec") if storage.exists(header) else None
    except (ValueError, AttributeError):
        before = None
    differing = differing_fields(before, printed_tree(spec), _MACHINE) if isinstance(before, dict) else []
    if differing:
        raise SpecError(
            "evaluate.other-settings",
            f"holds an evaluation of other settings: {'; '.join(differing)}",
            field=f"output={output}",
            remedy="choose another output, or --overwrite to replace what is there",
        )


def _write(
    spec: EvaluateSpec,
    wanted: Wanted,
    model: Model | None,
    query: Side,
    gallery: Side | None,
    found: Measured,
    output: storage.OutputDir,
) -> None:
    for name in (HEADER, PICTURE, f"{FOLDER}/{PAGE}"):  # of an earlier evaluation
        storage.remove(output.address.child(name))
    storage.write_text(output.path / METRICS, json.dumps(clean(found.metrics), indent=1) + "\n")
    storage.write_text(output.path / CLASSES, _per_class(query, found.retrieval))
    draw_retrieval(spec, _model_name(spec, model), query, gallery, found, output.path / PICTURE)
    if spec.save_embeddings:
        for name, side in ((EMBEDDINGS, query), (GALLERY_EMBEDDINGS, gallery)):
            storage.remove(output.address.child(f"{name}/{vectors.HEADER}"))
            if side is not None:
                _save_embeddings(output.path / name, side, model)
    if spec.report is not None:
        device = model.device if model is not None else None
        report = _report(spec, model, query, gallery, found)
        write_report(output.path, report, spec.report, device=device, told=spec.output)
    header = _header(spec, wanted, model, query, gallery, found)
    storage.write_text(output.path / HEADER, json.dumps(clean(header), indent=1, ensure_ascii=False) + "\n")
    output.publish(HEADER)


def _header(
    spec: EvaluateSpec, wanted: Wanted, model: Model | None, query: Side, gallery: Side | None, found: Measured
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "model": _model_name(spec, model),
        "model_hash": model.content_hash if model is not None else None,
        "precision": model.arithmetic.name if model is not None else None,
        "ties": "equal similarity: the earlier item of the gallery first",
        "protocol": "query and gallery" if gallery is not None else "leave-one-out",
        "relation": printed_tree(wanted.relation),
        "relation_from": "settings" if wanted.classes is None else "bundle",
        "data_fingerprint": query.fingerprint,
        "gallery_fingerprint": gallery.fingerprint if gallery is not None else None,
        "thresholds": found.thresholds,
        "decision": found.decision.model_dump(mode="json") if found.decision is not None else None,
        "not_measurable": found.reasons,
        "improvements": found.improvements,
        "broken_images": [{"image": uri, "reason": why} for uri, why in broken_images(query, gallery)],
        "spec": printed_tree(spec),
    }


def _report(spec: EvaluateSpec, model: Model | None, query: Side, gallery: Side | None, found: Measured) -> Report:
    name = _model_name(spec, model)
    known = {
        "kinsight": __version__,
        "model": name,
        "model hash": model.content_hash if model is not None else None,
        "device": f"{model.device} in {model.arithmetic.name}" if model is not None else None,
        "similarity": spec.metric,
        "relation": found.matching.told,
        "fingerprint of the queries": query.fingerprint,
        "fingerprint of the gallery": gallery.fingerprint if gallery is not None else None,
        "equal similarity": "the earlier item of the gallery first",
    }
    return Report(
        title=f"Evaluation of {name.rstrip('/').rpartition('/')[2]}",
        lead=f"How well {name} finds images "
        + ("of the same class." if query.labels_NL is None else "that share a label."),
        evaluated=evaluated(spec, query, gallery, found),
        facts=facts(known),
        settings=printed_yaml(spec),
        broken=broken_images(query, gallery),
    )


def _origin(spec: EvaluateSpec, model: Model | None) -> dict[str, Any]:
    """What is known of the model behind the vectors."""
    if model is not None:
        return {"model": model.name, "model_hash": model.content_hash}
    header = storage.Address.parse(spec.embeddings or "").child(vectors.HEADER)
    return json.loads(storage.read_text(header)) if storage.exists(header) else {}


def _model_name(spec: EvaluateSpec, model: Model | None) -> str:
    return model.name if model is not None else str(storage.Address.parse(spec.embeddings or ""))


def _per_class(query: Side, retrieval: RetrievalResult) -> str:
    names = [name for name in ("recall@1", "r_precision", "map@r") if name in retrieval.per_query]
    several, class_names = query.labels_NL is not None, query.label_names or query.class_names
    table = (
        label_table(query.labels_NL, retrieval.per_query, names)
        if query.labels_NL is not None
        else class_table(retrieval.class_Q, retrieval.per_query, names)
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label" if several else "class", "queries", *names])
    order = np.argsort(table.column[names[0]].numpy(), kind="stable")
    for row in order.tolist():
        values = [f"{float(table.column[name][row]):.6f}" for name in names]
        writer.writerow([class_names[int(table.class_C[row])], int(table.count_C[row]), *values])
    return text.getvalue()


def _save_embeddings(folder: Path, side: Side, model: Model | None) -> None:
    storage.make_directory(folder)
    count = len(side)
    starts = range(0, count, vectors.SHARD_ROWS)
    for number, start in enumerate(starts):
        rows = slice(start, min(start + vectors.SHARD_ROWS, count))
        lists_NL = side.label_N[rows, None] if side.labels_NL is None else side.labels_NL[rows]
        lists = [[label for label in row if label >= 0] for row in lists_NL.tolist()]
        labels = pa.array(lists, pa.list_(pa.int32()))
        ids = side.row_N[rows]
        uris = side.uri_N[rows].combine_chunks()
        further = vectors.further_columns(side.columns.slice(start, len(ids))) if side.columns is not None else None
        vectors.write_shard(folder / vectors.shard_name(number), ids, labels, uris, side.vector_ND[rows], further)
    fields = {
        "kinsight": __version__,
        "storage": "parquet",
        "count": count,
        "dim": side.vector_ND.shape[1],
        "shards": len(starts),
        "normalized": False,
        "class_names": side.label_names or side.class_names,
        "model": model.name if model is not None else None,
        "model_hash": model.content_hash if model is not None else None,
        "data_fingerprint": side.fingerprint,
        "broken_images": [{"image": uri, "reason": reason} for uri, reason in side.broken],
    }
    vectors.write_header(folder, fields)
