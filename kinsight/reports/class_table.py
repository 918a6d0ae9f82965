"""A row for each class: how it fares, and by which threshold it is predicted."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kinsight.metrics import MultilabelResult
from kinsight.metrics.label_thresholds import NEVER
from kinsight.reports.classified import Classified
from kinsight.reports.html import details, section, table

MOST_ROWS = 500  # on the page; all of them stand in per_class.csv beside it
_OPEN = 30
_HEADS = {
    "class": "Class", "label": "Label", "images": "Images", "ap": "Average precision", "recall": "Recall",
    "precision": "Precision", "f1": "F1", "threshold": "Threshold", "chosen_threshold": "Chosen here",
    "chosen_precision": "Precision there", "chosen_recall": "Recall there", "chosen_f1": "F1 there",
}  # fmt: skip


def class_rows(found: Classified) -> tuple[list[str], list[list[Any]]]:
    """The table of classes, worst first: names of its columns, and its rows. Numbers that cannot be told are None."""
    if found.one is not None:
        names, columns, count_C = ["recall", "precision", "f1"], found.one.per_class, found.one.support_C
    else:
        assert found.several is not None, "either one class or several labels"
        names, columns = ["ap", "precision", "recall", "f1"], found.several.per_label
        count_C = found.several.positives_C
    head = ["class" if found.one is not None else "label", "images", *names]
    order_C = columns[names[0]].nan_to_num(2.0).argsort(stable=True).tolist()
    rows = [[found.class_names[c], int(count_C[c]), *_values(columns, names, c)] for c in order_C]
    if found.threshold_C is None:
        return head, rows
    if not found.has_chosen or found.chosen is None or found.at_chosen is None:
        limits = [[_limit(found.threshold_C, c)] for c in order_C]
        return [*head, "threshold"], [row + limit for row, limit in zip(rows, limits, strict=True)]
    head += ["threshold", "chosen_threshold", "chosen_precision", "chosen_recall", "chosen_f1"]
    for row, c in zip(rows, order_C, strict=True):
        row += [_limit(found.threshold_C, c), _limit(found.chosen.threshold_C, c), *_at(found.at_chosen, c)]
    return head, rows


def class_table_section(found: Classified) -> str:
    """The table, worst classes first."""
    head, rows = class_rows(found)
    several = found.several is not None
    shown = [[_cell(value) for value in row] for row in rows[:MOST_ROWS]]
    numbers = range(1, len(head))
    columns = [_HEADS[name] for name in head]
    note = "The worst first; - where nothing can be told."
    if several and found.has_chosen:
        note += (
            " Chosen here: the thresholds that these images would choose, with what they reach on these very images; "
            "elsewhere it will be less."
        )
    if several and found.kept_here:
        note += " The thresholds were chosen on these very images; elsewhere precision and recall will be less."
    if found.chosen is not None and found.chosen.few:
        note += f" {len(found.chosen.few):,} labels with few images share one threshold."
    if found.chosen is not None and found.chosen.kept:
        kept = f"{len(found.chosen.kept):,} labels of which nothing is known here"
        note += f" {kept} keep theirs, moved with the temperature."
    if len(rows) > MOST_ROWS:
        note += f" {len(rows) - MOST_ROWS:,} more stand in per_class.csv."
    drawn = table(columns, shown[:_OPEN], numbers=numbers)
    more = details(f"{len(shown) - _OPEN:,} more", table(columns, shown[_OPEN:], numbers=numbers))
    title = "Every label" if several else "Every class"
    return section(title, drawn, more if len(shown) > _OPEN else "", note=note, anchor="each")


def _values(columns: dict[str, Tensor], names: Sequence[str], place: int) -> list[float | None]:
    found = [float(columns[name][place]) for name in names]
    return [None if value != value else value for value in found]


def _at(result: MultilabelResult, place: int) -> list[float | None]:
    return _values(result.per_label, ("precision", "recall", "f1"), place)


def _limit(threshold_C: Tensor, place: int) -> float | str:
    value = float(threshold_C[place])
    return "never" if value >= NEVER else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
