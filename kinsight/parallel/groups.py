"""Processes: how many to start, how they find each other, what they tell each other.

One machine: `launch` starts N workers through torch's elastic launcher. Under torchrun (or Slurm, Kubernetes with its
environment) the group found in RANK, WORLD_SIZE, ... is joined. Without either there is one process and no group.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from kinsight import errors
from kinsight.errors import InterruptedRun, KinsightError, RunError
from kinsight.parallel.collectives import all_gather_rows, rank, world_size

_TIMEOUT_S = 1800.0


def under_launcher() -> bool:
    """Whether a launcher (ours, torchrun, ...) has put this process into a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


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
    try:
        yield
    finally:
        # Destroying a group that waits for a lost peer would hang; the process is about to end anyway.
        if sys.exc_info()[0] is None:
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


def broadcast_text(text: str) -> str:
    """The main process's text, on every process."""
    if world_size() == 1:
        return text
    data = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8) if rank() == 0 else None
    size = torch.tensor([len(data) if data is not None else 0], dtype=torch.int64)
    dist.broadcast(size, 0)
    buffer = data.clone() if data is not None else torch.zeros(int(size), dtype=torch.uint8)
    dist.broadcast(buffer, 0)
    return bytes(buffer.numpy()).decode().rstrip("\0")


def gather_rows_on_cpu(rows: Tensor) -> Tensor:
    """Rows of all processes, in rank order, as a CPU tensor without gradient; row counts may differ."""
    return all_gather_rows(rows.detach().cpu().contiguous())


def launch(module: str, words: Sequence[str], num_processes: int) -> None:
    """Run `python -m module words...` in N processes on this machine and wait for all of them.

    Raises what the first process to fail reported with `report_failure`; for one that could not report, RunError
    naming it and how it ended. The others are ended too.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _prepare_environment(num_processes)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
    )
    with tempfile.TemporaryDirectory(prefix="kinsight-") as folder:
        os.environ[_REPORTS] = folder
        try:
            elastic_launch(config, sys.executable)("-m", module, *words)
        except (ChildFailedError, SignalException) as error:
            raise _reported(Path(folder)) or _unreported(error) from None
        finally:
            del os.environ[_REPORTS]


_REPORTS = "KINSIGHT_FAILURE_REPORTS"


def report_failure(error: KinsightError) -> bool:
    """Tell the launching process why this one is about to end; False if nobody listens."""
    folder = os.environ.get(_REPORTS)
    if folder is None:
        return False
    fields = {"type": type(error).__name__, "code": error.code, "message": error.message}
    report = {**fields, "field": error.field, "remedy": error.remedy, "time": time.time()}
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(report), encoding="utf-8")
    return True


def _reported(folder: Path) -> KinsightError | None:
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    if not reports:
        return None
    # A process that lost its peer reports a consequence; the cause was reported earlier.
    first = min(reports, key=lambda report: report["time"])
    type_ = getattr(errors, first["type"])
    return type_(first["code"], first["message"], field=first["field"], remedy=first["remedy"])


def _prepare_environment(num_processes: int) -> None:
    """Loopback between processes of one machine, and its cores shared among them; variables already set win."""
    loopback = "lo" if sys.platform.startswith("linux") else "lo0"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))


def _unreported(error: Exception) -> KinsightError:
    failures = getattr(error, "failures", None)
    if not failures:
        return InterruptedRun("run.interrupted", "stopped before the first checkpoint could be written")
    first_rank = min(failures, key=lambda key: failures[key].timestamp)
    first = failures[first_rank]
    killed = first.exitcode < 0
    how = (
        f"was ended by {signal.Signals(-first.exitcode).name}" if killed else f"failed with exit code {first.exitcode}"
    )
    return RunError(
        "run.process-lost",
        f"the process of rank {first_rank} {how}; the run stopped",
        remedy="the last checkpoint is intact: give the same command again to go on from it",
    )
