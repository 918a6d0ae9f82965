"""Checks of settings that losses share, for those who do not come through a spec."""

from kinsight.errors import SpecError


def require_positive(name: str, value: float) -> None:
    """Raises SpecError unless it is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise SpecError(f"loss.{name}", f"{value}: expected a number above 0", field=name)
