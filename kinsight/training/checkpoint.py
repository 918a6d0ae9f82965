"""The checkpoint: everything a run needs to go on as if it had not stopped.

A folder `step-00001234/` with the tensors as torch Distributed Checkpoint in safetensors files, each rank's random
state and sums (`rank-00000.npz`), the best model so far (`best/`), and `checkpoint.json`, written last: a folder
without it is not a checkpoint. Tensors that all ranks hold alike are written once; another number of ranks can read
them.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError
from kinsight.models import Initial
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.groups import barrier, is_main
from kinsight.storage.local import ASIDE_PREFIX, remove_local, sync_directory
from kinsight.training.checkpoint_files import (
    copy_folder,
    identity,
    load_own,
    load_tensors,
    rank_file,
    save_own,
    save_tensors,
)
from kinsight.training.state import Position, Training, random_state, set_random_state

FORMAT = "kinsight-checkpoint"
VERSION = 1
HEADER = "checkpoint.json"
BEST = "best"
_NETWORK = "learner.net."


@dataclass(frozen=True)
class Origin:
    """What a training is of. spec: its settings. data: fingerprints of its images, by what they are for."""

    spec: dict[str, Any]
    data: dict[str, str | None]


def save(folder: Path, training: Training, origin: Origin, *, keep: int, best: Path) -> Path:
    """Write a checkpoint under `folder` and drop all but the newest `keep`; every rank calls it.

    best: where the bundle of the best model is, if there is one yet; it becomes part of the checkpoint.
    Raises StorageError (disk full, ...); earlier checkpoints stay valid in that case.
    """
    target = folder / f"step-{training.position.step:08d}"
    scratch = folder / f"{ASIDE_PREFIX}{target.name}"
    tensors = training.tensors()
    with _removed_on_failure(scratch), storage.local_errors(scratch):
        if is_main():
            shutil.rmtree(scratch, ignore_errors=True)
            storage.make_directory(scratch)
        barrier()
        save_tensors(scratch, tensors)
        save_own(scratch / rank_file(rank()), {"random": random_state(), "window": training.window.state()})
        barrier()
        if is_main():
            if training.position.best is not None:
                copy_folder(best, scratch / BEST, link=True)
            _write_header(scratch, training, tensors, origin)
            if target.exists():
                shutil.rmtree(target)
            scratch.replace(target)
            sync_directory(folder)
            _drop_old(folder, keep)
    barrier()
    return target


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint under `folder`, if there is one."""
    return next(iter(reversed(complete(folder))), None)


