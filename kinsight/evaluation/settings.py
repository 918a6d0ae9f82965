"""Settings as artefacts store them: without signatures, and compared field by field."""

from collections.abc import Sequence
from typing import Any

from kinsight.specs.base import Spec
from kinsight.specs.load import as_tree, tree_as_yaml
from kinsight.storage import Address


def printed_tree(spec: Spec) -> dict[str, Any]:
    """A spec as plain data, its addresses without signatures and passwords."""
    return _printed(as_tree(spec))


def printed_yaml(spec: Spec) -> str:
    """`printed_tree` as the YAML file stored with an artefact."""
    return tree_as_yaml(printed_tree(spec))


def differing_fields(before: dict[str, Any], now: dict[str, Any], ignored: Sequence[str]) -> list[str]:
    """`name was x, now y` for every setting that differs, but for the `ignored` ones and what lies below them.

    Where another kind was chosen, settings that only one of both kinds has are passed over.
    """
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if not any(f"{name}.".startswith(f"{other}.") for other in ignored)]
    names = [name for name in names if not _of_another_kind(name, old, new)]
    return [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def _of_another_kind(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    if name in old and name in new:
        return False
    parts = name.split(".")
    tags = [f"{'.'.join(parts[:end])}.{tag}" for end in range(1, len(parts)) for tag in ("kind", "format")]
    return any(tag in old and tag in new and old[tag] != new[tag] for tag in tags)


def _printed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _printed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printed(item) for item in value]
    return str(Address.parse(value)) if isinstance(value, str) and "://" in value else value


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
