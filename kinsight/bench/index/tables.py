"""What `kinsight bench index` prints."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

OURS = ("kinsight", "kinsight-flat")


def speed_table(data: dict[str, Any], target: float, threads: int, rows: Sequence[dict[str, Any]]) -> Table:
    """Queries a second at a recall, with what each system was set to; seeds in one line."""
    title = f"{data['name']} ({data['rows']:,} x {data['dim']}): recall@10 {target:g}, {_threads(threads)}"
    table = _new(title, "system", "q/s", "seeds", "beside the best peer", "recall", "cost", "entries", "p95",
                 "MB", "build s", "settings")  # fmt: skip
    best = best_peer(rows)
    for name, own in _by_system(rows):
        first = own[0]
        counts = first["counts"] or {}
        table.add_row(
            name,
            f"{first['per_s']:,.0f}",
            _spread([row["per_s"] for row in own], ",.0f"),
            "" if best is None else f"{beside(first, best):.2f}{_missed(first)}",
            _reached(own, target),
            _share(counts.get("multiply_adds"), data),
            _number(counts.get("entries")),
            _number(counts.get("p95")),
            f"{first['mb']:,.0f}",
            f"{first['build_s']:.1f}",
            settings_text(first),
        )
    table.caption = (
        "medians; q/s and recall of the first seed, range of q/s, least recall of the others; settings reach the "
        "recall on learn queries, below: not on the test queries; cost: multiply-adds in per cent of a full scan"
    )
    return table


def cost_table(data: dict[str, Any], target: float, rows: Sequence[dict[str, Any]]) -> Table:
    """The least multiply-adds at a recall."""
    table = _new(f"{data['name']}: least multiply-adds at recall@10 {target:g}, per cent of a full scan",
                 "system", "cost", "seeds", "beside the best peer", "recall", "entries", "p95", "settings")  # fmt: skip
    best = min((row["counts"]["multiply_adds"] for row in rows if _is_lists(row)), default=None)
    for name, own in _by_system(rows):
        first, cost = own[0], own[0]["counts"]["multiply_adds"]
        table.add_row(
            name,
            _share(cost, data),
            _spread([100 * row["counts"]["multiply_adds"] / data["rows"] / data["dim"] for row in own], ".2f"),
            "" if best is None else f"{cost / best:.2f}{_missed(first)}",
            _reached(own, target),
            _number(first["counts"]["entries"]),
            _number(first["counts"]["p95"]),
            settings_text(first),
        )
    table.caption = "the best peer: inverted lists of whole vectors with flat or graph routing, at their best lists"
    return table


def equal_table(data: dict[str, Any], target: float, rows: Sequence[dict[str, Any]]) -> Table:
    """Queries a second where the test queries' recall is the same for all, between measured points of each curve."""
    title = f"{data['name']}: at recall@10 {target:g} exactly, between efforts; {_threads(data['threads'])}, once each"
    table = _new(title, "system", "q/s", "beside the best peer", "cost")
    speeds = equal_speeds(rows, target)
    best = quickest_peer(speeds)
    for name, own in _by_system(rows):
        speed = speeds.get(name)
        counted = [(row["recall"], row["counts"]["multiply_adds"]) for row in own if row["counts"]]
        ratio = "" if best is None or speed is None else f"{speed / speeds[best]:.2f}"
        table.add_row(name, _number(speed), ratio, _share(at_recall(counted, target), data))
    table.caption = "settings are found on learn queries and miss a recall, or pass it, by different amounts: not here"
    return table


def equal_speeds(rows: Sequence[dict[str, Any]], target: float) -> dict[str, float]:
    """Queries a second of each system at a recall; systems are left out whose efforts lie on one side of it."""
    found = {name: at_recall([(row["recall"], 1 / row["s"]) for row in own], target) for name, own in _by_system(rows)}
    return {name: speed for name, speed in found.items() if speed is not None}


def quickest_peer(speeds: dict[str, float]) -> str | None:
    """The quickest of the others."""
    return max((name for name in speeds if name not in OURS), key=lambda name: speeds[name], default=None)


def at_recall(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """A value at a recall, between the nearest points on either side, both on log axes; None where there are none."""
    below = max((each for each in points if each[0] <= target), default=None)
    above = min((each for each in points if each[0] >= target), default=None)
    if below is None or above is None:
        return None
    low, here, high = (math.log(max(1e-6, 1 - recall)) for recall in (below[0], target, above[0]))
    share = 0.0 if low == high else (low - here) / (low - high)
    return math.exp((1 - share) * math.log(below[1]) + share * math.log(above[1]))


def lists_table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Entries scanned: ours against k-means with as many lists, and with as much storage."""
    keys = [key for key in rows[0] if key.startswith(("entries@", "recall@"))] if rows else []
    shape = ("stored", "imbalance")
    table = _new(f"{name}: entries scanned, copies counted", "lists", "partition", "copies", "seed", *keys, *shape)
    for row in rows:
        found = [_number(row[key]) if key.startswith("entries") else _recall(row[key]) for key in keys]
        found += [f"{row[key]:.2f}" for key in shape]
        table.add_row(f"{row['lists']:,}", row["partition"], f"{row['copies']:g}", str(row["seed"]), *found)
    return table


def best_peer(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The quickest of the others that reached the recall; first seeds."""
    peers = [own[0] for name, own in _by_system(rows) if name not in OURS and own[0]["recall"] >= own[0]["target"]]
    return min(peers, key=lambda row: row["s"], default=None)


def beside(row: dict[str, Any], peer: dict[str, Any]) -> float:
    """How many times the peer's speed: median over turns."""
    ratios = sorted(theirs / ours for ours, theirs in zip(row["all_s"], peer["all_s"], strict=True))
    return (ratios[(len(ratios) - 1) // 2] + ratios[len(ratios) // 2]) / 2


def settings_text(row: dict[str, Any]) -> str:
    """Settings of a build and a search in a few words."""
    build = row["build"].get("factory") or " ".join(
        f"{key} {'all' if value is None else value}" for key, value in row["build"].items() if key != "rows"
    )
    knob = " ".join(f"{key} {value}" for key, value in row["knob"].items())
    return f"{build}; effort {row['effort']} {knob}".strip()


def _is_lists(row: dict[str, Any]) -> bool:
    return row["system"] in ("faiss-ivf-flat", "faiss-ivf-hnsw") and row["recall"] >= row["target"]


def _by_system(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    names = dict.fromkeys(row["system"] for row in rows)
    return [(name, [row for row in rows if row["system"] == name]) for name in names]


def _new(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in ("system", "settings", "partition") else "right")
    return table


def _threads(number: int) -> str:
    return f"{number} thread" + "s" * (number > 1)


def _share(multiply_adds: float | None, data: dict[str, Any]) -> str:
    return "" if multiply_adds is None else f"{100 * multiply_adds / data['rows'] / data['dim']:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _recall(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _reached(rows: Sequence[dict[str, Any]], target: float) -> str:
    """Of the first seed; the least of the others in brackets."""
    first, *others = (row["recall"] for row in rows)
    least = f" ({min(others):.4f})" if others else ""
    return f"{first:.4f}{least}{'' if first >= target else ' below'}"


def _missed(row: dict[str, Any]) -> str:
    """What a comparison with one that reached the recall must not hide."""
    return "" if row["recall"] >= row["target"] else " at lower recall"


def _spread(values: Sequence[float], form: str) -> str:
    return "" if len(values) < 2 else f"{min(values):{form}}-{max(values):{form}}"
