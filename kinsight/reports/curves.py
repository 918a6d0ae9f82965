"""How a training went, as one PNG: loss, validation metrics and learning rate over the optimizer's steps."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kinsight import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, RULE = "#1f2430", "#707785", "#e4e8ee"
COLORS = ("#2563c9", "#1a9452", "#c9782b")
SHOWN = ("recall@1", "map@r", "r_precision", "accuracy", "mean_average_precision", "f1")


@dataclass(frozen=True)
class Curve:
    """One quantity over steps; step ascends, value is finite."""

    name: str
    step: np.ndarray
    value: np.ndarray


def training_picture(
    rows: Sequence[Mapping[str, Any]], path: storage.AddressLike, *, metric: str | None = None
) -> None:
    """Write the picture as a PNG, 1500 pixels wide.

    rows: a run's metrics.jsonl, in its order: `kind` ("train" or "validation"), `step`, and numbers by name; null and
    non-finite ones are passed over. metric: the validation metric the run is judged by, marked at its best; default:
    the first of SHOWN, or else of the rows. Panels without numbers say so.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.12)
    figure = Figure(figsize=(15, 4.4), dpi=100, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    loss, judged, rate = figure.subplots(1, 3, width_ratios=(1.2, 1.2, 0.8))
    _draw_loss(loss, curve(rows, "train", "loss"))
    _draw_metrics(judged, metric_curves(rows, metric))
    _draw_rate(rate, curve(rows, "train", "lr"))
    last = max((row["step"] for row in rows if row.get("kind") in ("train", "validation")), default=1)
    for axes in (loss, judged, rate):
        axes.set_xlim(0, max(last, 1) * 1.03)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    storage.write_bytes(path, file.getvalue())


def curve(rows: Sequence[Mapping[str, Any]], kind: str, name: str) -> Curve:
    """The finite values of `name` in rows of a kind; empty arrays where there are none."""
    pairs = [(row["step"], row[name]) for row in rows if row.get("kind") == kind and _is_number(row.get(name))]
    table = np.array(pairs, np.float64).reshape(-1, 2)
    return Curve(name, table[:, 0], table[:, 1])


def smooth(value: np.ndarray, span: int) -> np.ndarray:
    """Exponential moving average over about `span` values, without the bias of its start."""
    keep = 1 - 2 / (span + 1)
    total, weight, means = 0.0, 0.0, np.empty(len(value))
    for at, new in enumerate(value):
        total, weight = keep * total + new, keep * weight + 1
        means[at] = total / weight
    return means


def metric_curves(rows: Sequence[Mapping[str, Any]], metric: str | None) -> list[Curve]:
    """The judged metric first, then at most two more of SHOWN."""
    names = list(dict.fromkeys(name for row in rows if row.get("kind") == "validation" for name in row))
    usable = [name for name in names if name not in ("kind", "step", "epoch", "time", "seconds")]
    shown = [name for name in SHOWN if name in usable] or usable[:1]
    first = [metric] if metric in usable else shown[:1]
    curves = (curve(rows, "validation", name) for name in [*first, *(name for name in shown if name not in first)])
    return [drawn for drawn in curves if len(drawn.step)][:3]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _draw_loss(axes: "Axes", loss: Curve) -> None:
    _dress(axes, "Training loss")
    if not len(loss.step):
        _say(axes, "no training steps logged")
        return
    if len(loss.step) < 30:
        axes.plot(loss.step, loss.value, color=COLORS[0], linewidth=2.2, marker="o", markersize=4)
        return
    axes.plot(loss.step, loss.value, color=COLORS[0], linewidth=1, alpha=0.3)
    axes.plot(loss.step, smooth(loss.value, max(5, len(loss.step) // 25)), color=COLORS[0], linewidth=2.4)


def _draw_metrics(axes: "Axes", curves: list[Curve]) -> None:
    _dress(axes, "Validation")
    if not curves:
        _say(axes, "no validation")
        return
    for drawn, color in zip(curves, (*COLORS[1:], COLORS[0]), strict=False):
        axes.plot(drawn.step, drawn.value, color=color, linewidth=2.2, marker="o", markersize=5, label=drawn.name)
    judged = curves[0]
    best = int(judged.value.argmax())
    axes.plot(judged.step[best], judged.value[best], "o", color=COLORS[1], markersize=10, zorder=5)
    axes.set_title(f"Validation: best {judged.name} {judged.value[best]:.3f}", loc="left", color=INK, fontsize=15)
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=12, labelcolor=INK, loc="best")


def _draw_rate(axes: "Axes", rate: Curve) -> None:
    _dress(axes, "Learning rate")
    if not len(rate.step):
        _say(axes, "no training steps logged")
        return
    axes.plot(rate.step, rate.value, color=QUIET, linewidth=2.2, marker="o" if len(rate.step) == 1 else None)
    axes.set_ylim(bottom=0)


def _dress(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=15)
    axes.set_xlabel("step", color=QUIET, fontsize=12)
    axes.tick_params(colors=QUIET, labelsize=12, length=0)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#c5cad3")
    axes.locator_params(axis="x", nbins=5)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=13)
    axes.set_yticks([])
