"""One run of a comparison: an ordinary training into a folder of its own, and what it came to."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from kinsight import __version__, storage
from kinsight.comparing.candidates import Candidate, Protocol
from kinsight.comparing.folds import Fold
from kinsight.errors import DataError, InterruptedRun, KinsightError
from kinsight.parallel.device import default_processes, pick_device
from kinsight.specs.flags import check
from kinsight.specs.train import TrainSpec
from kinsight.training import train

METRICS = ("map@r", "recall@1", "r_precision")
CONDITIONS = "conditions.json"
_LATE = 1.05  # times the budget of seconds: one step that takes longer than the others
Trainer = Callable[[TrainSpec], Any]


@dataclass(frozen=True)
class Run:
    """candidate trained on all folds but `fold`. trial: which try of a tuning; seed: of the training."""

    candidate: str
    fold: int
    seed: int
    trial: int | None
    spec: TrainSpec

    @property
    def name(self) -> str:
        """For people."""
        tried = f" trial {self.trial}" if self.trial is not None else ""
        return f"{self.candidate}{tried} fold {self.fold} seed {self.seed}"


@dataclass
class Outcome:
    """metrics: of the classes held out. curve: (budget used: steps, epochs or seconds; ranked metric).
    conditions: what it ran on. failed: why there is nothing else. remark: what is odd about it.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    conditions: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None
    remark: str | None = None


def make_run(
    protocol: Protocol,
    candidate: Candidate,
    folds: list[Fold],
    output: storage.Address,
    *,
    fold: int,
    seed: int,
    values: dict[str, Any],
    trial: int | None = None,
    tried: bool = False,
) -> Run:
    """A run of a candidate with its tuned settings at `values`, of trial `trial`; tried: as one of the trials."""
    place = output.child(f"runs/{candidate.name}")
    if trial is not None:
        place = place.child(f"trial-{trial:04d}" if tried else f"chosen-trial-{trial:04d}")
    place = place.child(f"fold-{fold}-seed-{seed}")
    tree = candidate.with_values(values)
    data = {**tree["data"], "train": folds[fold].train, "validation": folds[fold].held_out}
    spec = check(TrainSpec, {**tree, "output": str(place), "data": data, "seed": seed})
    assert isinstance(spec, TrainSpec)
    return Run(candidate.name, fold, seed, trial if tried else None, spec)


def is_finished(run: Run) -> bool:
    """Whether its training has come to its end before."""
    return storage.exists(storage.Address.parse(run.spec.output).child("run.json"))


def carry_out(run: Run, protocol: Protocol, trainer: Trainer = train) -> Outcome:
    """Train, or go on with an unfinished training, or read a finished one; failures become part of the outcome.

    Raises InterruptedRun, KeyboardInterrupt; SpecError where the folder holds a run of other settings; RunError where
    another process is training there.
    """
    try:
        if not is_finished(run):
            _note_conditions(run)
        trainer(run.spec)
    except InterruptedRun:
        raise
    except KinsightError as error:
        if error.code in ("run.other-settings", "run.busy"):
            raise
        if error.code != "run.finished":
            return Outcome(failed=" ".join(error.message.split()))
    except Exception as error:  # one broken run must not cost the others
        return Outcome(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return read_outcome(run, protocol)


def read_outcome(run: Run, protocol: Protocol) -> Outcome:
    """What a finished run came to. Raises DataError for a folder that is not one."""
    place = storage.Address.parse(run.spec.output)
    try:
        header = json.loads(storage.read_text(place.child("run.json")))
        rows = _rows(storage.read_text(place.child("metrics.jsonl")))
        position, step = header["position"], header["position"]["step"]
    except (ValueError, KeyError, TypeError):
        raise DataError("compare.run", "is not a finished run", field=str(place), remedy="remove the folder") from None
    measured = [row for row in rows if row.get("kind") == "validation"]
    metric = run.spec.validate_.metric
    kept = measured[-1] if run.spec.validate_.keep == "last" else max(measured, key=lambda row: row[metric])
    outcome = Outcome(
        metrics={name: kept[name] for name in METRICS},
        steps=step,
        images=position["images"],
        seconds=position["seconds"],
        best_step=kept["step"],
        curve=[(_used(row, position, protocol.budget[0]), row[metric]) for row in measured],
        conditions=_read_conditions(place),
    )
    outcome.remark = _off_budget(outcome, position, protocol.budget)
    return outcome


def _used(row: dict[str, Any], position: dict[str, Any], unit: str) -> float:
    """How much of the budget was used when `row` was measured; epochs are counted in parts."""
    if unit != "epochs":
        return row["step" if unit == "steps" else "seconds"]
    return row["step"] * position["epoch"] / position["step"] if position["epoch"] else row["epoch"]


def _rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _off_budget(outcome: Outcome, position: dict[str, Any], budget: tuple[str, float]) -> str | None:
    """Whether a run has used another budget than the others."""
    name, number = budget
    if name == "seconds":
        fits = number <= outcome.seconds <= number * _LATE
        return None if fits else f"trained for {outcome.seconds:.1f} s, not {number:g}"
    used = position["step" if name == "steps" else "epoch"]
    return None if used == number else f"trained for {used} {name}, not {number:g}"


def conditions(spec: TrainSpec) -> dict[str, Any]:
    """What a run's speed and bits depend on, on this machine as it is now."""
    device = pick_device(spec.device)
    return {
        "kinsight": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": spec.nproc or default_processes(spec.device),
    }


def _note_conditions(run: Run) -> None:
    """Keep with the run what it is carried out on; a run gone on with elsewhere has several."""
    place = storage.Address.parse(run.spec.output)
    known, now = _read_conditions(place), conditions(run.spec)
    if now not in known:
        storage.write_text(place.child(CONDITIONS), json.dumps([*known, now], indent=1) + "\n")


def _read_conditions(place: storage.Address) -> list[dict[str, Any]]:
    file = place.child(CONDITIONS)
    return json.loads(storage.read_text(file)) if storage.exists(file) else []


def as_row(run: Run, outcome: Outcome) -> dict[str, Any]:
    """A run as compare.json holds it."""
    told = {key: value for key, value in asdict(outcome).items() if value not in (None, [], {})}
    return {"fold": run.fold, "seed": run.seed, "output": str(storage.Address.parse(run.spec.output)), **told}
