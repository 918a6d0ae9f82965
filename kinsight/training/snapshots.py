"""Snapshots: models along the way, each in a folder of its own, named by its step.

bundle.json, model.safetensors      the model bundle of that moment; the header is written last
class_weights.safetensors           where the main loss is over classes
checkpoint/                         the state of training, to go on from
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kinsight import storage
from kinsight.errors import DataError, SpecError
from kinsight.evaluation.class_weights import FILE, write_class_weights
from kinsight.models import save_bundle
from kinsight.models.artefact import HEADER, WEIGHTS
from kinsight.parallel.groups import barrier, broadcast_text, is_main
from kinsight.progress import say
from kinsight.training import checkpoint
from kinsight.training.broken import put_back_broken
from kinsight.training.prepared import Prepared, bundle_classifier, bundle_header, origin
from kinsight.training.run_folder import RunFolder
from kinsight.training.validation import evaluated_weights

CHECKPOINT = "checkpoint"


def snapshot_folder(output: str, path: str | None) -> storage.Address:
    """Where the snapshots of a run are."""
    return storage.Address.parse(path) if path is not None else storage.Address.parse(output).child("snapshots")


def write_snapshot(prepared: Prepared, run: RunFolder) -> None:
    """Keep the model as it is now; every rank calls it, after the checkpoint of this step. Raises StorageError.

    An earlier snapshot of this step is replaced; it loses its header first.
    """
    spec, step = prepared.spec, prepared.training.position.step
    assert spec.snapshots is not None, "asked for only where the spec has snapshots"
    if is_main():
        saved = checkpoint.newest(run.checkpoints)
        assert saved is not None, "a snapshot follows a checkpoint"
        place = snapshot_folder(spec.output, spec.snapshots.path).child(str(step))
        with storage.OutputDir(place) as output, storage.local_errors(output.path):
            for name in (HEADER, WEIGHTS, FILE):
                storage.remove(place.child(name))
            storage.remove_tree(place.child(CHECKPOINT))
            _link_tree(saved, output.path / CHECKPOINT)
            head = prepared.objective.head
            if head is not None:
                write_class_weights(str(output.path), head, spec.loss)
            with evaluated_weights(prepared):
                save_bundle(str(output.path), prepared.net, bundle_header(prepared), bundle_classifier(prepared))
            output.publish(HEADER)
    barrier()


def find_state(address: str) -> storage.Address:
    """The checkpoint in a snapshot, or the checkpoint itself. Raises DataError where there is none."""
    place = storage.Address.parse(address)
    for found in (place.child(CHECKPOINT), place):
        if storage.exists(found.child(checkpoint.HEADER)):
            return found
    raise DataError(
        "checkpoint.none",
        "holds no state of a training",
        field=f"resume_from={place}",
        remedy="give a folder that snapshots or checkpoints of a run were written to",
    )


def go_on_from(prepared: Prepared, run: RunFolder, address: str) -> None:
    """Put the state of another run's snapshot or checkpoint into this training; every rank calls it.

    Raises StorageError where nothing is, DataError for a state of other images or another model, SpecError for one
    that has nothing left to do.
    """
    with _brought(address) as folder:
        path = Path(broadcast_text(str(folder) if folder is not None else ""))
        checkpoint.restore(path, prepared.training, origin(prepared), best=run.best)
        barrier()
    put_back_broken(prepared)
    position = prepared.training.position
    position.stopped_early = False
    if position.batch >= prepared.steps_per_epoch:  # of another batch size
        position.epoch, position.batch = position.epoch + 1, 0
    if prepared.budget.is_used(position):
        raise SpecError(
            "run.nothing-left",
            f"is at step {position.step:,}, and this training ends at {prepared.budget.place(position)}",
            field=f"resume_from={storage.Address.parse(address)}",
            remedy="set more steps",
        )
    if is_main():
        say(f"going on    from {prepared.budget.place(position)}, by {storage.Address.parse(address)}")


@contextlib.contextmanager
def _brought(address: str) -> Iterator[Path | None]:
    """The checkpoint at an address as a local folder, on the main rank."""
    if not is_main():
        yield None
        return
    found = find_state(address)
    if found.is_local:
        yield found.local_path
        return
    scratch = Path(tempfile.mkdtemp(prefix="kinsight-checkpoint-"))
    try:
        for entry in storage.list_files(found):
            storage.download_file(found.child(entry.relative), storage.confine(scratch, entry.relative))
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _link_tree(source: Path, target: Path) -> None:
    """The files of a checkpoint again, without taking room where the file system can; they are never written into."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                (place / name).hardlink_to(Path(folder) / name)
            except OSError:
                shutil.copy2(Path(folder) / name, place / name)
