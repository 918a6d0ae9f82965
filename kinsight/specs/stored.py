"""Settings that artefacts hold: read leniently, as another version of Kinsight may have written them."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

T = TypeVar("T")


def lenient(validate: Callable[[Any], T], data: dict[str, Any]) -> T:
    """`data` as settings, without those that are not known here; validate: `Model.model_validate`, or an adapter's.

    Raises ValidationError for anything else that is wrong.
    """
    try:
        return validate(data)
    except ValidationError as error:
        unknown = [found["loc"] for found in error.errors() if found["type"] == "extra_forbidden"]
        if not unknown:
            raise
        trimmed = json.loads(json.dumps(data))
        for location in unknown:
            _drop(trimmed, location)
        if trimmed == data:
            raise
    return lenient(validate, trimmed)


def _drop(data: Any, location: Sequence[str | int]) -> None:
    """Remove the field at a pydantic location, whose steps also name the arms of unions."""
    for step in location[:-1]:
        at: Any = step
        if (isinstance(data, dict) and at in data) or (isinstance(data, list) and isinstance(at, int)):
            data = data[at]
    if isinstance(data, dict):
        data.pop(location[-1], None)
