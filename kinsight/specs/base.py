"""What every spec shares: frozen models that refuse unknown fields, and unions told apart by one tag."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


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


def default_tag(tag: str, value: str) -> BeforeValidator:
    """Let a union's discriminator `tag` be left out: a mapping without it means the arm named `value`."""

    def fill(data: Any) -> Any:
        return {tag: value, **data} if isinstance(data, dict) and tag not in data else data

    fill.default_arm = value  # type: ignore[attr-defined]
    return BeforeValidator(fill)
