"""A row for each of several things measured repeatedly: every value as a dot, the mean, its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinsight.reports.axes import Scale, number, ticks
from kinsight.reports.html import escape

_WIDTH, _ROW, _TOP, _BOTTOM, _NAMES, _RIGHT = 900, 30, 8, 44, 210, 24
_LETTERS = 26  # of a name beside its row


@dataclass(frozen=True)
class Row:
    """values: one or more finite numbers. low, high: bounds of the mean, None where there are none. colour: 0 to 2."""

    name: str
    values: Sequence[float]
    mean: float
    low: float | None
    high: float | None
    colour: int = 0


def interval_chart(title: str, rows: Sequence[Row], *, x_label: str, legend: Sequence[tuple[int, str]] = ()) -> str:
    """Rows from top to bottom on one scale of shares; hovering tells values and bounds. legend: colour, its words."""
    found = [[*row.values, row.mean, *(bound for bound in (row.low, row.high) if bound is not None)] for row in rows]
    flat = np.array([value for values in found for value in values])
    x, height = _scale(flat), _TOP + _ROW * len(rows) + _BOTTOM
    body = _axis(x, x_label, height) + "".join(_row(row, x, place) for place, row in enumerate(rows))
    words = "".join(f'<span class="s{colour}">{escape(text)}</span>' for colour, text in legend)
    return (
        f'<figure class="chart wide"><figcaption><b>{escape(title)}</b><span class="legend">{words}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg></figure>'
    )


def _scale(values: np.ndarray) -> Scale:
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or 0.05
    return Scale(max(low - room, 0.0) if low >= 0 else low - room, high + room, _NAMES, _WIDTH - _RIGHT)


def _axis(x: Scale, label: str, height: int) -> str:
    bottom = height - _BOTTOM
    lines, words = [], []
    for value in ticks(x.low, x.high, 8):
        at = x.place(value)
        lines.append(f'<path d="M{at} {_TOP}V{bottom}"/>')
        shown = f"{number(round(100 * value, 6))} %"
        words.append(f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{escape(shown)}</text>')
    middle = (_NAMES + _WIDTH - _RIGHT) / 2
    words.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(label)}</text>')
    axis = f'<path class="axis" d="M{_NAMES} {bottom}H{_WIDTH - _RIGHT}"/>'
    return f'<g class="grid">{"".join(lines)}{axis}</g><g class="words">{"".join(words)}</g>'


def _row(row: Row, x: Scale, place: int) -> str:
    at = _TOP + _ROW * (place + 0.5)
    short = row.name if len(row.name) <= _LETTERS else f"{row.name[: _LETTERS - 1]}…"
    bounded = row.low is not None and row.high is not None
    bounds = f", {_percent(row.low)} to {_percent(row.high)}" if bounded else ""
    told = f"{row.name}: {_percent(row.mean)}{bounds}; {len(row.values)} runs"
    line = ""
    if row.low is not None and row.high is not None:
        line = f'<path class="line s{row.colour}" d="M{x.place(row.low)} {at}H{x.place(row.high)}"/>'
    dots = "".join(
        f'<circle class="faint s{row.colour}" cx="{x.place(value)}" cy="{at}" r="4"/>' for value in row.values
    )
    mean = f'<circle class="s{row.colour}" cx="{x.place(row.mean)}" cy="{at}" r="5.5"/>'
    name = f'<text class="marked" x="{_NAMES - 12}" y="{at + 4}" text-anchor="end">{escape(short)}</text>'
    return f"<g><title>{escape(told)}</title>{name}{line}{dots}{mean}</g>"


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if value is not None else ""
