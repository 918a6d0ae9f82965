"""Specs by job name, and specs as YAML."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

import yaml

from kinsight.errors import SpecError
from kinsight.specs.base import Spec
from kinsight.specs.flags import check
from kinsight.specs.table import JOBS

S = TypeVar("S", bound=Spec)


def by_import(text: str) -> Any:
    """The object an import string names: `package.module:name`."""
    module, _, name = text.partition(":")
    return getattr(import_module(module), name)


def spec_class(job: str) -> type[Spec]:
    """The spec of a job by its name on the command line."""
    return by_import(JOBS[job].spec)


def as_tree(spec: Spec) -> dict[str, Any]:
    """A spec as plain data, every setting written out, as stored with every artefact."""
    return spec.model_dump(mode="json")


def as_yaml(spec: Spec) -> str:
    """A spec as the YAML file that gives it back."""
    return tree_as_yaml(as_tree(spec))


def tree_as_yaml(tree: dict[str, Any]) -> str:
    """Plain data as YAML, in its order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def of(model: type[S], given: S | Mapping[str, Any]) -> S:
    """A spec from what a Python caller gives: the spec itself, or a mapping. Raises SpecError."""
    if isinstance(given, model):
        return given
    if not isinstance(given, Mapping):
        raise SpecError(
            "spec.type",
            f"{type(given).__name__} where {model.__name__} or a mapping of its settings is expected",
            remedy="a file's settings: yaml.safe_load(open(file)); on the command line: --spec FILE",
        )
    return check(model, dict(given))  # type: ignore[return-value]
