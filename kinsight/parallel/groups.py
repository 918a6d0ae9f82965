"""Processes that work together: how they find each other, what they tell each other.

Under a launcher (`launch.py`, torchrun, Slurm or Kubernetes with its environment) the group found in RANK, WORLD_SIZE,
... is joined. Without one there is one process and no group.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from kinsight.parallel.collectives import all_gather_rows, rank, row_counts, world_size

_TIMEOUT_S = 1800.0


def under_launcher() -> bool:
    """Whether a launcher (ours, torchrun, ...) has put this process into a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_here() -> int:
    """Processes of the group on this machine; 1 without a launcher."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group a launcher prepared, for as long as the block runs; without a launcher, nothing."""
    if not under_launcher() or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=_TIMEOUT_S))
    # Not in a `finally`: leaving a group that waits for a lost peer would hang, and after an error the process ends.
    yield
    dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process writes files and talks to people."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        sum_over_ranks([0.0])


def sum_over_ranks(values: Sequence[float], device: torch.device | None = None) -> list[float]:
    """Numbers summed over the processes (float64). Waits for the device."""
    if world_size() == 1:
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64, device=device or "cpu")
    dist.all_reduce(total)
    return total.tolist()


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in rank order, on every process."""
    if world_size() == 1:
        return [text]
    data = text.encode()
    own = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
    counts = row_counts(len(own), own.device)
    return [bytes(part.numpy()).decode() for part in all_gather_rows(own, counts=counts).split(counts)]


def broadcast_text(text: str) -> str:
    """The main process's text, on every process."""
    return gather_texts(text if is_main() else "")[0]


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Give every process the main process's values, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def gather_rows_on_cpu(rows: Tensor) -> Tensor:
    """Rows of all processes, in rank order, as a CPU tensor without gradient; row counts may differ."""
    return all_gather_rows(rows.detach().cpu().contiguous())
