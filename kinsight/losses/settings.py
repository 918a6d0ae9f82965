"""Checks of settings that losses share, for those who do not come through a spec."""

from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from kinsight.errors import SpecError
from kinsight.specs.base import Spec


def require_like(spec: type[Spec], **values: Any) -> None:
    """Raises SpecError naming the first of these settings that a spec of this kind would not hold.

    Bounds and choices are thus those of `kinsight train`. Nothing is converted: text is no number.
    """
    try:
        spec.model_validate({name: _plain(value) for name, value in values.items()}, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if not fault["loc"]:  # settings that do not go together
            raise SpecError("loss.settings", fault["msg"].removeprefix("Value error, ")) from None
        name = str(fault["loc"][0])
        expected = _number(spec.model_fields[name]) or fault["msg"].removeprefix("Input should be ")
        raise SpecError(f"loss.{name}", f"{values[name]!r}: expected {expected}", field=name) from None


def _plain(value: Any) -> Any:
    """Numbers of arrays as Python's, tuples as lists."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _number(field: FieldInfo) -> str:
    """What a field with bounds expects, in words; empty for one without."""
    limits = [
        f"{word} {getattr(item, sign):g}"
        for item in field.metadata
        for sign, word in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "at most"))
        if hasattr(item, sign)
    ]
    kind = "a whole number" if field.annotation is int else "a number"
    return f"{kind} {', '.join(limits)}" if limits else ""


def require_settings(loss: object, spec: type[Spec]) -> None:
    """The same for all fields of a dataclass."""
    require_like(spec, **vars(loss))
