"""Retrieval beside the plain search: with what improves it, and with fewer dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kinsight.reports.charts import Line, charts, line_chart
from kinsight.reports.evaluated import Evaluated
from kinsight.reports.html import details, escape, section, table
from kinsight.reports.words import display_name, percent, retrieval_names, variant, variant_sizes

_DRAWN = ("recall@1", "map@r", "r_precision")


def improvement_section(found: Evaluated) -> str:
    """What the improvements change, metric by metric; nothing where none was asked for."""
    if not found.improvements:
        return ""
    metrics = found.metrics
    sure = f"{100 * found.confidence:g} % interval"
    rows = []
    for name in retrieval_names(metrics):
        better = variant(name, improved=True)
        gain = f"{better}.gain"
        rows.append(
            (display_name(name), percent(metrics[name]), percent(metrics[better]), _interval(metrics, better),
             _points(metrics[gain]), _gain_interval(metrics, gain), _verdict(metrics, gain))
        )  # fmt: skip
    columns = ("Metric", "Plain", "Improved", sure, "Gain, points", f"{sure} of the gain", "")
    note = (
        "The same queries and images, searched in another way. All other numbers on this page, the thresholds for same "
        "or different among them, belong to the plain search."
    )
    steps = "".join(f"<li>{escape(line[:1].upper() + line[1:])}</li>" for line in found.improvements)
    listed = f"<ol>{steps}</ol>"
    return section(
        "Improved search", listed, table(columns, rows, numbers=(1, 2, 3, 4, 5)), note=note, anchor="improved"
    )


def size_section(found: Evaluated) -> str:
    """Quality over the number of dimensions kept; nothing where no sizes were asked for."""
    sizes = variant_sizes(found.metrics)
    if not sizes:
        return ""
    full = found.query.vector_ND.shape[1]
    both = (False, True) if found.improvements else (False,)
    figures = [_chart(found.metrics, sizes, full, improved) for improved in both]
    tables = [_table(found.metrics, sizes, full, improved) for improved in both]
    note = (
        f"Retrieval with only the first dimensions of the {full:,}, scaled back to their length. A model trained so "
        "(Matryoshka) loses little; shorter vectors are smaller and quicker to search."
    )
    everything = details("With intervals", *(_intervals(found, sizes, improved) for improved in both))
    return section("Fewer dimensions", charts(*figures), *tables, everything, note=note, anchor="sizes")


def _chart(metrics: Mapping[str, Any], sizes: Sequence[int], full: int, improved: bool) -> str:
    names = [name for name in _DRAWN if name in retrieval_names(metrics)]
    x = np.array([*sizes, metrics.get(variant("dimensions", improved=True), full) if improved else full], np.float64)
    lines = [
        Line(display_name(name), x, np.array([_at(metrics, name, size, improved) for size in (*sizes, None)]))
        for name in names
    ]
    return line_chart(
        "sizes-improved" if improved else "sizes-plain",
        "Improved search" if improved else "Plain search",
        lines,
        x_label="dimensions",
        share=True,
        dots=True,
    )


def _at(metrics: Mapping[str, Any], name: str, size: int | None, improved: bool) -> float:
    return float(metrics[variant(name, size, improved=improved)])


def _table(metrics: Mapping[str, Any], sizes: Sequence[int], full: int, improved: bool) -> str:
    rows = [
        (display_name(name), *(percent(_at(metrics, name, size, improved)) for size in (*sizes, None)))
        for name in retrieval_names(metrics)
    ]
    if improved:
        full = metrics.get(variant("dimensions", improved=True), full)
    title = "Improved search, dimensions" if improved else "Dimensions"
    return table((title, *(f"{size:,}" for size in sizes), f"all {full:,}"), rows, numbers=range(1, 2 + len(sizes)))


def _intervals(found: Evaluated, sizes: Sequence[int], improved: bool) -> str:
    metrics = found.metrics
    rows = [
        (display_name(name), *(_interval(metrics, variant(name, size, improved=improved)) for size in (*sizes, None)))
        for name in retrieval_names(metrics)
    ]
    title = f"{'Improved search, ' if improved else ''}{100 * found.confidence:g} % intervals"
    return table((title, *(f"{size:,}" for size in sizes), "all"), rows, numbers=range(1, 2 + len(sizes)))


def _interval(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "none"


def _gain_interval(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return f"{_points(low)} to {_points(high)}" if low is not None and high is not None else "none"


def _points(value: float) -> str:
    """0.1321 -> "+13.21": percentage points."""
    return f"{100 * value:+.2f}"


def _verdict(metrics: Mapping[str, Any], gain: str) -> str:
    low, high = metrics.get(f"{gain}.low"), metrics.get(f"{gain}.high")
    if low is None or high is None:
        return ""
    return "better" if low > 0 else "worse" if high < 0 else "no clear difference"
