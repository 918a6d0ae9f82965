"""What every spec shares: frozen models that refuse unknown fields, and unions told apart by one tag."""

from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic.fields import FieldInfo


class Spec(BaseModel):
    """Base of everything a user may set: immutable, no unknown fields, defaults checked like values."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        validate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _switched(cls, given: Any) -> Any:
        """A group of settings that may be null is also turned on by true, with its defaults, and off by false."""
        if not isinstance(given, dict):
            return given
        fields = {name: field for own, field in cls.model_fields.items() for name in (own, field.alias)}
        meant = {True: {}, False: None}
        return {
            name: meant[value] if isinstance(value, bool) and name in fields and is_switch(fields[name]) else value
            for name, value in given.items()
        }


def is_switch(field: FieldInfo) -> bool:
    """Whether a field is one group of settings, or null."""
    parts = get_args(field.annotation)
    return len(parts) == 2 and type(None) in parts and any(isinstance(p, type) and issubclass(p, Spec) for p in parts)


def default_tag(tag: str, value: str) -> BeforeValidator:
    """Let a union's discriminator `tag` be left out: a mapping without it means the arm named `value`."""

    def fill(data: Any) -> Any:
        return {tag: value, **data} if isinstance(data, dict) and tag not in data else data

    fill.default_arm = value  # type: ignore[attr-defined]
    return BeforeValidator(fill)
