"""Same or different? How similar pairs of images are, where thresholds lie, and how sure their error rates are."""

import numpy as np
from torch import Tensor

from kinsight.models import Thresholds
from kinsight.neighbors import Metric
from kinsight.reports.charts import Line, Mark, charts, line_chart
from kinsight.reports.evaluated import Evaluated
from kinsight.reports.html import paragraph, section, table
from kinsight.reports.words import percent

_BINS = 60
_CURVE = 240  # points of the trade-off curve
SIMILARITY: dict[Metric, str] = {
    "cosine": "cosine similarity",
    "ip": "inner product",
    "l2": "similarity (negative squared distance)",
}


def pair_section(found: Evaluated) -> str:
    """Histograms of the similarities, the trade-off between both mistakes, and the table of thresholds."""
    title = "Same or different: similarities and thresholds"
    if found.pairs is None:
        why = found.reasons.get("verification", "no pairs were drawn")
        return section(title, paragraph(f"Not measurable: {why}."), anchor="pairs")
    same_P, different_P = _numbers(found.pairs.same_P), _numbers(found.pairs.different_P)
    limit = found.thresholds.point().threshold if found.thresholds is not None and found.thresholds.points else None
    note = (
        f"{len(same_P):,} pairs of one class and {len(different_P):,} pairs of different classes, "
        f"{_drawn(found)}. The further apart the two hills, the better the model tells classes apart."
    )
    drawn = charts(
        _histogram(same_P, different_P, limit, SIMILARITY[found.metric]), _trade_off(same_P, different_P, found)
    )
    return section(title, drawn, _thresholds(found), note=note, anchor="pairs")


def _numbers(value_P: Tensor) -> np.ndarray:
    return value_P.detach().cpu().double().numpy()


def _drawn(found: Evaluated) -> str:
    pairs = found.pairs
    assert pairs is not None
    everything = len(pairs.same_P) == pairs.total_same and len(pairs.different_P) == pairs.total_different
    return "all there are" if everything else f"chosen at random from {pairs.total_same + pairs.total_different:,}"


def _histogram(same_P: np.ndarray, different_P: np.ndarray, limit: float | None, label: str) -> str:
    low = min(np.quantile(same_P, 0.0005), np.quantile(different_P, 0.0005))
    high = max(np.quantile(same_P, 0.9995), np.quantile(different_P, 0.9995))
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    lines = []
    for name, value_P in (("different classes", different_P), ("same class", same_P)):
        counts = np.histogram(value_P.clip(low, high), edges)[0] / len(value_P)
        lines.append(Line(name, edges, np.append(counts, 0.0)))
    marks = [Mark(limit, f"threshold {limit:.3g}")] if limit is not None else []
    return line_chart(
        "similarities",
        "How similar pairs are",
        lines,
        x_label=label,
        share=True,
        from_zero=True,
        steps=True,
        marks=marks,
    )


def _trade_off(same_P: np.ndarray, different_P: np.ndarray, found: Evaluated) -> str:
    """Same pairs accepted over different pairs accepted, the latter in decades down to what the data can show."""
    descending = np.sort(different_P)[::-1]
    finest = max(1.0 / len(descending), 1e-6)
    if finest >= 1:
        return ""
    rate = np.unique(np.round(np.geomspace(finest, 1.0, _CURVE) * len(descending)).astype(np.int64).clip(1))
    rising = np.sort(same_P)
    accepted = 1 - np.searchsorted(rising, descending[rate - 1], side="left") / len(rising)
    line = Line("same pairs accepted", rate / len(descending), accepted)
    points = found.thresholds.points if found.thresholds is not None else ()
    marks = [Mark(points[-1].fmr, f"threshold {points[-1].threshold:.3g}")] if points else []
    return line_chart(
        "tradeoff",
        "Same pairs accepted at each rate of false matches",
        [line],
        x_label="different pairs accepted (share)",
        share=True,
        from_zero=True,
        decades=True,
        marks=marks,
    )


def _thresholds(found: Evaluated) -> str:
    known = found.thresholds
    if known is None or not (known.points or known.unsupported):
        return paragraph("No threshold was measured.")
    sure = f"{100 * known.confidence:g} % bounds"
    columns = ("False matches at most", "Threshold", f"False matches on other classes ({sure})", "Same pairs accepted",
               f"({sure})")  # fmt: skip
    return table(columns, _rows(known), numbers=(0, 1, 2, 3, 4))


def _rows(known: Thresholds) -> list[tuple[str, ...]]:
    rows = [
        (
            _rate(point.fmr),
            f"{point.threshold:.4f}",
            f"{_rate(point.fmr_low)} to {_rate(point.fmr_high)}",
            percent(point.tmr),
            f"{percent(point.tmr_low)} to {percent(point.tmr_high)}",
        )
        for point in known.points
    ]
    return rows + [(_rate(float(rate)), "not measurable", why, "", "") for rate, why in known.unsupported.items()]


def _rate(rate: float) -> str:
    return f"{100 * rate:.3g} %"
