"""How a training went: loss, validation and learning rate over the optimizer's steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kinsight.reports.axes import number
from kinsight.reports.charts import Line, charts, line_chart
from kinsight.reports.curves import Curve, curve, metric_curves, smooth
from kinsight.reports.evaluated import Trained
from kinsight.reports.html import numbers, section
from kinsight.reports.words import display_name, in_sentence

_FEW = 30  # values below which nothing is smoothed


def training_section(trained: Trained) -> str:
    """Charts of loss, validation metrics where there are any, and learning rate."""
    rows = trained.rows
    figures = [_loss(rows), _validation(rows, trained.judged), _rate(rows)]
    drawn = charts(*(figure for figure in figures if figure))
    return section("Training", drawn, note=_note(trained), anchor="training")


def training_cards(trained: Trained) -> str:
    """What a training without validation can say of itself, in large numbers."""
    loss, rate = curve(trained.rows, "train", "loss"), curve(trained.rows, "train", "lr")
    if not len(loss.step):
        return ""
    tenth = max(1, len(loss.value) // 10)
    before, after = float(loss.value[:tenth].mean()), float(loss.value[-tenth:].mean())
    cards = [("optimizer steps", f"{int(loss.step.max()):,}", "logged to the end")]
    cards.append(("training loss", f"{after:.4g}", f"at first {before:.4g}"))
    if len(rate.step):
        cards.append(("learning rate", number(float(rate.value[-1])), f"at most {number(float(rate.value.max()))}"))
    return numbers(cards)


def _note(trained: Trained) -> str:
    steps = [row["step"] for row in trained.rows if isinstance(row.get("step"), int)]
    text = f"{max(steps):,} optimizer steps" if steps else "No step was logged"
    curves = metric_curves(trained.rows, trained.judged)
    if not curves:
        return f"{text}; there was no validation set, so the last model counts as the best."
    best = int(curves[0].value.argmax())
    value, step = curves[0].value[best], int(curves[0].step[best])
    return (
        f"{text}; the best model, by {in_sentence(display_name(curves[0].name))} {value:.4f}, is that of step {step:,}."
    )


def _loss(rows: Sequence[Mapping[str, Any]]) -> str:
    loss = curve(rows, "train", "loss")
    raw = _line("loss", loss)
    lines = [raw]
    if len(loss.step) >= _FEW:
        trend = smooth(loss.value, max(5, len(loss.step) // 25))
        lines = [Line("logged", raw.x, raw.y, faint=True), Line("smoothed", raw.x, trend)]
    return line_chart("loss", "Training loss", lines, x_label="step", empty="no training step was logged")


def _validation(rows: Sequence[Mapping[str, Any]], judged: str | None) -> str:
    """Empty where nothing was validated: the note says so, and the other charts get the room."""
    lines = [_line(display_name(found.name), found) for found in metric_curves(rows, judged)]
    title = f"Validation: {in_sentence(lines[0].name)}" if len(lines) == 1 else "Validation"  # more have a legend
    return line_chart("validation", title, lines, x_label="step", dots=True) if lines else ""


def _rate(rows: Sequence[Mapping[str, Any]]) -> str:
    rate = _line("learning rate", curve(rows, "train", "lr"))
    return line_chart(
        "rate", "Learning rate", [rate], x_label="step", from_zero=True, empty="no training step was logged"
    )


def _line(name: str, found: Curve) -> Line:
    """One value a step, the last one where a step was logged twice."""
    step, last = np.unique(found.step[::-1], return_index=True)
    return Line(name, step, found.value[::-1][last])
