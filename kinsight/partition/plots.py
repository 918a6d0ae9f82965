"""Recall against vectors scanned, as one PNG: the Pareto picture of partitions and what they are measured beside."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinsight import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, RULE, EDGE = "#1f2430", "#707785", "#e4e8ee", "#c5cad3"
COLORS = ("#2563c9", "#c9782b", "#1a9452", "#8b46b8", "#b83a4b", "#2a8f9e", "#7a6a2f", "#4c5566")
GREYS = ("#1f2430", "#8b93a1", "#b98f5a", "#5f7f9c", "#b9bfc9")
"""Of baselines."""
_MARKERS = "ovsD^"
_FEW_TICKS = 4
_TICK_APART = 0.045  # of the scale: nearer to each other their numbers touch
_MISSED = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Series:
    """One line. scanned_P: shares of the base, ascending. recall_P: 0 to 1. baseline: drawn thin and dashed."""

    name: str
    scanned_P: Sequence[float]
    recall_P: Sequence[float]
    baseline: bool = False


def pareto(panels: Sequence[tuple[str, Sequence[Series]]], path: storage.AddressLike, *, title: str) -> None:
    """Write panels side by side as a PNG, 750 pixels each; log scale across, misses in decades upwards.

    panels: what is recalled, and its lines; lines of the same name have the same colour.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.14)
    figure = Figure(figsize=(max(8.5, 7.5 * len(panels)), 6.4), dpi=100, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=16)
    styles = _styles([each for _, lines in panels for each in lines])
    first = None
    for axes, (what, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _dress(axes, what)
        for line in lines:
            _draw(axes, line, *styles[line.name])
        _scales(axes, lines)
        first = first or axes
    assert first is not None, "no panel"
    handles, labels = first.get_legend_handles_labels()
    columns = min(3, len(labels)) or 1
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=12, labelcolor=INK)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    storage.write_bytes(path, file.getvalue())


def _styles(lines: Sequence[Series]) -> dict[str, tuple[str, str]]:
    """Colour and marker by name; where colours begin again, markers change."""
    found = {}
    for baseline, colors in ((False, COLORS), (True, GREYS)):
        names = dict.fromkeys(each.name for each in lines if each.baseline == baseline)
        for at, name in enumerate(names):
            found[name] = (colors[at % len(colors)], _MARKERS[at // len(colors) % len(_MARKERS)])
    return found


def _draw(axes: "Axes", line: Series, color: str, marker: str) -> None:
    style = (1.6, (0, (4, 2)), 3) if line.baseline else (2.4, "-", 4.5)
    recall_P = np.minimum(np.asarray(line.recall_P, float), 1 - _MISSED[-1])
    shown = slice(0, _last(line) + 1)
    axes.plot(
        line.scanned_P[shown], recall_P[shown], color=color, linewidth=style[0], linestyle=style[1], marker=marker,
        markersize=style[2], label=line.name,
    )  # fmt: skip


def _last(line: Series) -> int:
    """The first point at the top of the picture, or else the last one: beyond, a line says nothing more."""
    top_P = np.asarray(line.recall_P, float) >= 1 - _MISSED[-1]
    return int(top_P.argmax()) if top_P.any() else len(top_P) - 1


def _scales(axes: "Axes", lines: Sequence[Series]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("function", functions=(_up, _down))
    recall = np.concatenate([np.asarray(line.recall_P, float) for line in lines] or [np.zeros(1)])
    bottom, top, ticks = _heights(float(recall.min()), float(recall.max())) if len(recall) else _heights(0.0, 1.0)
    axes.set_ylim(bottom, top)
    axes.set_yticks(ticks, [f"{tick:.3g}{'+' * (tick == 1 - _MISSED[-1])}" for tick in ticks])
    axes.minorticks_off()
    shown_P = [np.asarray(line.scanned_P[: _last(line) + 1], float) for line in lines]
    scanned = np.concatenate(shown_P or [np.ones(1)])
    marks = [m * 10.0**e for e in range(-8, 1) for m in (1, 2, 5)]
    near = [mark for mark in marks if scanned.min() * 0.8 <= mark <= scanned.max() * 1.25]
    while len(near) > 8:
        near = near[::2]
    axes.set_xticks(near, [f"{100 * mark:.3g} %" for mark in near])


def _heights(low: float, high: float) -> tuple[float, float, list[float]]:
    """Where the scale of recalls begins, where it ends, a little above the highest, and its ticks between."""
    from matplotlib.ticker import MaxNLocator

    bottom = max(low - 0.02, 0.0)
    first, last = (float(_up(np.array(each))) for each in (bottom, high))
    last = min(max(last, first + 0.004) + 0.05 * (last - first), float(_up(np.array(1 - 0.8 * _MISSED[-1]))))
    top = float(_down(np.array(last)))
    usual = [1 - miss for miss in _MISSED] + [0.4, 0.3, 0.2, 0.1, 0.0]
    found = [each for each in usual if bottom <= each <= top]
    if len(found) < _FEW_TICKS:
        found = [float(each) for each in MaxNLocator(6).tick_values(bottom, top)[::-1] if bottom <= each <= top]
    ticks: list[float] = []
    for each in sorted(found, reverse=True):
        if not ticks or _up(np.array(ticks[-1])) - _up(np.array(each)) >= _TICK_APART * (last - first):
            ticks.append(each)
    return bottom, top, ticks


def _up(recall: np.ndarray) -> np.ndarray:
    return -np.log10(np.clip(1 - np.asarray(recall), _MISSED[-1] / 10, None))


def _down(height: np.ndarray) -> np.ndarray:
    return 1 - 10.0 ** -np.asarray(height)


def _dress(axes: "Axes", what: str) -> None:
    axes.set_title(what, loc="left", color=INK, fontsize=14)
    axes.set_xlabel("entries scanned, copies counted, of the base", color=QUIET, fontsize=12)
    axes.tick_params(colors=QUIET, labelsize=11, length=0)
    axes.grid(color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(EDGE)
