"""A spec seen as a tree of settings: what the command line, its help and the reference pages are made from."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kinsight.specs.base import Spec


@dataclass(frozen=True)
class Setting:
    """One settable field.

    path: names from the top, e.g. ("loss", "margin_deg").
    type_: annotation without `None`.
    optional: whether null is allowed.
    default: PydanticUndefined where a value is needed.
    help, bounds: text for people.
    arms: (path of the union, arm name) pairs this setting belongs to, outermost first.
    tag_of: the arms, if this setting is a union's discriminator.
    switch: whether it turns a whole group of settings on (with their defaults) or off.
    positional: whether a bare word may give it.
    """

    path: tuple[str, ...]
    type_: Any
    optional: bool
    default: Any
    help: str
    bounds: str
    arms: tuple[tuple[tuple[str, ...], str], ...] = ()
    tag_of: "dict[str, type[Spec]] | None" = None
    switch: bool = False
    positional: bool = False

    @property
    def name(self) -> str:
        """Dotted name, as YAML nests it."""
        return ".".join(self.path)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is PydanticUndefined


def settings(model: type[Spec]) -> list[Setting]:
    """Every setting of a spec, arms of unions included, in order of declaration."""
    return list(_walk(model, (), ()))


def _walk(model: type[Spec], prefix: tuple[str, ...], arms: tuple[Any, ...]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        if name == "job" and not prefix:
            continue
        path = (*prefix, field.alias or name)
        type_, optional = without_none(field.annotation)
        options = union_arms(type_)
        if options:
            tag = discriminator(options)
            default = _default_arm(field, options, tag)
            named = {_arm_name(arm, tag): arm for arm in options}
            yield Setting((*path, tag), str, optional, default, field.description or "", "", arms, named)
            for arm_name, arm in named.items():
                for setting in _walk(arm, path, (*arms, (path, arm_name))):
                    if setting.path != (*path, tag):
                        yield setting
        elif isinstance(type_, type) and issubclass(type_, Spec):
            if optional:
                yield Setting(path, bool, True, field.get_default(), field.description or "", "", arms, switch=True)
            yield from _walk(type_, path, arms)
        elif not (arms and _is_tag(field)):
            extra = field.json_schema_extra
            bare = isinstance(extra, dict) and bool(extra.get("positional"))
            default, words = field.get_default(), field.description or ""
            yield Setting(path, type_, optional, default, words, bounds(field), arms, positional=bare)


def without_none(annotation: Any) -> tuple[Any, bool]:
    """An annotation without `None`, and whether `None` was in it; Annotated layers are taken off."""
    if get_origin(annotation) is Annotated:
        return without_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) < len(get_args(annotation)):
            inner = parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007
            return without_none(inner)[0], True
    return annotation, False


def union_arms(type_: Any) -> list[type[Spec]]:
    """The specs a union chooses between; empty for anything else."""
    if get_origin(type_) not in (Union, types.UnionType):
        return []
    parts = get_args(type_)
    return list(parts) if all(isinstance(part, type) and issubclass(part, Spec) for part in parts) else []


def discriminator(arms: list[type[Spec]]) -> str:
    """Name of the field whose literal tells the arms apart."""
    return next(name for name, field in arms[0].model_fields.items() if _is_tag(field))


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _arm_name(arm: type[Spec], tag: str) -> str:
    return get_args(arm.model_fields[tag].annotation)[0]


def _default_arm(field: FieldInfo, arms: list[type[Spec]], tag: str) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Spec):
        return getattr(default, tag)
    if default is None:
        return None
    return default_arm(field) or _arm_name(arms[0], tag)


def default_arm(field: FieldInfo) -> str | None:
    """The arm meant when a mapping leaves the discriminator out."""
    layers: list[Any] = list(field.metadata)
    annotation = field.annotation
    for part in (annotation, *get_args(annotation)):
        layers += getattr(part, "__metadata__", ())
    for layer in layers:
        if isinstance(layer, BeforeValidator) and hasattr(layer.func, "default_arm"):
            return layer.func.default_arm  # type: ignore[union-attr]
    return None


_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def bounds(field: FieldInfo) -> str:
    """Bounds as text: `> 0, ≤ 1`; of a list's items: `each ≥ 0`."""
    own, each = _signs([*field.metadata, *_layers(field.annotation)]), _signs(_layers(_item(field.annotation)))
    return "; ".join(text for text in (own, f"each {each}" if each else "") if text)


def _signs(layers: list[Any]) -> str:
    return ", ".join(
        f"{sign} {_number(getattr(item, name))}"
        for item in layers
        for name, sign in _SIGNS.items()
        if getattr(item, name, None) is not None
    )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _layers(annotation: Any) -> list[Any]:
    """What Annotated says of a type, also of one that may be null."""
    if get_origin(annotation) is Annotated:
        told = [part for layer in annotation.__metadata__ for part in getattr(layer, "metadata", [layer])]
        return [*told, *_layers(get_args(annotation)[0])]
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _layers(parts[0]) if len(parts) == 1 else []
    return []


def _item(annotation: Any) -> Any:
    """The type of a list's items; None of anything else."""
    plain = without_none(annotation)[0]
    return get_args(plain)[0] if get_origin(plain) is list else None


def type_name(type_: Any) -> str:
    """A type as people write it: `number`, `a | b`, `list of integers`."""
    if get_origin(type_) is Literal:
        return " | ".join(str(value) for value in get_args(type_))
    if get_origin(type_) is list:
        return f"list of {type_name(without_none(get_args(type_)[0])[0])}"
    if get_origin(type_) is dict:
        return "mapping"
    if get_origin(type_) in (Union, types.UnionType):
        arms = union_arms(type_)
        return "terms" if arms else " or ".join(type_name(part) for part in get_args(type_))
    return {int: "integer", float: "number", bool: "true | false", str: "text"}.get(
        type_, getattr(type_, "__name__", "value")
    )
