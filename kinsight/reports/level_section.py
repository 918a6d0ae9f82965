"""The same search judged again: by super-classes, or by how alike classes are."""

from kinsight.reports.evaluated import Evaluated
from kinsight.reports.html import paragraph, section, table
from kinsight.reports.words import at_level, display_name, level_names, percent

_TOLD = "level="


def level_section(found: Evaluated) -> str:
    """A column per level, the class first; nothing where there are no levels."""
    metrics, levels = found.metrics, level_names(found.metrics)
    missing = {name[len(_TOLD) :]: why for name, why in found.reasons.items() if name.startswith(_TOLD)}
    if not levels and not missing:
        return ""
    names = [name for name in metrics if any(at_level(name, level) in metrics for level in levels)]
    names = [name for name in names if not name.startswith("cmc@") and not name.endswith((".low", ".high"))]
    rows = [(display_name(name), *(_value(found, at_level(name, level)) for level in (None, *levels)))
            for name in names]  # fmt: skip
    listed = table(("Metric", "class", *levels), rows, numbers=range(1, 2 + len(levels))) if levels else ""
    words = [paragraph(_why(name, why)) for name, why in missing.items()]
    note = "What the search finds, judged again: right is then what shares the super-class, or what is alike enough."
    return section("Other levels", listed, *words, note=note, anchor="levels")


def _why(name: str, why: str) -> str:
    level = name.removesuffix("/intervals")
    return f"{'Not measured' if level == name else 'No intervals'} by {level}: {why}."


def _value(found: Evaluated, name: str) -> str:
    value, low, high = (found.metrics.get(f"{name}{end}") for end in ("", ".low", ".high"))
    if value is None:
        return ""
    return percent(value) + (f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else "")
