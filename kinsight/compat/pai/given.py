"""What a file of the component's parameters says, by the names of the component's page."""

import difflib
from typing import Any

from kinsight.compat.pai import names
from kinsight.compat.pai.names import FIELDS, Field
from kinsight.errors import SpecError


class Given:
    """Parameters of a file, by the names of the page; case and blanks around do not count."""

    def __init__(self, tree: dict[str, Any], file: str) -> None:
        known = {key_of(each.name): each.name for each in FIELDS}
        self._value: dict[str, Any] = {}
        for name, value in tree.items():
            if key_of(name) not in known:
                near = difflib.get_close_matches(key_of(name), known, n=1)
                hint = f"; did you mean {known[near[0]]!r}?" if near else ""
                remedy = f"kinsight compat {names.SCRIPT} --help lists them"
                raise SpecError("spec.unknown-flag", f"no parameter {str(name)!r}{hint}", field=file, remedy=remedy)
            if value is not None and str(value).strip():
                self._value[known[key_of(name)]] = value
        for each in FIELDS:
            if each.needed and each.name not in self._value:
                raise SpecError("spec.needed", "must be given", field=each.name, remedy=f"write it into {file}")

    def has(self, field: Field) -> bool:
        return field.name in self._value

    def text(self, field: Field) -> str | None:
        value = self._value.get(field.name, field.default)
        return None if value is None else str(value).strip()

    def number(self, field: Field) -> Any:
        """A whole number where it is one. Raises SpecError."""
        try:
            value = float(self._value.get(field.name, field.default))
        except (TypeError, ValueError):
            raise SpecError("spec.value", f"{self.text(field)!r}: expected a number", field=field.name) from None
        return int(value) if value.is_integer() else value

    def choice(self, field: Field, known: list[str]) -> str:
        """One of the values that the page prints. Raises SpecError for another one, with the nearest."""
        text = self.text(field) or ""
        lower = {key_of(each): each for each in known}
        if key_of(text) not in lower:
            near = difflib.get_close_matches(key_of(text), lower, n=1)
            hint = f"; did you mean {lower[near[0]]}?" if near else ""
            raise SpecError("spec.value", f"{text!r}: expected {' or '.join(known)}{hint}", field=field.name)
        return lower[key_of(text)]


def key_of(text: object) -> str:
    return " ".join(str(text).lower().split())
