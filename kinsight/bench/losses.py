"""Losses over pairs against pytorch-metric-learning: one forward and backward pass, its time, peak memory and value.

Both sides get the same float32 embeddings and labels. Times are taken in one process, the sides in turn; peak memory,
what a pass adds to the process, in a process of its own for each side. A side that needs more than the memory it may
take is said not to fit. Values and gradients must agree where both compute the same.
Usage of the parts: `python -m kinsight.bench.losses times|memory SETTINGS`, JSON on the last line.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kinsight import losses, progress
from kinsight.errors import RunError
from kinsight.specs.bench_losses import BenchLosses

Loss = Callable[[Tensor, Tensor], Tensor]
_KILO = 1024
_AGREEMENT = 1e-4
"""Relative difference of float32 values and gradients that is still rounding."""


class Pair(NamedTuple):
    """Ours, the peer's if it has the loss, and whether both are the same formula."""

    ours: Loss
    peer: Callable[[], Loss] | None
    same: bool = True


def _pair(name: str) -> Pair:
    """The sides of a loss, at the same settings."""

    def peer(kind: str, miner: str | None = None, **settings: Any) -> Callable[[], Loss]:
        def build() -> Loss:
            from pytorch_metric_learning import losses as peers
            from pytorch_metric_learning import miners

            loss = getattr(peers, kind)(**settings)
            if miner is None:
                return loss
            mine = getattr(miners, miner)(**({"type_of_triplets": "semihard"} if miner == "TripletMarginMiner" else {}))
            return lambda emb_BD, label_B: loss(emb_BD, label_B, mine(emb_BD, label_B))

        return build

    euclidean = losses.Triplet(0.1, "euclidean")
    pairs: dict[str, Pair] = {
        "contrastive": Pair(losses.Contrastive(0, 1.0), peer("ContrastiveLoss", pos_margin=0, neg_margin=1)),
        "triplet": Pair(euclidean, peer("TripletMarginLoss", margin=0.1)),
        "triplet-hard": Pair(
            lambda emb, label: euclidean(emb, label, miner=losses.HardPairs()),
            peer("TripletMarginLoss", "BatchHardMiner", margin=0.1),
        ),
        # the peer keeps every semi-hard triplet, ours the hardest for each positive pair
        "triplet-semi-hard": Pair(
            lambda emb, label: euclidean(emb, label, miner=losses.SemiHard()),
            peer("TripletMarginLoss", "TripletMarginMiner", margin=0.1),
            same=False,
        ),
        "multi-similarity": Pair(
            losses.MultiSimilarity(2, 50, 0.5), peer("MultiSimilarityLoss", alpha=2, beta=50, base=0.5)
        ),
        "circle": Pair(losses.Circle(0.4, 80), peer("CircleLoss", m=0.4, gamma=80)),
        "info-nce": Pair(losses.InfoNCE(0.07), peer("NTXentLoss", temperature=0.07)),
        "supcon": Pair(losses.SupCon(0.1), peer("SupConLoss", temperature=0.1)),
        "fast-ap": Pair(losses.FastAP(10), peer("FastAPLoss", num_bins=10)),
        # the peer counts an image among its own positives
        "smooth-ap": Pair(losses.SmoothAP(0.01), peer("SmoothAPLoss", temperature=0.01), same=False),
        # the peer draws a class's pair by chance, ours takes the first two images
        "npairs": Pair(losses.NPairs(0.0), peer("NPairsLoss"), same=False),
        "recall-at-k": Pair(losses.RecallAtK(), None),
        "sigmoid-pairs": Pair(losses.SigmoidPairs(), None),
        "eml": Pair(losses.Eml(), None),
        "quadruplet": Pair(losses.Quadruplet(), None),
        "vicreg": Pair(losses.VICReg(), None),
    }
    return pairs[name]


def run(spec: BenchLosses) -> dict[str, Any]:
    """Measure, print a table, return the figures. Raises RunError where values of both sides differ."""
    rows = []
    total = len(spec.losses) * len(spec.classes) * len(spec.threads)
    with progress.task("bench losses", total, "rows") as task:
        for classes in spec.classes:
            for threads in spec.threads:
                for name in spec.losses:
                    rows.append(_row(spec, name, classes, threads))
                    task.advance(1)
    Console().print(_table(spec, rows))
    wrong = [row["loss"] for row in rows if row["same"] and (row["difference"] or 0) > _AGREEMENT]
    if wrong:
        raise RunError("bench.values", f"values or gradients differ from the peer's: {', '.join(dict.fromkeys(wrong))}")
    return {"processes": 1, "dim": spec.dim, "rows": rows}


def _row(spec: BenchLosses, name: str, classes: int, threads: int) -> dict[str, Any]:
    settings = {"loss": name, "classes": classes, **spec.model_dump(include={"per_class", "dim", "repeats", "seed"})}
    settings |= {"memory_gb": spec.memory_gb, "seconds": spec.seconds}
    has_peer = _pair(name).peer is not None
    present = ("ours", "peer") if has_peer else ("ours",)
    memory = {side: _part("memory", settings | {"side": side}, threads) for side in present}
    sides = [side for side, found in memory.items() if found is not None]
    times = _part("times", settings | {"sides": sides}, threads) or {}
    ours, peer = (times.get(side, []) for side in ("ours", "peer"))
    ratios = [a / b for a, b in zip(ours, peer, strict=False)]
    return {
        "loss": name,
        "batch": classes * spec.per_class,
        "threads": threads,
        "same": _pair(name).same and has_peer,
        "has_peer": has_peer,
        "ours_ms": 1e3 * statistics.median(ours) if ours else None,
        "peer_ms": 1e3 * statistics.median(peer) if peer else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "ours_mb": (memory["ours"] or {}).get("mb"),
        "peer_mb": (memory.get("peer") or {}).get("mb"),
        "difference": times.get("difference"),
    }


