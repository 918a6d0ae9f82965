"""The similarity from which on an item counts as a match, and where it comes from."""

from dataclasses import dataclass

from kinsight.errors import SpecError
from kinsight.models import Thresholds, load_header


@dataclass(frozen=True)
class Limit:
    """Similarity from which on an item is accepted, and what is known of it. threshold: None accepts nothing and
    refuses nothing. fmr: the false-match rate it was measured for.
    """

    threshold: float | None
    fmr: float | None = None
    source: str = ""


def find_limit(
    bundle: str | None, fmr: float | None, threshold: float | None, metric: str, normalized: bool | None
) -> Limit:
    """The threshold to accept by: the one given, or the bundle's for a false-match rate (None: its strictest, unless
    that is too loose to be taken unasked), as similarities of the index's `metric`.

    normalized: whether the index's vectors have unit length; None: unknown. Raises SpecError where a rate is asked for
    that the bundle has no threshold for.
    """
    if threshold is not None:
        if metric == "cosine" and not -1 <= threshold <= 1:
            raise SpecError(
                "search.threshold",
                "the index compares by cosine, which lies between -1 and 1",
                field=f"threshold={threshold:g}",
                remedy="give a similarity of that range",
            )
        return Limit(threshold, source="given")
    known = load_header(bundle).thresholds if bundle is not None else None
    why = _unusable(known, metric, normalized) if bundle is not None else "no bundle is given, which holds them"
    if why or known is None:
        if fmr is None:
            return Limit(None, source=why)
        raise SpecError(
            "search.no-threshold",
            f"no threshold is known for metric {metric}: {why}",
            field=f"fmr={fmr:g}",
            remedy="`kinsight evaluate --bundle` writes them into the bundle; or give a threshold",
        )
    point = known.point(fmr) if fmr is not None else known.default()
    if point is None:
        strictest = known.point()
        why = f"the strictest rate measured is {strictest.fmr:g}, too loose to be taken unless asked for by fmr"
        return Limit(None, source=why)
    return Limit(_converted(point.threshold, known.metric, metric), point.fmr, "bundle")


def _unusable(known: Thresholds | None, metric: str, normalized: bool | None) -> str:
    """Why the bundle's thresholds tell nothing of the index's similarities; empty where they do."""
    if known is None or not known.points:
        few = "; the data were too few" if known is not None and known.unsupported else ""
        return f"none was measured{few}"
    if known.metric == "cosine" and metric != "cosine" and not normalized:
        lengths = "are not of unit length" if normalized is False else "may have any length"
        return f"the bundle's are cosines, and the index's vectors {lengths}"
    if known.metric != "cosine" and metric != known.metric:
        return f"the bundle's are for {known.metric}, measured on vectors of any length"
    if known.metric != "cosine" and normalized is not False:
        lengths = "have unit length" if normalized else "may be scaled otherwise"
        return f"the bundle's were measured on vectors as the model gives them, the index's {lengths}"
    return ""


def _converted(threshold: float, measured: str, metric: str) -> float:
    """Exact for vectors of unit length: |a - b|^2 = 2 - 2 cos."""
    return -(2 - 2 * threshold) if (measured, metric) == ("cosine", "l2") else threshold
