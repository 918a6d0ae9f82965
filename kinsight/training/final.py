"""The end of a training: the best model measured on the validation images, its thresholds kept, the report written."""

from dataclasses import replace
from typing import Any

import torch

from kinsight import storage
from kinsight.errors import InterruptedRun, KinsightError
from kinsight.evaluation.calibration import keep_calibration
from kinsight.evaluation.classes import Resampling, Scored, judge, logits_of, scored
from kinsight.evaluation.decision import Decision
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.matching import Wanted
from kinsight.evaluation.measure import measure
from kinsight.evaluation.sides import Side, embedded_side, matched
from kinsight.evaluation.thresholds import keep_thresholds
from kinsight.metrics.labels import THRESHOLD
from kinsight.models import load_bundle, load_header
from kinsight.parallel.groups import is_main
from kinsight.progress import clean, warn
from kinsight.reports.page import write_report
from kinsight.specs.train import TrainSpec
from kinsight.training.final_report import as_evaluation, final_report
from kinsight.training.prepared import Prepared
from kinsight.training.run_folder import RunFolder
from kinsight.training.signals import StopRequest
from kinsight.training.state import Broken


def conclude(prepared: Prepared, run: RunFolder, broken: Broken, stop: StopRequest) -> dict[str, Any] | None:
    """Measure `best/`, put its thresholds into it and write `report/`; gives the metrics, None without any.

    Every rank calls it and embeds its share; the main one measures and writes. What cannot be measured is said, and
    the run ends well. Raises InterruptedRun when `stop` was asked for, StorageError.
    """
    spec = prepared.spec
    if spec.task != "metric":
        return _conclude_classes(prepared, run, broken, stop)
    needed = spec.report is not None or spec.validate_.write_thresholds
    side = _embed_best(prepared, run, broken) if needed else None
    if not is_main():
        return None
    found, missing = None, _NO_VALIDATION.format(output=storage.Address.parse(spec.output))
    if side is not None:
        _unless_stopped(stop, spec)
        try:
            wanted = Wanted(spec.relation, prepared.records.class_names)
            side, _, matching = matched(wanted, side, None)
            found = measure(as_evaluation(spec), side, None, prepared.device, matching)
        except KinsightError as error:
            missing = f"The best model could not be measured: {error.message}."
            warn(missing)
    if found is not None and spec.validate_.write_thresholds:
        keep_thresholds(run.best, found.decision, uris=side.uri_N.to_pylist() if side is not None else ())
    if spec.report is not None:
        _unless_stopped(stop, spec)
        report = final_report(prepared, run, side, found, missing, broken)
        write_report(run.path, report, spec.report, device=prepared.device, told=spec.output)
    return {"metrics": clean(found.metrics), "not_measurable": found.reasons} if found is not None else None


def _conclude_classes(prepared: Prepared, run: RunFolder, broken: Broken, stop: StopRequest) -> dict[str, Any] | None:
    """The same for classifiers: temperature and thresholds of labels go into `best/`.

    The figures are without these, so that they mean what they mean in the training's rows; what they become with them,
    on the images that chose them, has `chosen/` or `calibrated/` before its name.
    """
    spec, judged = prepared.spec, None
    found = _score_best(prepared, run, broken)
    if not is_main():
        return None
    missing = _NOT_JUDGED.format(output=storage.Address.parse(spec.output))
    if found is not None:
        _unless_stopped(stop, spec)
        try:
            decision = Decision.of(load_header(run.best))
            assert decision is not None, "these tasks have a classifier"
            judged = judge(_plain(decision), found, spec.validate_.classes, Resampling(seed=spec.seed))
            if spec.validate_.write_thresholds:
                uris = judged.uri_N.to_pylist()
                kept = keep_calibration(run.best, judged, found.records.fingerprint, uris, replace=True)
                judged = judged.kept() if kept else judged
        except KinsightError as error:
            missing = f"The best model could not be measured: {error.message}."
            warn(missing)
    if spec.report is not None:
        _unless_stopped(stop, spec)
        report = final_report(prepared, run, None, None, missing, broken, judged)
        write_report(run.path, report, spec.report, device=prepared.device, told=spec.output)
    return {"metrics": clean(dict(judged.metrics)), "not_measurable": {}} if judged is not None else None


def _plain(decision: Decision) -> Decision:
    """As in the validations of the training, also where a training that was interrupted has kept more already."""
    halves_C = torch.full_like(decision.threshold_C, THRESHOLD) if decision.threshold_C is not None else None
    return replace(decision, temperature=None, threshold_C=halves_C, chosen=False)


def _score_best(prepared: Prepared, run: RunFolder, broken: Broken) -> Scored | None:
    """What the best model says of the validation images, on the main rank; None on others, and without any."""
    loader = prepared.validation
    if loader is None:
        return None
    best = load_bundle(run.best)
    assert best.classifier is not None, "these tasks have a classifier"
    with prepared.children.starting():
        batch_size = prepared.spec.validate_.batch_size
        net = best.net.to(prepared.device)
        found = embed_records(net, loader, prepared.device, prepared.arithmetic, batch_size=batch_size)
    if not is_main():
        return None
    logit_NC = logits_of(best.classifier.to(prepared.device), found.emb_ND)
    skipped = [(uri, reason) for _, uri, reason in broken.get("validation", ())]
    several = prepared.spec.task == "multilabel"
    return scored(loader.records, logit_NC, found.index_N, skipped, several=several)


_NOT_JUDGED = (
    "Not measured: this training had no validation images, so nobody knows yet how often the model is right. "
    "Set data.validation for the next one, or measure this one on labelled images:\n"
    "kinsight evaluate --bundle {output} --data.path LIST --output FOLDER"
)
_NO_VALIDATION = (
    "Not measured: this training had no validation images, so nobody knows yet how well the model retrieves. "
    "Set data.validation for the next one, or measure this one on labelled images:\n"
    "kinsight evaluate --bundle {output} --data.path LIST --output FOLDER"
)


def _unless_stopped(stop: StopRequest, spec: TrainSpec) -> None:
    if stop.wanted:
        raise InterruptedRun(
            "run.interrupted",
            f"stopped before the report was written; the training is done and saved in {spec.output}",
            remedy="give the same command again to go on",
        )


def _embed_best(prepared: Prepared, run: RunFolder, broken: Broken) -> Side | None:
    """The validation images as the best model sees them, on every rank; None without any."""
    loader = prepared.validation
    if loader is None:
        return None
    net = load_bundle(run.best).net.to(prepared.device)
    with prepared.children.starting():
        batch_size = prepared.spec.validate_.batch_size
        found = embed_records(net, loader, prepared.device, prepared.arithmetic, batch_size=batch_size)
    skipped = [(uri, reason) for _, uri, reason in broken.get("validation", ())]
    return embedded_side(loader.records, found.emb_ND, found.index_N, skipped)
