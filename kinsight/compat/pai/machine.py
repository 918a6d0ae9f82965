"""-DgpuRequired and -Dcluster: how many ranks compute, and on what.

Workers become ranks that average their gradients, which is what a parameter server was for.
"""

import difflib
import json
import os
from dataclasses import dataclass
from typing import Any

from kinsight.compat.pai.words import PaiCommand
from kinsight.errors import SpecError
from kinsight.progress import say, warn

_WHOLE = 100  # GPUs and cores are given in hundredths
_PARTS, _FIELDS = ("ps", "worker"), ("count", "cpu", "gpu", "memory")
_EXAMPLE = """write it as in -Dcluster='{"worker": {"count": 3, "cpu": 800, "gpu": 100}}'"""


@dataclass(frozen=True)
class Asked:
    """servers, workers: their numbers. gpus: of each worker. clustered: whether there may be several workers. where:
    the parameter that asks for GPUs.
    """

    servers: int
    workers: int
    gpus: int
    clustered: bool
    where: str = "-DgpuRequired"


@dataclass(frozen=True)
class Machine:
    """device: cuda or cpu. ranks: processes that compute together. workers: as many as were asked for."""

    device: str
    ranks: int
    workers: int


def asked_of(command: PaiCommand) -> Asked:
    """What the command asks for. Raises SpecError."""
    required = _hundredths(command.get("gpuRequired") or str(_WHOLE), "-DgpuRequired")
    text = command.get("cluster")
    if text is None:
        return Asked(0, 1, required, clustered=False)
    cluster = _cluster(text)
    worker = cluster.get("worker", {})
    gpus = _hundredths(worker["gpu"], "-Dcluster: worker.gpu") if "gpu" in worker else required
    where = "-Dcluster" if "gpu" in worker else "-DgpuRequired"
    return Asked(_count(cluster, "ps", 0), _count(cluster, "worker", 1), gpus, clustered=True, where=where)


def machine_for(asked: Asked) -> Machine:
    """What this machine has of it. Less than what was asked for is said, each thing once."""
    import torch

    device, there = "cpu", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked.gpus and torch.cuda.is_available():
        device, there = "cuda", torch.cuda.device_count()
    elif asked.gpus:
        warn(f"{asked.where} asks for a GPU, but this machine has none that torch can use: computing on the CPU")
    wanted = asked.workers * (asked.gpus if device == "cuda" else 1)
    ranks = min(wanted, there)
    if asked.clustered:
        servers = f"{asked.servers} ps and " if asked.servers else ""
        say(f"cluster     {servers}{asked.workers} workers: {ranks} ranks on this machine average their gradients")
    if ranks < wanted:
        name = "GPUs" if device == "cuda" else "cores"
        warn(f"{wanted} ranks were asked for, {ranks} run: this machine has {there} {name}")
    return Machine(device, ranks, asked.workers)


def _cluster(text: str) -> dict[str, dict[str, Any]]:
    """The JSON of -Dcluster, its quotes escaped or not."""
    try:
        found = _json(text)
    except ValueError as error:
        raise SpecError("pai.cluster", f"is no JSON: {error}", field="-Dcluster", remedy=_EXAMPLE) from None
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise SpecError("pai.cluster", "must be an object of ps and worker", field="-Dcluster", remedy=_EXAMPLE)
    for name, part in found.items():
        _known(name, _PARTS, "")
        for field in part:
            _known(field, _FIELDS, f"{name}.")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if '\\"' not in text:
            raise
        return json.loads(text.replace('\\"', '"'))


def _known(name: str, known: tuple[str, ...], before: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {before}{near[0]}?" if near else ""
        raise SpecError("pai.cluster", f"has no {before}{name}{hint}", field="-Dcluster", remedy=_EXAMPLE)


def _count(cluster: dict[str, dict[str, Any]], part: str, default: int) -> int:
    if part not in cluster:
        return default
    count = cluster[part].get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < default:
        what = f"{part}.count={count!r}: must be a whole number, {default} or more"
        raise SpecError("pai.cluster", what, field="-Dcluster", remedy=_EXAMPLE)
    return count


def _hundredths(value: Any, field: str) -> int:
    """Whole GPUs; a part of one counts as one."""
    try:
        number = int(str(value).strip())
    except ValueError:
        number = -1
    if number < 0:
        raise SpecError(
            "spec.value", f"{value!r}: expected hundredths of a GPU, such as 100", field=field, remedy="0: the CPU"
        )
    return -(-number // _WHOLE)
