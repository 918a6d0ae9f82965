"""The page at the end of a training."""

from typing import Any

from kinsight import __version__, storage
from kinsight.evaluation.measure import Measured
from kinsight.evaluation.report import evaluated, facts
from kinsight.evaluation.settings import printed_yaml
from kinsight.evaluation.sides import Side
from kinsight.parallel.collectives import world_size
from kinsight.reports.classified import Classified
from kinsight.reports.evaluated import Evaluated, Report, Trained
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.train import TrainSpec
from kinsight.training.prepared import Prepared
from kinsight.training.record import read_rows
from kinsight.training.run_folder import RunFolder
from kinsight.training.state import Broken
from kinsight.training.validation import best_place


def as_evaluation(spec: TrainSpec) -> EvaluateSpec:
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


def final_report(
    prepared: Prepared,
    run: RunFolder,
    side: Side | None,
    found: Measured | None,
    missing: str,
    broken: Broken,
    judged: Classified | None = None,
) -> Report:
    """The page at the end of a training; side, found: of embeddings, judged: of a classifier as it is kept."""
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
    shown = evaluated(as_evaluation(spec), side, None, found) if side is not None and found is not None else None
    return Report(
        title=f"Training of {str(place).rstrip('/').rpartition('/')[2]}",
        lead=f"{place}: {spec.model.backbone} on {known['training images'].replace(' of ', ' images of ')}"
        + _measured_by(shown, judged),
        trained=Trained(read_rows(run.path), spec.validate_.metric if prepared.validation is not None else None),
        evaluated=shown,
        classified=judged,
        missing=missing,
        facts=facts(known),
        settings=printed_yaml(spec),
        broken=[(uri, reason) for part in broken.values() for _, uri, reason in part],
    )


def _measured_by(shown: Evaluated | None, judged: Classified | None) -> str:
    if shown is None and judged is None:
        return "."
    too = ""
    if judged is not None and judged.kept_here:
        kept = ["its temperature"] * (judged.temperature is not None) + ["its thresholds"] * (
            judged.several is not None
        )
        too = f", as were {' and '.join(kept)}"
    return (
        f"; measured on validation images by the best model, which was chosen by them{too}: new images may be harder."
    )
