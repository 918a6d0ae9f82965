"""A learned partition beside the k-means it began with, on queries that neither has seen.

Shapes: Q queries, N vectors, L lists, K neighbours.
"""

import math
from typing import Any

from torch import Tensor

from kinsight import storage
from kinsight.partition.artefact import Partition, PartitionHeader
from kinsight.partition.measure import (
    RECALLS,
    Curve,
    Truth,
    by_distance,
    by_yield,
    curve,
    imbalance,
    probes_of,
    ranked_lists,
    sizes,
)
from kinsight.partition.plots import Series, pareto
from kinsight.progress import warn

DEPTHS = (1, 10, 100)
_JUDGED = 0.95


def compare_with_start(partition: Partition, held: Truth, list_N: Tensor, start_N: Tensor) -> dict[str, Any]:
    """Curves of both, and what a recall costs, as plain numbers; list_N, start_N: lists of the vectors, int64."""
    lists = len(partition.size_L)
    probes = probes_of(lists)
    orders = {
        "learned": (by_yield(partition.router, partition.size_L), list_N),
        "k-means": (by_distance(partition.clusters), start_N),
    }
    found: dict[str, Any] = {"probes": probes, "vectors": len(list_N), "queries": len(held.query_QR)}
    for name, (score, of_N) in orders.items():
        order_QL = ranked_lists(score, held.query_QR, probes[-1])
        depths = [depth for depth in DEPTHS if depth <= held.near_QK.shape[1]]
        curves = {k: curve(order_QL, of_N[:, None], held.near_QK[:, :k], probes, lists) for k in depths}
        found[name] = _plain(curves, len(list_N), imbalance(sizes(of_N[:, None], lists)))
    return found


def _plain(curves: dict[int, Curve], number: int, uneven: float) -> dict[str, Any]:
    first = next(iter(curves.values()))
    told: dict[str, Any] = {
        "scanned": [round(float(each) / number, 6) for each in first.scanned],
        "p95": [round(float(each) / number, 6) for each in first.p95],
        "imbalance": round(uneven, 4),
    }
    for k, found in curves.items():
        told[f"recall@{k}"] = [round(float(each), 5) for each in found.recall]
    usual = curves.get(10, first)
    told["scanned_for"] = {f"{recall:g}": _or_none(usual.scanned_for(recall) / number) for recall in RECALLS}
    return told


def warn_if_in_vain(measured: dict[str, Any]) -> None:
    """Say so where what was learned scans more than the k-means it began with."""
    learned, start = (measured[name]["scanned_for"][f"{_JUDGED:g}"] for name in ("learned", "k-means"))
    if start is not None and (learned is None or learned > start):
        ours = "does not reach it" if learned is None else f"scans {100 * learned:.3g} %"
        warn(
            f"for a recall of {100 * _JUDGED:g} % on vectors held out k-means scans {100 * start:.3g} % of all, "
            f"what was learned {ours}: try a lower rate, more vectors to learn from, or an index of kind ivf"
        )


def draw_measured(header: PartitionHeader, path: storage.AddressLike) -> None:
    """Write the picture: recall against vectors scanned, learned and k-means; a panel for each number of neighbours."""
    found = header.measured
    depths = [depth for depth in DEPTHS if f"recall@{depth}" in found["learned"]]
    panels = [
        (
            f"recall@{depth}",
            [
                Series(name, found[name]["scanned"], found[name][f"recall@{depth}"], baseline=name == "k-means")
                for name in ("learned", "k-means")
            ],
        )
        for depth in depths
    ]
    pareto(panels, path, title=f"{header.lists:,} lists, {found['vectors']:,} vectors, {found['queries']:,} held out")


def print_measured(header: PartitionHeader) -> None:
    """What a partition costs at some recalls beside the k-means it began with, in shares of all vectors scanned."""
    from rich.console import Console
    from rich.table import Table

    found = header.measured
    table = Table(title=f"{header.lists:,} lists, {found['queries']:,} queries held out: vectors scanned for recall@10")
    for name in ("", *(f"{100 * recall:g} %" for recall in RECALLS), "imbalance"):
        table.add_column(name, justify="left" if not name else "right")
    for name in ("k-means", "learned"):
        costs = [found[name]["scanned_for"][f"{recall:g}"] for recall in RECALLS]
        shown = ["-" if cost is None else f"{100 * cost:.2f} %" for cost in costs]
        table.add_row(name, *shown, f"{found[name]['imbalance']:.2f}")
    Console(highlight=False).print(table)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
