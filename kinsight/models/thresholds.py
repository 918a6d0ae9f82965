"""The similarity thresholds that a bundle carries, with the error rates measured for them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from kinsight.errors import SpecError

LOOSEST_BY_DEFAULT = 1e-2  # who did not ask for a looser rate is not to get its false matches


class ThresholdPoint(BaseModel):
    """Pairs at or above `threshold` count as the same (with metric l2 it is a negated squared distance).

    fmr: false-match rate it was chosen for. fmr_low, fmr_high: bounds of the rate on other classes. tmr, tmr_low,
    tmr_high: share of same pairs accepted. confidence, classes, different_pairs, data_fingerprint: what it was measured
    on, which differs between points kept from different evaluations; within `Thresholds` those of the whole by default.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    fmr: float
    threshold: float
    fmr_low: float
    fmr_high: float
    tmr: float
    tmr_low: float
    tmr_high: float
    confidence: float | None = None
    classes: int | None = None
    different_pairs: int | None = None
    data_fingerprint: str | None = None

    def rests_on_less(self, other: "ThresholdPoint") -> bool:
        """Whether it was measured on fewer classes or fewer different pairs than the other."""
        mine, others = (self.classes or 0, self.different_pairs or 0), (other.classes or 0, other.different_pairs or 0)
        return mine[0] < others[0] or mine[1] < others[1]


class Thresholds(BaseModel):
    """points: loosest first. unsupported: rate -> why the data cannot tell. data_fingerprint: of what was measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: Literal["cosine", "l2", "ip"]
    confidence: float
    classes: int
    same_pairs: int
    different_pairs: int
    data_fingerprint: str | None = None
    points: tuple[ThresholdPoint, ...] = ()
    unsupported: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _points_say_what_they_rest_on(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("points"), list | tuple):
            return given
        points = [p.model_dump() if isinstance(p, ThresholdPoint) else p for p in given["points"]]
        shared = {name: given.get(name) for name in ("confidence", "classes", "different_pairs", "data_fingerprint")}
        filled = [
            # a count of its own: measured elsewhere, on data that may have no fingerprint
            shared | {k: v for k, v in p.items() if v is not None}
            if isinstance(p, dict) and p.get("classes") is None
            else p
            for p in points
        ]
        return given | {"points": filled}

    def default(self) -> ThresholdPoint | None:
        """The point for who asks for no rate: the strictest, None where it is looser than LOOSEST_BY_DEFAULT."""
        strictest = min(self.points, key=lambda point: point.fmr, default=None)
        return strictest if strictest is not None and strictest.fmr <= LOOSEST_BY_DEFAULT * (1 + 1e-9) else None

    def point(self, fmr: float | None = None) -> ThresholdPoint:
        """The point measured for a false-match rate; None: the strictest. Raises SpecError naming those there are."""
        if fmr is None and self.points:
            return min(self.points, key=lambda point: point.fmr)
        for point in self.points:
            if fmr is not None and abs(point.fmr - fmr) <= 1e-9 * fmr:
                return point
        why = next((reason for rate, reason in self.unsupported.items() if fmr and abs(float(rate) - fmr) < 1e-12), "")
        rates = ", ".join(f"{point.fmr:g}" for point in self.points) or "none"
        raise SpecError(
            "bundle.threshold",
            f"no threshold was measured for this rate{f' ({why})' if why else ''}; measured: {rates}",
            field=f"fmr={fmr}",
            remedy="choose one of those, give a threshold, or evaluate the bundle on more images",
        )