def complete(folder: Path) -> list[Path]:
    """All complete checkpoints under `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{HEADER}"))


def remove_incomplete(folder: Path) -> None:
    """Remove what an interrupted writing left under `folder`. Raises StorageError."""
    with storage.local_errors(folder):
        unfinished = [path for path in folder.glob("step-*") if path.is_dir() and not (path / HEADER).exists()]
        for path in [*unfinished, *folder.glob(f"{ASIDE_PREFIX}*")]:
            remove_local(path)


def initial_weights(address: str) -> Initial | None:
    """The network of a checkpoint, to start another training from; None where the address is no checkpoint.

    The weights as they were trained at that step; an average of them (`ema`) is what a run's bundle has.

    Raises DataError for one that was altered or is of another version, StorageError.
    """
    place = storage.Address.parse(address)
    if not storage.exists(place.child(HEADER)):
        return None
    path = place.local_path if place.is_local else storage.copy_in(place)
    header = _read_header(path)
    _check_files(path, header)
    state: dict[str, Tensor] = {}
    for file in path.glob("*.safetensors"):
        state |= load_file(file)
    own = {name.removeprefix(_NETWORK): tensor for name, tensor in state.items() if name.startswith(_NETWORK)}
    return Initial(str(place), header["spec"]["model"]["backbone"], own)


def restore(path: Path, training: Training, origin: Origin, *, best: Path) -> None:
    """Put a checkpoint's state into `training`, and the best model of that time back to `best`; every rank calls it.

    Raises DataError if the checkpoint was altered, is of another version, or of other images.
    """
    header = _read_header(path)
    if is_main():
        _check_files(path, header)
        _put_back(path / BEST, best)
    _check_data(path, header["data"], origin.data)
    training.create_moments(header["tensors"])
    tensors = training.tensors()
    if header["tensors"] != _shapes(tensors):
        differing = sorted(name for name, _ in header["tensors"].items() ^ _shapes(tensors).items())
        raise DataError(
            "checkpoint.tensors",
            f"does not fit this model: {', '.join(differing[:3])}{' ...' if differing[3:] else ''}",
            field=str(path),
            remedy="use the version of kinsight that wrote it, or --overwrite to start anew",
        )
    load_tensors(path, tensors)
    if training.scaler is not None and header["scaler"] is not None:
        training.scaler.load_state_dict(header["scaler"])
    training.position, training.broken = Position(**header["position"]), header["broken"]
    device = next(training.learner.parameters()).device
    if header["world_size"] == world_size():
        own = load_own(path / rank_file(rank()))
        set_random_state(own["random"])
        training.window.load([own["window"]], device)
    else:
        ranks = range(header["world_size"])
        training.window.load([load_own(path / rank_file(number))["window"] for number in ranks], device)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}" for name, tensor in tensors.items()}


def _write_header(folder: Path, training: Training, tensors: dict[str, Tensor], origin: Origin) -> None:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "position": asdict(training.position),
        "broken": training.broken,
        "scaler": training.scaler.state_dict() if training.scaler is not None else None,
        "world_size": world_size(),
        "tensors": _shapes(tensors),
        "files": {file.relative_to(folder).as_posix(): identity(file, durable=True) for file in files},
        **asdict(origin),
    }
    storage.write_bytes(str(folder / HEADER), json.dumps(header, indent=1).encode())


def _read_header(path: Path) -> dict[str, Any]:
    file = path / HEADER
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _altered(path, file, "is not a header of a checkpoint")
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise DataError(
            "checkpoint.version",
            f"{header.get('format')} {header.get('version')}: expected {FORMAT} {VERSION}",
            field=str(file),
            remedy="use the version of kinsight that wrote it",
        )
    return header


def _check_files(path: Path, header: dict[str, Any]) -> None:
    for name, expected in header["files"].items():
        file = path / name
        if not file.is_file():
            raise _altered(path, file, "is missing")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise _altered(path, file, f"is {size} bytes long, not {expected['bytes']}")
        if identity(file) != expected:
            raise _altered(path, file, "is not what was written: its hash differs")


def _altered(path: Path, file: Path, what: str) -> DataError:
    remedy = f"remove the folder {path} to go on from the checkpoint before it, if there is one"
    return DataError("checkpoint.altered", what, field=str(file), remedy=remedy)


def _check_data(path: Path, before: dict[str, Any], now: dict[str, str | None]) -> None:
    for purpose, value in now.items():
        if before.get(purpose) != value:
            raise DataError(
                "checkpoint.other-data",
                f"the list of {purpose} images has changed since the run was started",
                field=str(path),
                remedy="give the list as it was, or --overwrite to start anew",
            )


def _put_back(saved: Path, best: Path) -> None:
    """A validation after the checkpoint may have found a better model, which the resumed run does not know of yet."""
    with storage.local_errors(best):
        if saved.is_dir():
            copy_folder(saved, best, link=True)
        else:
            shutil.rmtree(best, ignore_errors=True)


@contextmanager
def _removed_on_failure(scratch: Path) -> Iterator[None]:
    """What was written so far takes room that the next try needs."""
    try:
        yield
    except BaseException:
        if is_main():
            shutil.rmtree(scratch, ignore_errors=True)
        raise


def _drop_old(folder: Path, keep: int) -> None:
    for path in complete(folder)[:-keep]:
        # The header goes first: a half-removed checkpoint must not look complete.
        (path / HEADER).unlink()
        shutil.rmtree(path)
