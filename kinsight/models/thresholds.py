"""The similarity thresholds that a bundle carries, with the error rates measured for them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from kinsight.errors import SpecError


class ThresholdPoint(BaseModel):
    """Pairs at or above `threshold` count as the same (with metric l2 it is a negated squared distance).

    fmr: false-match rate it was chosen for. fmr_low, fmr_high: bounds of the rate on other classes. tmr, tmr_low,
    tmr_high: share of same pairs accepted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    fmr: float
    threshold: float
    fmr_low: float
    fmr_high: float
    tmr: float
    tmr_low: float
    tmr_high: float


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
