"""Whether probabilities come true: the reliability diagram, and how many there are of each."""

import numpy as np
from torch import Tensor

from kinsight.metrics import Reliability
from kinsight.reports.charts import Line, charts, line_chart
from kinsight.reports.classified import Classified
from kinsight.reports.html import details, section, table
from kinsight.reports.words import percent


def reliability_section(found: Classified) -> str:
    """What is said with a confidence, against how often it is so; as the model is, and with the temperature."""
    shown = _shown(found)
    lines = [Line("said and true", np.array([0.0, 1.0]), np.array([0.0, 1.0]), faint=True)]
    lines += [_line(name, each) for name, each in shown]
    what = "the class it says" if found.one is not None else "a label"
    true = line_chart(
        "reliability", "How often it is so", lines, x_label=f"probability that the model gives {what}", share=True,
        from_zero=True, dots=True,
    )  # fmt: skip
    counts = [_shares(name, each) for name, each in shown]
    often = line_chart(
        "confidences", "How often it says so", counts, x_label="probability", steps=True, from_zero=True, share=True
    )
    off = ", ".join(f"{percent(each.ece)} {name}" for name, each in shown)
    note = (
        "On the straight line, what the model says with a probability of 80 % is so in 80 % of the cases. "
        f"On average it is off by {off}."
    )
    return section("How sure it may be", charts(true, often), _table(found.reliability), note=note, anchor="sure")


def _shown(found: Classified) -> list[tuple[str, Reliability]]:
    """Without a temperature, with the model's, and with the one found here, as far as they differ."""
    shown = [("without temperature", found.raw if found.raw is not None else found.reliability)]
    if found.temperature is not None:
        shown.append((f"with the model's temperature {found.temperature:.3g}", found.reliability))
    if found.has_found:
        shown.append((f"with temperature {found.fitted.temperature:.3g}, found here", found.calibrated))
    return shown


def _line(name: str, found: Reliability) -> Line:
    there = (found.count_K > 0).numpy()
    return Line(name, found.confidence_K.numpy()[there], found.accuracy_K.numpy()[there])


def _shares(name: str, found: Reliability) -> Line:
    """A histogram: each value holds from its edge to the next."""
    share_K = found.count_K.double() / max(1, int(found.count_K.sum()))
    return Line(name, found.edge_K1.numpy(), np.append(share_K.numpy(), share_K[-1]))


def _table(found: Reliability) -> str:
    rows = []
    for place, count in enumerate(found.count_K.tolist()):
        if count:
            low, high = _edges(found.edge_K1, place)
            rows.append((f"{low} to {high}", f"{count:,}", percent(float(found.accuracy_K[place]))))
    columns = ("Probability", "How many", "So many are so")
    return details("As a table", table(columns, rows, numbers=(1, 2)))


def _edges(edge_K1: Tensor, place: int) -> tuple[str, str]:
    return f"{100 * float(edge_K1[place]):.0f} %", f"{100 * float(edge_K1[place + 1]):.0f} %"
