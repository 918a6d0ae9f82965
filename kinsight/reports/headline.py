"""The numbers of an evaluation, each with its interval and a sentence that says what it means."""

from collections.abc import Mapping
from typing import Any

from kinsight.reports.evaluated import Evaluated
from kinsight.reports.html import details, escape, section, table
from kinsight.reports.words import display_name, headline_names, other_names, percent, sentence


def headline_section(found: Evaluated) -> str:
    """Large numbers, then a table of all."""
    metrics = found.metrics
    cards = "".join(_card(name, found) for name in headline_names(metrics))
    sure = f"{100 * found.confidence:g} %"
    columns = ("Metric", "Value", f"{sure} interval", "What it says")
    names = [*headline_names(metrics), *other_names(metrics)]
    rows = [(display_name(name), _value(metrics.get(name)), interval(metrics, name), _meaning(found, name))
            for name in names]  # fmt: skip
    everything = details("All numbers", table(columns, rows, numbers=(1, 2)))
    return section("In short", f'<div class="heads">{cards}</div>', everything, note=_note(found), anchor="short")


def _note(found: Evaluated) -> str:
    metrics = found.metrics
    how = (
        f"{len(found.query):,} images each searched among the others for images "
        + ("that share a label" if found.several else "of their class")
        if found.gallery is None
        else f"{len(found.query):,} images were searched for in a gallery of {len(found.gallery):,}"
    )
    kinds = "labels" if found.several else "classes"
    text = f"{how}; {metrics.get('classes', len(found.query.class_names)):,} {kinds}."
    if skipped := metrics.get("queries_without_match"):
        text += f" {skipped:,} have nothing to be found and don't count."
    if any(name.endswith(".low") for name in metrics):
        text += (
            f" The intervals say where each number would lie {100 * found.confidence:g} % of the time if other "
            f"{'images' if found.several else 'classes'} of the same kind had been measured; where none is given, none "
            "is measured."
        )
    elif why := found.reasons.get("intervals"):
        text += f" No intervals: {why}."
    return text


def _card(name: str, found: Evaluated) -> str:
    value, bounds = found.metrics.get(name), interval(found.metrics, name)
    return (
        f'<div class="head"><span>{escape(display_name(name))}</span><strong>{escape(percent(value))}</strong>'
        f"<em>{escape(bounds)}</em><small>{escape(_meaning(found, name))}</small></div>"
    )


def interval(metrics: Mapping[str, Any], name: str) -> str:
    """The bounds of a number, for people."""
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    usable = low is not None and high is not None and low == low and high == high
    if usable:
        return f"{percent(low)} to {percent(high)}"
    value = metrics.get(name)
    return "no interval" if value is not None and value == value else ""


def _meaning(found: Evaluated, name: str) -> str:
    why = found.reasons.get(name) if found.metrics.get(name) is None else None
    return f"Not measurable: {why}" if why else sentence(name, several=found.several)


def _value(value: Any) -> str:
    return "not measurable" if value is None or value != value else f"{value:.4f}"
