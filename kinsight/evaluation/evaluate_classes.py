"""The `evaluate` job of a bundle with a classifier: what it says of labelled images, and how right that is.

metrics.json      flat: `accuracy`, `top5_accuracy`, `map`, `cf1`, ..., `ece`; see `metrics.classification_metrics`,
                  `metrics.multilabel_metrics`
per_class.csv     a row per class or label, worst first; unless `classes.each_class` is off
confusion.csv     classification: true class, predicted class, images; mistakes alone, the most frequent first
report/           index.html: all of it on one page, for people
evaluation.json   what was evaluated; written last
"""

import csv
import io
import json
from typing import Any

from kinsight import __version__, storage
from kinsight.errors import SpecError
from kinsight.evaluation.calibration import keep_calibration
from kinsight.evaluation.classes import Resampling, Scored, check_ks, judge, read_for, score
from kinsight.evaluation.embed import open_loader, open_model
from kinsight.evaluation.model import Model
from kinsight.evaluation.report import facts
from kinsight.evaluation.settings import printed_tree, printed_yaml
from kinsight.models import Task, load_header
from kinsight.progress import clean
from kinsight.reports.class_table import class_rows
from kinsight.reports.classified import Classified
from kinsight.reports.evaluated import Report
from kinsight.reports.page import FOLDER, PAGE, write_report
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.report import ReportSpec

FORMAT, VERSION = "kinsight-evaluation", 1
HEADER, METRICS, CLASSES, CONFUSION = "evaluation.json", "metrics.json", "per_class.csv", "confusion.csv"
_MOST_CONFUSIONS = 100_000
_OF_RETRIEVAL = (
    "gallery", "relation", "metric", "ks", "fprs", "max_pairs", "save_embeddings", "sizes", "projection",
    "gallery_expansion", "query_expansion", "rerank",
)  # fmt: skip


def judged_task(spec: EvaluateSpec) -> Task:
    """What the model is judged as. Raises SpecError for settings that have no effect there."""
    own: Task = load_header(spec.bundle).task if spec.bundle is not None else "metric"
    task = spec.task or own
    if task not in (own, "metric"):
        raise SpecError(
            "evaluate.task",
            f"the bundle was trained with task={own}",
            field=f"task={task}",
            remedy="leave it out, or set task=metric: retrieval by the model's vectors",
        )
    fields = type(spec).model_fields
    others = ("classes", "replace_thresholds") if task == "metric" else _OF_RETRIEVAL
    wrong = [name for name in others if getattr(spec, name) != fields[name].default]
    if task != "metric":
        wrong += [f"classes.{name}" for name in spec.classes.without_effect(several=task == "multilabel")]
        wrong += ["report"] if spec.report not in (None, ReportSpec()) else []
    if wrong:
        what = "retrieval" if task == "metric" else "a classifier"
        other = "" if task == "metric" else ", or set task=metric to judge the model's vectors by retrieval"
        raise SpecError(
            "spec.no-effect",
            f"has no effect on the evaluation of {what} (task {task})",
            field=", ".join(wrong),
            remedy=f"leave it out{other}",
        )
    return task


def evaluate_classes(spec: EvaluateSpec, output: storage.OutputDir) -> dict[str, Any]:
    """Judge, write, keep what was learnt in the bundle; gives the metrics. Raises as `evaluate`."""
    assert spec.data is not None and spec.bundle is not None, "the spec has seen to it"
    model = open_model(spec)
    decision = model.need_decision()
    check_ks(spec.classes, len(decision.class_names), field="classes.ks")
    records = read_for(decision, spec.data)
    with open_loader(spec, model, records, labelled=False) as loader:
        found = score(model, records, loader, batch_size=spec.batch_size)
    resampling = Resampling(spec.bootstrap, spec.confidence, spec.seed)
    judged = judge(decision, found, spec.classes, resampling)
    with output:
        _write(spec, model, found, judged, output)
    if spec.write_thresholds:
        uris = (uri.as_py() for chunk in judged.uri_N.chunks for uri in chunk)
        keep_calibration(spec.bundle, judged, records.fingerprint, uris, replace=spec.replace_thresholds)
    return clean(dict(judged.metrics))


def _write(spec: EvaluateSpec, model: Model, found: Scored, judged: Classified, output: storage.OutputDir) -> None:
    for name in (HEADER, CLASSES, CONFUSION, f"{FOLDER}/{PAGE}", "retrieval.png"):  # of an earlier evaluation
        storage.remove(output.address.child(name))
    storage.write_text(output.path / METRICS, json.dumps(clean(dict(judged.metrics)), indent=1) + "\n")
    if spec.classes.each_class:
        head, rows = class_rows(judged)
        storage.write_text(output.path / CLASSES, _csv(head, [[_cell(value) for value in row] for row in rows]))
    if judged.one is not None:
        storage.write_text(output.path / CONFUSION, _confusions(judged))
    if spec.report is not None:
        write_report(output.path, _report(spec, model, found, judged), spec.report, told=spec.output)
    header = _header(spec, model, found, judged)
    storage.write_text(output.path / HEADER, json.dumps(clean(header), indent=1, ensure_ascii=False) + "\n")
    output.publish(HEADER)


def _confusions(judged: Classified) -> str:
    assert judged.one is not None
    names = judged.class_names
    rows = [[names[pair.true], names[pair.predicted], pair.images] for pair in judged.one.confusions(_MOST_CONFUSIONS)]
    return _csv(["class", "predicted", "images"], rows)


def _csv(head: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else value


def _header(spec: EvaluateSpec, model: Model, found: Scored, judged: Classified) -> dict[str, Any]:
    decision = model.need_decision()
    return {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "task": decision.task,
        "model": model.name,
        "model_hash": model.content_hash,
        "precision": model.arithmetic.name,
        "ties": "equal scores: the lower class first",
        "data_fingerprint": found.records.fingerprint,
        "class_names": decision.class_names,
        "temperature": decision.temperature,
        "label_thresholds": decision.threshold_C.tolist() if decision.threshold_C is not None else None,
        "found": {
            "temperature": judged.fitted.temperature,
            "label_thresholds": judged.chosen.threshold_C.tolist() if judged.chosen is not None else None,
        },
        "broken_images": [{"image": uri, "reason": why} for uri, why in found.broken],
        "spec": printed_tree(spec),
    }


def _report(spec: EvaluateSpec, model: Model, found: Scored, judged: Classified) -> Report:
    decision = model.need_decision()
    known = {
        "kinsight": __version__,
        "model": model.name,
        "model hash": model.content_hash,
        "device": f"{model.device} in {model.arithmetic.name}",
        "temperature of the bundle": None if decision.temperature is None else f"{decision.temperature:.4g}",
        "temperature found here": f"{judged.fitted.temperature:.4g}",
        "fingerprint of the images": found.records.fingerprint,
        "equal scores": "the lower class first",
    }
    what = "which labels images have" if decision.several else "which class images show"
    return Report(
        title=f"Evaluation of {model.name.rstrip('/').rpartition('/')[2]}",
        lead=f"How well {model.name} says {what}.",
        classified=judged,
        facts=facts(known),
        settings=printed_yaml(spec),
        broken=found.broken,
    )