def _part(what: str, settings: dict[str, Any], threads: int) -> dict[str, Any] | None:
    """One part in a process of its own; None where it does not fit into the memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "kinsight.bench.losses", what, json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    short = ("not enough memory", "can't allocate memory", "MemoryError", "bad_alloc")
    if any(word in done.stderr for word in short):
        return None
    raise RunError("bench.side", f"{settings['loss']} failed: {done.stderr[-2000:]}")


def _table(spec: BenchLosses, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"forward and backward, embeddings of {spec.dim}, {spec.per_class} images a class, 1 process")
    for name in (
        "loss",
        "batch",
        "threads",
        "ours ms",
        "peer ms",
        "ratio",
        "ours MB",
        "peer MB",
        "memory",
        "difference",
    ):
        table.add_column(name, justify="left" if name == "loss" else "right")
    for row in rows:
        absent = "does not fit" if row["has_peer"] else "has none"
        table.add_row(
            row["loss"],
            f"{row['batch']:,}",
            str(row["threads"]),
            f"{row['ours_ms']:,.1f}" if row["ours_ms"] is not None else "does not fit",
            f"{row['peer_ms']:,.1f}" if row["peer_ms"] is not None else absent,
            f"{row['ratio']:.2f}" if row["ratio"] is not None else "",
            f"{row['ours_mb']:,.0f}" if row["ours_mb"] is not None else "",
            f"{row['peer_mb']:,.0f}" if row["peer_mb"] is not None else "",
            f"{row['ours_mb'] / row['peer_mb']:.2f}" if row["ours_mb"] and row["peer_mb"] else "",
            f"{row['difference']:.0e}" if row["difference"] is not None and row["same"] else "",
        )
    return table


def _batch(settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Unit rows, in clusters that overlap a little."""
    generator = torch.Generator().manual_seed(settings["seed"])
    classes, each, dim = settings["classes"], settings["per_class"], settings["dim"]
    centre_CD = torch.randn(classes, dim, generator=generator)
    emb_BD = 0.5 * centre_CD.repeat_interleave(each, 0) + 0.6 * torch.randn(classes * each, dim, generator=generator)
    return torch.nn.functional.normalize(emb_BD, dim=1), torch.arange(classes).repeat_interleave(each)


def _side(settings: dict[str, Any], side: str) -> Loss:
    ours, peer, _ = _pair(settings["loss"])
    if side == "ours":
        return ours
    assert peer is not None, "a side that is there"
    return peer()


def _pass(loss: Loss, emb_BD: Tensor, label_B: Tensor) -> tuple[float, Tensor, Tensor]:
    """Seconds, value, gradient."""
    leaf_BD = emb_BD.clone().requires_grad_()
    started = time.perf_counter()
    value = loss(leaf_BD, label_B)
    value.backward()
    assert leaf_BD.grad is not None, "the loss reached the embeddings"
    return time.perf_counter() - started, value.detach(), leaf_BD.grad


def _times(settings: dict[str, Any]) -> dict[str, Any]:
    emb_BD, label_B = _batch(settings)
    sides = {side: _side(settings, side) for side in settings["sides"]}
    last = {side: _pass(loss, emb_BD, label_B) for side, loss in sides.items()}  # the first one is not counted
    found: dict[str, Any] = {side: [] for side in sides}
    started = time.perf_counter()
    while min(map(len, found.values())) < settings["repeats"]:
        for side, loss in sides.items():
            last[side] = _pass(loss, emb_BD, label_B)
            found[side].append(last[side][0])
        if time.perf_counter() - started > settings["seconds"]:
            break
    if len(last) == 2:
        (_, value, grad), (_, peer_value, peer_grad) = last["ours"], last["peer"]
        by_value = (value - peer_value).abs() / peer_value.abs().clamp_min(1e-6)
        by_grad = (grad - peer_grad).abs().max() / peer_grad.abs().max().clamp_min(1e-9)
        found["difference"] = float(torch.maximum(by_value, by_grad))
    return found


def _memory(settings: dict[str, Any]) -> dict[str, Any]:
    loss = _side(settings, settings["side"])
    small, labels = _batch(settings | {"classes": 8})
    _pass(loss, small, labels)  # what a library loads at its first use is not the loss's
    emb_BD, label_B = _batch(settings)
    limit = int(settings["memory_gb"] * 1e9) + _status("VmSize") * _KILO
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _status("VmRSS")
    _pass(loss, emb_BD, label_B)
    return {"mb": (_status("VmHWM") - before) * _KILO / 1e6}


def _status(name: str) -> int:
    """A figure of this process, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps({"times": _times, "memory": _memory}[sys.argv[1]](json.loads(sys.argv[2]))))
