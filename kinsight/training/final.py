"""The end of a training: the best model measured on the validation images, its thresholds kept, the report written."""

from typing import Any

from kinsight import __version__, storage
from kinsight.errors import InterruptedRun, KinsightError
from kinsight.evaluation.calibration import keep_calibration
from kinsight.evaluation.classes import Scored, judge, logits_of, scored
from kinsight.evaluation.decision import Decision
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.matching import Wanted
from kinsight.evaluation.measure import Measured, measure
from kinsight.evaluation.report import evaluated, facts
from kinsight.evaluation.settings import printed_yaml
from kinsight.evaluation.sides import Side, embedded_side, matched
from kinsight.evaluation.thresholds import keep_thresholds
from kinsight.models import load_bundle, load_header
from kinsight.parallel.collectives import world_size
from kinsight.parallel.groups import is_main
from kinsight.progress import clean, warn
from kinsight.reports.classified import Classified
from kinsight.reports.evaluated import Report, Trained
from kinsight.reports.page import write_report
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.train import TrainSpec
from kinsight.training.record import read_rows
from kinsight.training.run_folder import RunFolder
from kinsight.training.setup import Prepared
from kinsight.training.signals import StopRequest
from kinsight.training.state import Broken
from kinsight.training.validation import best_place


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
            found = measure(_as_evaluation(spec), side, None, prepared.device, matching)
        except KinsightError as error:
            missing = f"The best model could not be measured: {error.message}."
            warn(missing)
    if found is not None and spec.validate_.write_thresholds:
        keep_thresholds(run.best, found.decision, uris=side.uri_N.to_pylist() if side is not None else ())
    if spec.report is not None:
        _unless_stopped(stop, spec)
        report = _report(prepared, run, side, found, missing, broken)
        write_report(run.path, report, spec.report, device=prepared.device, told=spec.output)
    return {"metrics": clean(found.metrics), "not_measurable": found.reasons} if found is not None else None


def _conclude_classes(prepared: Prepared, run: RunFolder, broken: Broken, stop: StopRequest) -> dict[str, Any] | None:
    """The same for classifiers: temperature and thresholds of labels go into `best/`."""
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
            judged = judge(decision, found, spec.validate_.classes, seed=spec.seed)
            if spec.validate_.write_thresholds:
                keep_calibration(run.best, judged, found.records.fingerprint, judged.uri_N.to_pylist(), replace=True)
                judged = _as_kept(run, found, spec, judged)
        except KinsightError as error:
            missing = f"The best model could not be measured: {error.message}."
            warn(missing)
    if spec.report is not None:
        _unless_stopped(stop, spec)
        report = _report(prepared, run, None, None, missing, broken, judged)
        write_report(run.path, report, spec.report, device=prepared.device, told=spec.output)
    return {"metrics": clean(dict(judged.metrics)), "not_measurable": {}} if judged is not None else None


def _as_kept(run: RunFolder, found: Scored, spec: TrainSpec, judged: Classified) -> Classified:
    """What the bundle says by the temperature and thresholds that were just found, if they were kept."""
    header = load_header(run.best)
    decision = Decision.of(header)
    if decision is None or header.temperature is None:
        return judged
    return judge(decision, found, spec.validate_.classes, seed=spec.seed)


def _score_best(prepared: Prepared, run: RunFolder, broken: Broken) -> Scored | None:
    """What the best model says of the validation images, on every rank; None without any."""
    loader = prepared.validation
    if loader is None:
        return None
    best = load_bundle(run.best)
    assert best.classifier is not None, "these tasks have a classifier"
    with prepared.children.starting():
        batch_size = prepared.spec.validate_.batch_size
        net = best.net.to(prepared.device)
        found = embed_records(net, loader, prepared.device, prepared.arithmetic, batch_size=batch_size)
    logit_NC = logits_of(best.classifier, found.emb_ND)
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


def _as_evaluation(spec: TrainSpec) -> EvaluateSpec:
    """What `kinsight evaluate` would be told, to measure the same."""
    ks: list[int] = EvaluateSpec.model_fields["ks"].default
    name, _, k = spec.validate_.metric.partition("@")
    return EvaluateSpec(
        output=spec.output,
        bundle=spec.output,
        data=spec.data.validation,
        ks=sorted({*ks, int(k)}) if name == "recall" else ks,
        seed=spec.seed,
    )


def _report(
    prepared: Prepared,
    run: RunFolder,
    side: Side | None,
    found: Measured | None,
    missing: str,
    broken: Broken,
    judged: Classified | None = None,
) -> Report:
    spec, position = prepared.spec, prepared.training.position
    place = storage.Address.parse(spec.output)
    known: dict[str, Any] = {
        "kinsight": __version__,
        "network": f"{spec.model.backbone}, vectors of {spec.model.embedding_dim} numbers",
        "first weights": prepared.net.origin.source or "random",
        "training images": f"{len(prepared.records):,} of {prepared.records.num_classes:,} classes",
        "validation images": f"{len(prepared.validation.records):,}" if prepared.validation is not None else "none",
        "steps": f"{position.step:,} of {prepared.budget.expected_steps(position):,}, {position.images:,} images seen",
        "training time": f"{position.seconds:,.0f} s",
        "best model": best_place(prepared),
        "device": f"{prepared.device} in {prepared.arithmetic.name}, {world_size()} process(es)",
        "fingerprint of the training images": prepared.records.fingerprint,
        "fingerprint of the validation images": side.fingerprint if side is not None else None,
    }
    shown = evaluated(_as_evaluation(spec), side, None, found) if side is not None and found is not None else None
    return Report(
        title=f"Training of {str(place).rstrip('/').rpartition('/')[2]}",
        lead=f"{place}: {spec.model.backbone} on {known['training images'].replace(' of ', ' images of ')}"
        + (
            "; measured on validation images by the best model, which was chosen by them: new images may be harder."
            if shown is not None or judged is not None
            else "."
        ),
        trained=Trained(read_rows(run.path), spec.validate_.metric if prepared.validation is not None else None),
        evaluated=shown,
        classified=judged,
        missing=missing,
        facts=facts(known),
        settings=printed_yaml(spec),
        broken=[(uri, reason) for part in broken.values() for _, uri, reason in part],
    )
