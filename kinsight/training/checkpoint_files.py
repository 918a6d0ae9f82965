"""The files of a checkpoint: tensors as torch Distributed Checkpoint in safetensors, each rank's own arrays, hashes."""

import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight.parallel.collectives import world_size
from kinsight.storage.local import ASIDE_PREFIX


def save_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors that all ranks hold alike; every rank calls it. Raises OSError."""
    # Imported here since it takes seconds, which a run has when it has trained for a while.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_state

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    dense: dict[str, Any] = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own saving without a process group
        try:
            save_state(dense, storage_writer=writer, no_dist=world_size() == 1)
        except CheckpointException as error:
            raise _cause(error) from error


def _cause(error: Any) -> BaseException:
    """The operating system's error behind a failed save, where there is one."""
    for failure, _ in error.failures.values():
        if isinstance(failure, OSError):
            return failure
    return error


def load_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill `tensors`, in place, with what was saved under their names; every rank calls it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    buffers: dict[str, Any] = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in tensors.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(buffers, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=world_size() == 1)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(buffers[name])


def rank_file(number: int) -> str:
    """Name of the file of a rank's own arrays."""
    return f"rank-{number:05d}.npz"


def save_own(file: Path, groups: dict[str, dict[str, np.ndarray]]) -> None:
    """Write groups of named arrays. Raises OSError."""
    arrays: dict[str, Any] = {f"{group}/{key}": value for group, part in groups.items() for key, value in part.items()}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def load_own(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """What `save_own` wrote."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            group, _, key = name.partition("/")
            groups.setdefault(group, {})[key] = arrays[name]
    return groups


def identity(file: Path, *, durable: bool = False) -> dict[str, Any]:
    """Size and hash of a file. durable: it survives a power cut from now on."""
    with file.open("rb") as stream:
        if durable:
            os.fsync(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": stream.tell(), "sha256": digest}


def copy_folder(source: Path, target: Path, *, link: bool = False) -> None:
    """Replace `target` by the files of the flat folder `source`, all or none. Raises OSError.

    link: take no room, where the file system can; for files that are replaced as a whole and never written into.
    """
    scratch = target.with_name(f"{ASIDE_PREFIX}{target.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for file in source.iterdir():
        if not (link and _linked(file, scratch / file.name)):
            shutil.copy2(file, scratch / file.name)
    shutil.rmtree(target, ignore_errors=True)
    scratch.replace(target)


def _linked(file: Path, target: Path) -> bool:
    try:
        target.hardlink_to(file)
    except OSError:
        return False
    return True
