"""The settings a run was started with, and whether others may go on with it."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kinsight.errors import DataError
from kinsight.evaluation.settings import differing_fields, printed_tree
from kinsight.specs.train import TrainSpec

# What may differ between a run and its continuation: where it computes, not what.
_MACHINE = (
    "output", "nproc", "device", "data.workers", "data.cache", "checkpoint", "snapshots", "report", "log_every_steps",
    "validate.batch_size",
)  # fmt: skip


def read_settings(file: Path) -> dict[str, Any] | None:
    """The settings in a run's `spec.yaml`, None where there is no such file. Raises DataError for anything else."""
    if not file.exists():
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    return parse_settings(text, str(file))


def parse_settings(text: str, file: str) -> dict[str, Any]:
    """The settings in the text of a `spec.yaml`. Raises DataError."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        tree = None
    if not isinstance(tree, dict):
        raise DataError(
            "run.spec",
            "is not a run's settings",
            field=file,
            remedy="choose another output, or --overwrite to train anew",
        )
    return tree


def other_settings(before: dict[str, Any], spec: TrainSpec) -> list[str]:
    """`name was x, now y` for every setting that makes `spec` another run than the one started with `before`."""
    return differing_fields(_completed(before), printed_tree(spec), _MACHINE)


def _completed(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier version, with the defaults of those that have come since."""
    try:
        return printed_tree(TrainSpec.model_validate(tree))
    except ValidationError:
        return tree
