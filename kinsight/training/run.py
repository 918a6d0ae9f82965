"""The `train` job: one process or several, fresh or resumed."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinsight import __version__, storage
from kinsight.parallel.device import default_processes, pick_device
from kinsight.parallel.groups import broadcast_text, is_main, process_group, under_launcher
from kinsight.parallel.launch import launch
from kinsight.parallel.memory import kept_memory
from kinsight.progress import clean, say
from kinsight.reports.curves import training_picture
from kinsight.specs.load import as_tree, of
from kinsight.specs.train import TrainSpec
from kinsight.training import checkpoint
from kinsight.training.broken import collect_broken, put_back_broken
from kinsight.training.checks import check_processes
from kinsight.training.final import conclude
from kinsight.training.loop import fit
from kinsight.training.prepared import Prepared, origin
from kinsight.training.record import Record, read_rows
from kinsight.training.run_folder import HEADER, RunFolder
from kinsight.training.setup import prepare, settled
from kinsight.training.signals import StopRequest, stop_requests
from kinsight.training.snapshots import find_state, go_on_from
from kinsight.training.validation import best_place


@dataclass(frozen=True)
class TrainResult:
    """output: the run folder's address. bundle: the model bundle's. best: best validation value, None without
    validation. best_epoch, best_step: epochs and steps done when it was reached. steps: optimizer steps done.
    """

    output: str
    bundle: str
    best: float | None
    best_epoch: int | None
    best_step: int | None
    steps: int


def train(
    spec: TrainSpec | Mapping[str, Any], *, overwrite: bool = False, adapt: Callable[[Prepared], None] | None = None
) -> TrainResult:
    """Train a model; the same as `kinsight train`.

    spec: the settings, or a mapping of them. overwrite: replace what an earlier run left at the output. adapt: changes
    what the training consists of before it begins, such as the objective; in one process only.
    An unfinished run of the same settings is gone on with. Raises KinsightError: SpecError and DataError for what
    must be mended first, RunError for a training that failed, InterruptedRun after Ctrl-C with the state saved.
    """
    spec = of(TrainSpec, spec)
    device = pick_device(spec.device)
    processes = spec.nproc or default_processes(spec.device)
    if under_launcher() or processes == 1:
        with process_group(device):
            return _train_here(settled(spec), overwrite, adapt)
    assert adapt is None, "what is changed here would not be in other processes"
    check_processes(spec, device, processes)
    with tempfile.TemporaryDirectory(prefix="kinsight-") as folder:
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(as_tree(settled(spec))), encoding="utf-8")
        launch("kinsight.training.worker", [str(file), *(["--overwrite"] if overwrite else [])], processes)
    return _result(spec, json.loads(storage.read_text(storage.Address.parse(spec.output).child(HEADER))))


def _train_here(spec: TrainSpec, overwrite: bool, adapt: Callable[[Prepared], None] | None) -> TrainResult:
    """This process's part; every rank calls it."""
    with (
        kept_memory(),
        RunFolder(spec, overwrite=overwrite) as run,
        contextlib.closing(prepare(spec, pick_device(spec.device))) as prepared,
        storage.local_errors(run.path),
    ):
        if spec.resume_from is not None and run.is_new and is_main():
            find_state(spec.resume_from)  # before the folder is taken
        run.begin()
        if adapt is not None:
            adapt(prepared)
        _resume(prepared, run)
        record = Record(run.path if is_main() else None, from_step=prepared.training.position.step)
        with contextlib.closing(record), stop_requests() as stop:
            fit(prepared, run, record, stop)
            return _result(spec, _finish(prepared, run, stop))


def _resume(prepared: Prepared, run: RunFolder) -> None:
    found = checkpoint.newest(run.checkpoints) if is_main() else None
    name = broadcast_text(found.name if found is not None else "")
    if not name:
        if prepared.spec.resume_from is not None:
            go_on_from(prepared, run, prepared.spec.resume_from)
        return
    checkpoint.restore(run.checkpoints / name, prepared.training, origin(prepared), best=run.best)
    put_back_broken(prepared)
    if is_main():
        say(f"going on    from {prepared.budget.place(prepared.training.position)} ({name})")


def _finish(prepared: Prepared, run: RunFolder, stop: StopRequest) -> dict[str, Any]:
    """Measure, write the report, the final bundle, the picture and the header; the run is finished after this."""
    position, spec = prepared.training.position, prepared.spec
    found = collect_broken(prepared)
    measured = conclude(prepared, run, found, stop)
    broken = [{"image": uri, "reason": reason} for part in found.values() for _, uri, reason in part]
    summary = clean(
        {
            "kinsight": __version__,
            "position": asdict(position),
            "metric": spec.validate_.metric if spec.data.validation is not None else None,
            "num_classes": prepared.records.num_classes,
            "num_images": len(prepared.records),
            "data_fingerprint": prepared.records.fingerprint,
            "broken_images": broken,
            "validation": measured,
        }
    )
    if not is_main():
        return summary
    training_picture(read_rows(run.path), run.path / "training.png", metric=summary["metric"])
    run.finish(summary)
    if broken:
        say(f"broken      {len(broken)} images were skipped, named in run.json")
    if position.best is not None:
        say(f"best        {spec.validate_.metric} {position.best:.4f} {best_place(prepared)}")
    say(f"bundle      {_result(spec, summary).bundle}")
    return summary


def _result(spec: TrainSpec, summary: dict[str, Any]) -> TrainResult:
    position = summary["position"]
    bundle = str(storage.Address.parse(spec.output).child("bundle"))
    return TrainResult(
        spec.output, bundle, position["best"], position["best_epoch"], position["best_step"], position["step"]
    )
