"""Two pictures of a set: queries a second against recall, and multiply-adds against recall."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinsight import storage
from kinsight.bench.index.tables import OURS
from kinsight.partition.plots import COLORS, INK, QUIET, RULE
from kinsight.specs.bench_index import BenchedSystem

_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_MOST = 0.9993
_ORDER = BenchedSystem.__args__


def draw(data: dict[str, Any], rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """speed-SET.png and cost-SET.png in a folder that is there. rows: of `sweep`."""
    name, numbers = data["name"], data["rows"] * data["dim"]
    speed = _lines(rows, lambda row: 1 / row["s"])
    cost = _lines(rows, lambda row: row["counts"] and 100 * row["counts"]["multiply_adds"] / numbers)
    title = f"{name}, {data['rows']:,} x {data['dim']}"
    return [
        _write(
            folder / f"speed-{name}.png", speed, f"{title}: speed", f"queries a second, {data['threads']} thread(s)"
        ),
        _write(folder / f"cost-{name}.png", cost, f"{title}: cost", "multiply-adds, per cent of a full scan"),
    ]


def _lines(rows: Sequence[dict[str, Any]], value: Any) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if (height := value(row)) is not None:
            lines.setdefault(row["system"], []).append((min(row["recall"], _MOST), height))
    return {name: sorted(points) for name, points in lines.items()}


def _write(path: Path, lines: dict[str, list[tuple[float, float]]], title: str, what: str) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 6.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in lines.items():
        number = _ORDER.index(name)
        ours = name in OURS
        axes.plot(
            *zip(*points, strict=True), label=name, color=(*COLORS, INK)[number],
            linewidth=2.6 if ours else 1.5, linestyle="-" if ours else (0, (4, 2)), marker="o",
            markersize=5 if ours else 3.5, zorder=3 if ours else 2,
        )  # fmt: skip
    low = min((recall for points in lines.values() for recall, _ in points), default=0.5)
    axes.set_xscale("function", functions=(_up, _down))
    shown = [tick for tick in _TICKS if tick >= low - 0.02]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xlim(max(0.0, low - 0.02), 0.9995)
    axes.set_yscale("log")
    for axis_ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_ticks(_plain)
    axes.set_xlabel("recall@10", color=QUIET)
    axes.set_ylabel(what, color=QUIET)
    axes.set_title(title, loc="left", color=INK, fontsize=15)
    axes.grid(True, which="major", color=RULE)
    axes.tick_params(which="both", colors=QUIET)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, labelcolor=INK)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    storage.write_bytes(path, file.getvalue())
    return path


def _plain(value: float, place: float) -> str:
    """Numbers on a log axis at 1, 2, 5 times a power of ten."""
    return f"{value:,.10g}" if f"{value:e}"[0] in "125" else ""


def _up(recall: Any) -> Any:
    import numpy as np

    return -np.log10(np.maximum(1 - np.asarray(recall, float), 1e-6))


def _down(height: Any) -> Any:
    import numpy as np

    return 1 - 10.0 ** -np.asarray(height, float)
