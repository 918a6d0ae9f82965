"""Real process groups for tests: gloo over loopback, one thread a rank."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Result = dict[str, torch.Tensor]
Worker = Callable[[int, int], Result]

_PRELOAD = [
    "torch.distributed",
    "torch.multiprocessing",
    "kinsight.losses",
    "kinsight.parallel.batchnorm",
    "timm",
    "pytest",
]


def run_ranks(worker: Worker, world: int, folder: Path) -> list[Result]:
    """What `worker(rank, world)`, a module-level function, returns on each of `world` ranks, in rank order."""
    # Children are forked from a clean process that has imported torch once: quick, and safe after OpenMP ran here.
    multiprocessing.set_forkserver_preload(_PRELOAD)
    mp.start_processes(_run, args=(worker, world, str(folder)), nprocs=world, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


def _run(rank: int, worker: Worker, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store{world}", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    try:
        torch.save(worker(rank, world), f"{folder}/rank{rank}.pt")
    finally:
        dist.destroy_process_group()


def split_rows(num_rows: int, world: int) -> list[int]:
    """Uneven row counts, one rank without any when there are four."""
    counts = {1: [num_rows], 2: [num_rows - num_rows // 3, num_rows // 3]}
    return counts[world] if world < 4 else [num_rows // 2, 0, num_rows // 3, num_rows - num_rows // 2 - num_rows // 3]


def own_rows(tensor: torch.Tensor, rank: int, world: int) -> torch.Tensor:
    """This rank's part of the whole batch."""
    return tensor.split(split_rows(len(tensor), world))[rank]
