"""Checks of settings that losses share, for those who do not come through a spec."""

from kinsight.errors import SpecError


def require_positive(name: str, value: float) -> None:
    """Raises SpecError unless it is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise SpecError(f"loss.{name}", f"{value}: expected a number above 0", field=name)


def require_from_zero(name: str, value: float) -> None:
    """Raises SpecError unless it is a finite number from 0."""
    if not 0 <= value < float("inf"):
        raise SpecError(f"loss.{name}", f"{value}: expected a number from 0", field=name)


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raises SpecError unless low <= value <= high."""
    if not low <= value <= high:
        raise SpecError(f"loss.{name}", f"{value}: expected {low:g} to {high:g}", field=name)


def require_centres(centres: int) -> None:
    """Raises SpecError unless a class has several."""
    if centres != int(centres) or centres < 2:
        raise SpecError("loss.centres", f"{centres}: expected a whole number from 2", field="centres")
