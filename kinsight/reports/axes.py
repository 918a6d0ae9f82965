"""Scales and axes of the charts on a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinsight.reports.html import escape

# Of the drawing, in its own units: about pixels, as charts are shown two or three in a row.
WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 10, 40


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, linear or in decades, on a stretch of the drawing."""

    low: float
    high: float
    start: float
    stop: float
    decades: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, in units of the drawing; those outside at the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.decades:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.stop - self.start), 2)


def across(low: float, high: float, *, decades: bool = False) -> Scale:
    """A scale from left to right."""
    return Scale(low, high, LEFT, WIDTH - RIGHT, decades)


def upwards(values: Sequence[np.ndarray], *, from_zero: bool = False, top: float | None = None) -> Scale:
    """A scale from the bottom up on which all values fit, with some room, its ends on round numbers."""
    finite = np.concatenate([np.asarray(value, np.float64) for value in values] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if from_zero:
        low = min(0.0, low)
    if high <= low:
        room = abs(high) * 0.1 or 1.0
        low, high = (low if from_zero else low - room), high + room
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high if top is None else min(high, top), HEIGHT - BOTTOM, TOP)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values in low..high, about `wanted` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / wanted
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * decade for factor in (1, 2, 2.5, 5, 10) if factor * decade >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decade_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in low..high."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def frame(x: Scale, y: Scale, x_label: str, *, share: bool = False) -> str:
    """Grid, axes and their labels. share: the vertical values are shares, shown in per cent."""
    lines, words = [], []
    for value in ticks(y.low, y.high):
        at = y.place(value)
        lines.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        shown = f"{100 * value:g} %" if share else number(value)
        words.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{escape(shown)}</text>')
    bottom = HEIGHT - BOTTOM
    for value in decade_ticks(x.low, x.high) if x.decades else ticks(x.low, x.high):
        at = x.place(value)
        words.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{escape(number(value))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    words.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    axis = f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>'
    return f'<g class="grid">{"".join(lines)}{axis}</g><g class="words">{"".join(words)}</g>'


def number(value: float) -> str:
    """A value as an axis shows it."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.6g}" if abs(value) < 1e3 else f"{value:,.0f}"
