"""Charts as inline SVG: they follow the page into dark and onto paper, and tell their values on hover."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kinsight.reports.axes import BOTTOM, HEIGHT, TOP, WIDTH, Scale, across, frame, number, upwards
from kinsight.reports.html import data_island, escape

MOST_POINTS = 400  # of a line: more than its pixels


@dataclass(frozen=True)
class Line:
    """One line of a chart. x ascends; both finite, float. faint: drawn behind, as the raw values of a smoothed one."""

    name: str
    x: np.ndarray
    y: np.ndarray
    faint: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line at x with a word beside it."""

    x: float
    text: str


def line_chart(
    anchor: str,
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    share: bool = False,
    from_zero: bool = False,
    decades: bool = False,
    steps: bool = False,
    dots: bool = False,
    marks: Sequence[Mark] = (),
    beside: Sequence[Line] = (),
    empty: str = "nothing to draw",
) -> str:
    """A chart of lines over a common axis.

    anchor: its name on the page. share: vertical values are shares, shown in per cent. decades: logarithmic x, all
    positive. steps: each y holds from its x to the next, and what is below is filled: a histogram. dots: each value
    is marked too, but for faint lines. beside: what other charts show that this one is to be compared with; the axes
    hold it, too.
    """
    drawn = [line for line in lines if len(line.x)]
    if not drawn:
        return _figure(title, "", f'<p class="note">{escape(empty)}</p>', "")
    held = [*drawn, *(line for line in beside if len(line.x))]
    x = across(*_range([line.x for line in held], from_zero=not decades and not steps), decades=decades)
    y = upwards([line.y for line in held], from_zero=from_zero, top=1.0 if share and not steps else None)
    thin = [line if steps else _thinned(line) for line in drawn]
    colour = {line.name: place for place, line in enumerate([line for line in thin if not line.faint])}
    paths = "".join(_path(line, x, y, colour.get(line.name, 0), steps, dots) for line in thin)
    body = frame(x, y, x_label, share=share) + paths + "".join(_mark(mark, x) for mark in marks)
    named = [line for line in thin if not line.faint]
    legend = "".join(f'<span class="s{colour[line.name]}">{escape(line.name)}</span>' for line in named)
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" data-points="{escape(anchor)}">'
        f'{body}<path class="at" d="M0 {TOP}V{HEIGHT - BOTTOM}"/></svg>'
    )
    return _figure(
        title,
        legend if len(named) > 1 else "",
        svg,
        data_island(anchor, _values(thin, x, x_label, share=share, ends=steps)),
    )


def charts(*figures: str) -> str:
    """Charts side by side, one below the other where it is narrow."""
    return f'<div class="charts">{"".join(figures)}</div>'


def _figure(title: str, legend: str, body: str, data: str) -> str:
    words = f"<b>{escape(title)}</b>" + (f'<span class="legend">{legend}</span>' if legend else "")
    return f'<figure class="chart"><figcaption>{words}</figcaption>{body}{data}</figure>'


def _range(values: Sequence[np.ndarray], *, from_zero: bool) -> tuple[float, float]:
    low, high = min(float(value.min()) for value in values), max(float(value.max()) for value in values)
    low = min(low, 0.0) if from_zero else low
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(line: Line) -> Line:
    """Means over neighbouring points, where there are more of them than can be seen; the last one stays itself."""
    if len(line.x) <= MOST_POINTS:
        return line
    parts = np.array_split(np.arange(len(line.x) - 1), MOST_POINTS - 1)
    x = np.array([*(line.x[part[-1]] for part in parts), line.x[-1]])
    y = np.array([*(line.y[part].mean() for part in parts), line.y[-1]])
    return Line(line.name, x, y, line.faint)


def _path(line: Line, x: Scale, y: Scale, colour: int, steps: bool, dots: bool) -> str:
    at = [(x.place(a), y.place(b)) for a, b in zip(line.x.tolist(), line.y.tolist(), strict=True)]
    if steps:
        floor = y.place(0.0)
        path = f"M{at[0][0]} {floor}" + "".join(f"H{a}V{b}" for a, b in at) + f"H{at[-1][0]}V{floor}Z"
        return f'<path class="area s{colour}" d="{path}"/>'
    style = f"{'faint' if line.faint else 'line'} s{colour}"
    drawn = f'<path class="{style}" d="M{"L".join(f"{a} {b}" for a, b in at)}"/>'
    if (dots and not line.faint and len(at) <= 60) or len(at) == 1:
        drawn += "".join(f'<circle class="s{colour}" cx="{a}" cy="{b}" r="3"/>' for a, b in at)
    return drawn


def _mark(mark: Mark, x: Scale) -> str:
    at = x.place(mark.x)
    side, anchor = (-5, "end") if at > WIDTH / 2 else (5, "start")
    return (
        f'<path class="mark" d="M{at} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text class="marked" x="{at + side}" y="{TOP + 12}" text-anchor="{anchor}">{escape(mark.text)}</text>'
    )


def _values(lines: Sequence[Line], x: Scale, x_label: str, *, share: bool, ends: bool) -> list[tuple[float, list[str]]]:
    """What hovering shows: (place on the drawing, lines of text), from left to right."""
    told: dict[float, list[str]] = {}
    edges = lines[0].x.tolist()
    following = dict(pairwise(edges))
    for line in lines:
        for at, value in zip(line.x.tolist(), line.y.tolist(), strict=True):
            if ends and at not in following:
                continue
            until = f" to {following[at]:.4g}" if ends else ""
            shown = f"{100 * value:.3g} %" if share else f"{value:.4g}"
            told.setdefault(at, [f"{x_label} {f'{at:.4g}' if ends else number(at)}{until}"]).append(
                f"{line.name} {shown}"
            )
    return [(x.place((at + following.get(at, at)) / 2 if ends else at), told[at]) for at in sorted(told)]
