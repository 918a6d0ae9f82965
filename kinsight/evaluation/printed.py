"""The numbers of an evaluation on standard output: the search as it is, what improved it, and each size."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kinsight import progress
from kinsight.reports.words import at_level, level_names, retrieval_names, variant, variant_sizes
from kinsight.specs.evaluate import EvaluateSpec


def print_metrics(spec: EvaluateSpec, metrics: Mapping[str, Any]) -> None:
    """All tables, and where the numbers were written."""
    console = Console(highlight=False)
    sure = f"{100 * spec.confidence:g} % interval"
    console.print(_plain(metrics, sure))
    for level in level_names(metrics):
        console.print()
        console.print(_level(metrics, level, sure))
    if spec.improvements:
        console.print()
        console.print(_compared(metrics, sure))
    if sizes := variant_sizes(metrics):
        for improved in (False, True)[: 1 + bool(spec.improvements)]:
            console.print()
            console.print(_by_size(metrics, sizes, improved))
    progress.say(f"written to  {spec.output}")


def print_class_metrics(spec: EvaluateSpec, metrics: Mapping[str, Any]) -> None:
    """The numbers of a classifier, and where they were written."""
    table = _table(("metric", "value", f"{100 * spec.confidence:g} % interval"))
    for name, value in metrics.items():
        if not name.endswith((".low", ".high")):
            shown = "calibrated/temperature" if name == "temperature" else name  # found here, not the model's own
            table.add_row(shown, _value(value), _interval(metrics, name))
    Console(highlight=False).print(table)
    progress.say(f"written to  {spec.output}")


def _plain(metrics: Mapping[str, Any], sure: str) -> Table:
    table = _table(("metric", "value", sure))
    for name, value in metrics.items():
        if not name.endswith((".low", ".high")) and not name.startswith("cmc@") and "/" not in name:
            table.add_row(name, _value(value), _interval(metrics, name))
    return table


def _level(metrics: Mapping[str, Any], level: str, sure: str) -> Table:
    """The same search, judged at another level."""
    table = _table((f"by {level}", "value", sure))
    for name in [name for name in metrics if "/" not in name and not name.startswith("cmc@")]:
        if (told := at_level(name, level)) in metrics and not name.endswith((".low", ".high")):
            table.add_row(name, _value(metrics[told]), _interval(metrics, told))
    return table


def _compared(metrics: Mapping[str, Any], sure: str) -> Table:
    """The search as it is and the improved one, side by side."""
    table = _table(("metric", "plain", "improved", sure, "gain", sure))
    for name in retrieval_names(metrics):
        better = variant(name, improved=True)
        gain = f"{better}.gain"
        table.add_row(
            name,
            _value(metrics[name]),
            _value(metrics[better]),
            _interval(metrics, better),
            f"{metrics[gain]:+.4f}",
            _interval(metrics, gain, "+.4f"),
        )
    return table


def _by_size(metrics: Mapping[str, Any], sizes: Sequence[int], improved: bool) -> Table:
    """A row per metric, a column per size; intervals stand in metrics.json and in the report."""
    title = "improved, dimensions" if improved else "dimensions"
    table = _table((title, *map(str, sizes), "all"))
    for name in retrieval_names(metrics):
        row = [_value(metrics[variant(name, size, improved=improved)]) for size in sizes]
        table.add_row(name, *row, _value(metrics[variant(name, improved=improved)]))
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(columns):
        table.add_column(title, justify="right" if place else "left")
    return table


def _value(value: Any) -> str:
    return "not measurable" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _interval(metrics: Mapping[str, Any], name: str, form: str = ".4f") -> str:
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return f"{low:{form}} to {high:{form}}" if low is not None and high is not None else ""
