"""The checkpoint: everything a run needs to go on as if it had not stopped.

A folder `step-00001234/` with the tensors as torch Distributed Checkpoint in safetensors files, the random states of
each rank, and `checkpoint.json`, written last: a folder without it is not a checkpoint. Tensors that all ranks hold
alike are written once; another number of ranks can read them.
"""

import json
import os
import shutil
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from kinsight import storage
from kinsight.errors import DataError
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.groups import barrier, is_main
from kinsight.storage.local import sync_directory
from kinsight.training.averaging import WeightAverage

FORMAT = "kinsight-checkpoint"
VERSION = 1
HEADER = "checkpoint.json"


@dataclass
class Position:
    """Where a run stands.

    step: optimizer steps done. epoch, batch: the next batch to train on. images: seen so far. best: best validation
    value; best_epoch: epochs done when it was reached; bad_validations: validations since. seconds: training time.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    images: int = 0
    best: float | None = None
    best_epoch: int | None = None
    bad_validations: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


@dataclass
class Training:
    """What a checkpoint holds: the live objects, saved from and restored into."""

    learner: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler | None
    position: Position = field(default_factory=Position)


def save(folder: Path, training: Training, spec: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint under `folder` and drop all but the newest `keep`; every rank calls it.

    Raises StorageError (disk full, ...); earlier checkpoints stay valid in that case.
    """
    target = folder / f"step-{training.position.step:08d}"
    scratch = folder / f".{target.name}.partial"
    if is_main():
        shutil.rmtree(scratch, ignore_errors=True)
        storage.make_directory(scratch)
    barrier()
    with storage.local_errors(scratch):
        _save_tensors(scratch, _tensors(training))
        _save_random_state(scratch / f"random-{rank():05d}.npz")
        barrier()
        if is_main():
            _write_header(scratch, training, spec)
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


def restore(path: Path, training: Training) -> None:
    """Put a checkpoint's state into `training`. Raises DataError if it was altered or is of another version."""
    header = _read_header(path)
    tensors = _tensors(training, with_moments=True)
    missing = set(header["tensors"]) ^ set(tensors)
    if missing:
        raise DataError(
            "checkpoint.tensors",
            f"does not fit this model: {', '.join(sorted(missing)[:3])} ...",
            field=str(path),
            remedy="give the settings the run was started with, or --overwrite to start anew",
        )
    _load_tensors(path, tensors)
    if training.scaler is not None and header["scaler"] is not None:
        training.scaler.load_state_dict(header["scaler"])
    training.position = Position(**header["position"])
    if header["world_size"] == world_size():
        _restore_random_state(path / f"random-{rank():05d}.npz")


def _tensors(training: Training, *, with_moments: bool = False) -> dict[str, Tensor]:
    tensors = {f"learner.{name}": tensor for name, tensor in training.learner.state_dict().items()}
    if with_moments:
        _create_moments(training.optimizer)
    names = {id(parameter): name for name, parameter in training.learner.named_parameters()}
    for parameter, moments in training.optimizer.state.items():
        for kind, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{names[id(parameter)]}.{kind}"] = value
    if training.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in training.average.tensors.items()}
    return tensors


def _create_moments(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer allocate its state, by a step that moves nothing."""
    if optimizer.state:
        return
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = 0.0, 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, (rate, decay) in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["weight_decay"] = rate, decay


def _save_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own saving without a process group
        try:
            save_tensors(_contiguous(tensors), storage_writer=writer, no_dist=world_size() == 1)
        except CheckpointException as error:
            raise _cause(error) from error


def _cause(error: CheckpointException) -> BaseException:
    """The operating system's error behind a failed save, where there is one."""
    for failure, _ in error.failures.values():
        if isinstance(failure, OSError):
            return failure
    return error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Copies as safetensors wants them: on the CPU, dense, one storage each."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _load_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    buffers: dict[str, Any] = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in tensors.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(buffers, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=world_size() == 1)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(buffers[name])


def _save_random_state(file: Path) -> None:
    states = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state().numpy()
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **states)
        stream.flush()
        os.fsync(stream.fileno())


def _restore_random_state(file: Path) -> None:
    with np.load(file, allow_pickle=False) as states:
        torch.set_rng_state(torch.from_numpy(states["cpu"]))
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]))


def _write_header(folder: Path, training: Training, spec: dict[str, Any]) -> None:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "position": asdict(training.position),
        "scaler": training.scaler.state_dict() if training.scaler is not None else None,
        "world_size": world_size(),
        "tensors": sorted(_tensors(training)),
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "spec": spec,
    }
    storage.write_bytes(str(folder / HEADER), json.dumps(header, indent=1).encode())


def _read_header(path: Path) -> dict[str, Any]:
    header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise DataError(
            "checkpoint.version",
            f"{header.get('format')} {header.get('version')}: expected {FORMAT} {VERSION}",
            field=str(path / HEADER),
            remedy="use the version of kinsight that wrote it",
        )
    for name, size in header["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            raise DataError(
                "checkpoint.altered",
                f"is missing or not {size} bytes long",
                field=str(file),
                remedy=f"delete {path} to go on from the checkpoint before it",
            )
    return header


def _drop_old(folder: Path, keep: int) -> None:
    for path in complete(folder)[:-keep]:
        # The header goes first: a half-removed checkpoint must not look complete.
        (path / HEADER).unlink()
        shutil.rmtree(path)
