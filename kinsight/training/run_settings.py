"""The settings a run was started with, and whether others may go on with it."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kinsight.errors import DataError
from kinsight.specs.load import as_tree
from kinsight.specs.train import TrainSpec

# What may differ between a run and its continuation: where it computes, not what.
_MACHINE = ("output", "nproc", "device", "data.workers", "data.cache", "checkpoint.")


def read_settings(file: Path) -> dict[str, Any] | None:
    """The settings in a run's `spec.yaml`, None where there is no such file. Raises DataError for anything else."""
    if not file.exists():
        return None
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        tree = None
    if not isinstance(tree, dict):
        raise DataError(
            "run.spec",
            "is not a run's settings",
            field=str(file),
            remedy="choose another output, or --overwrite to train anew",
        )
    return tree


def differing_fields(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`name: before → now` for every setting that makes two specs different runs."""
    old, new = _flat(_completed(before)), _flat(now)
    names = [name for name in {**old, **new} if not name.startswith(_MACHINE)]
    return [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def _completed(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier version, with the defaults of those that have come since."""
    try:
        return as_tree(TrainSpec.model_validate(tree))
    except ValidationError:
        return tree


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
