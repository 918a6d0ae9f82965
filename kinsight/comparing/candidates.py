"""From the base and what candidates change to train specs, and whether the protocol permits the changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.specs.compare import Choices, CompareSpec, Interval, read_range
from kinsight.specs.fields import settings
from kinsight.specs.flags import check, load_yaml
from kinsight.specs.load import as_tree
from kinsight.specs.train import TrainSpec

MAY_DIFFER = ("loss", "extra_losses", "sampler", "relation", "optimizer.head_lr_scale")
SET_BY_PROTOCOL = (
    "job", "output", "seed", "epochs", "steps", "seconds", "data.train", "data.validation", "data.classes",
    "data.num_classes", "validate", "early_stop", "report", "checkpoint",
)  # fmt: skip
_REPLACED = ("epochs", "steps", "seconds", "seed", "validate", "early_stop", "report")
Tree = dict[str, Any]
Range = Interval | Choices


@dataclass(frozen=True)
class Candidate:
    """name; tree: its train spec but for what differs between runs; ranges: tuned settings; declared: their values as
    written; differs: settings that `allow` lets differ from the base: (setting, base's, its).
    """

    name: str
    tree: Tree
    ranges: dict[str, Range]
    declared: dict[str, Any]
    differs: tuple[tuple[str, Any, Any], ...] = ()

    def with_values(self, values: Mapping[str, Any]) -> Tree:
        """The tree with tuned settings at these values."""
        tree = self.tree
        for path, value in values.items():
            tree = _placed(tree, path.split("."), value)
        return tree


@dataclass(frozen=True)
class Protocol:
    """base: the spec all share. budget: name and number. ignored: settings of the base that do not apply."""

    base: TrainSpec
    budget: tuple[str, float]
    candidates: tuple[Candidate, ...]
    ignored: tuple[str, ...]


def read_protocol(spec: CompareSpec) -> Protocol:
    """Everything checked that the settings alone can tell. Raises SpecError naming candidate and setting."""
    tree = _base_tree(spec.base)
    ignored = tuple(name for name in _REPLACED if tree.get(name) is not None)
    base = _checked(_bare(tree), "base")
    if base.task != "metric":
        raise SpecError(
            "compare.base",
            f"task={base.task}: trainings are compared by how they retrieve classes held out, which is task=metric",
            field="base",
            remedy="leave task out",
        )
    budget = spec.budget.given() if spec.budget is not None else _own_budget(tree)
    tree = {**{key: value for key, value in tree.items() if key not in _REPLACED}, **budget}
    tree |= {"output": "unset", "report": None, "validate": _validation(spec)}
    tree["data"] = {key: value for key, value in tree.get("data", {}).items() if key not in ("classes", "num_classes")}
    tree["data"]["validation"] = tree["data"].get("train")
    base = base.model_copy(update={"output": spec.output})
    shared = _checked(tree, "base")
    for path in spec.allow:
        _refuse_unusable(path)
    candidates = tuple(_candidate(spec, name, tree, shared) for name in spec.candidates)
    _refuse_idle(spec, candidates)
    _refuse_twins(candidates)
    name, number = next(iter(budget.items()))
    kept = [name for name in ignored if name not in ("epochs", "steps", "seconds") or spec.budget is not None]
    return Protocol(base, (name, number), candidates, tuple(kept))


def _base_tree(given: str | Tree) -> Tree:
    tree = load_yaml(storage.read_text(given), given) if isinstance(given, str) else dict(given)
    if tree.get("job", "train") != "train":
        raise SpecError("compare.base", f"job={tree['job']}: expected a train spec", field="base")
    return {"output": "unset", **tree}


def _bare(tree: Tree) -> Tree:
    """The base as its own author meant it, but for what a comparison never uses."""
    return {key: value for key, value in tree.items() if key not in ("validate", "early_stop", "report")}


def _own_budget(tree: Tree) -> dict[str, Any]:
    given = {name: tree[name] for name in ("steps", "epochs", "seconds") if tree.get(name) is not None}
    if not given:
        raise SpecError(
            "compare.budget",
            "neither the comparison nor its base says how long a run is",
            field="budget",
            remedy="set budget.seconds, budget.steps or budget.epochs",
        )
    return given


def _validation(spec: CompareSpec) -> Tree:
    return {"times": spec.curve, "keep": spec.keep, "metric": spec.metric, "write_thresholds": False}


def _candidate(spec: CompareSpec, name: str, base_tree: Tree, base: TrainSpec) -> Candidate:
    changes = {key: value for key, value in spec.candidates[name].items() if key != "tune"}
    where = f"candidates.{name}"
    for path in _paths(changes):
        _refuse_ours(path, where)
    tree = merged(base_tree, changes)
    resolved = _checked(tree, where)
    differs = tuple(_differences(spec, where, base, resolved))
    ranges: dict[str, Range] = {}
    for origin, given in (("tune", spec.tune), (f"{where}.tune", spec.candidates[name].get("tune", {}))):
        for path, text in given.items():
            _refuse_untunable(spec, path, origin)
            ranges[path] = read_range(f"{origin}.{path}", text)
            _check_ends(tree, path, ranges[path], f"{origin}.{path}", where)
    flat = flattened(as_tree(resolved))
    declared = {path: flat.get(path) for path in ranges}
    whole = {path: _whole(path, found) for path, found in ranges.items()}
    return Candidate(name, tree, whole, declared, differs)


def merged(base: Tree, changes: Tree) -> Tree:
    """`base` with `changes` over it; where they choose another kind, nothing of the base's remains."""
    tree = dict(base)
    for key, value in changes.items():
        old = tree.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _other_kind(old, value):
            tree[key] = merged(old, value)
        else:
            tree[key] = value
    return tree


def _other_kind(old: Tree, new: Tree) -> bool:
    return any(tag in new and new[tag] != old.get(tag) for tag in ("kind", "format"))


def _paths(tree: Tree, prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found += [f"{prefix}{key}", *(_paths(value, f"{prefix}{key}.") if isinstance(value, dict) else [])]
    return found


def _refuse_ours(path: str, where: str) -> None:
    if path in SET_BY_PROTOCOL:
        raise SpecError(
            "compare.protocol",
            "is set by the comparison itself",
            field=f"{where}.{path}",
            remedy="leave it away: budget, seeds, folds and test are settings of the comparison",
        )


def _differences(spec: CompareSpec, where: str, base: TrainSpec, resolved: TrainSpec) -> list[tuple[str, Any, Any]]:
    old, new = flattened(as_tree(base)), flattened(as_tree(resolved))
    found = []
    for path in dict.fromkeys([*old, *new]):
        if old.get(path) == new.get(path) or _under(path, MAY_DIFFER):
            continue
        if not _under(path, spec.allow):
            raise SpecError(
                "compare.held-equal",
                f"the protocol holds it equal for all candidates (base: {old.get(path)!r})",
                field=f"{where}.{path}={new.get(path)!r}",
                remedy=f"leave it as in the base, or set allow: [{path}]: the difference then stands in the table",
            )
        found.append((path, old.get(path), new.get(path)))
    return found


def _refuse_untunable(spec: CompareSpec, path: str, origin: str) -> None:
    _refuse_ours(path, origin)
    for_all = origin == "tune"
    if not (_under(path, (*MAY_DIFFER, *spec.allow)) or (for_all and path.startswith("optimizer."))):
        remedy = "set it under the comparison's own tune, for all candidates" if path.startswith("optimizer.") else None
        raise SpecError(
            "compare.held-equal",
            "the protocol holds it equal for all candidates",
            field=f"{origin}.{path}",
            remedy=remedy or f"tune other settings, or set allow: [{path}]",
        )


def _check_ends(tree: Tree, path: str, found: Range, where: str, candidate: str) -> None:
    """Every value that may be tried is one that training takes; both ends tell for an interval."""
    values = found.values if isinstance(found, Choices) else (found.low, found.high)
    whole = _whole(path, found)
    values = (whole.low, whole.high) if isinstance(whole, Interval) else values
    for value in values:
        try:
            placed = _placed(tree, path.split("."), value)
        except (KeyError, IndexError, TypeError, ValueError):
            raise SpecError("compare.tune", f"{candidate} has no such setting", field=where) from None
        _checked(placed, where)


def _placed(tree: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    if isinstance(tree, list):
        index = int(path[0])
        return [*tree[:index], _placed(tree[index], path[1:], value), *tree[index + 1 :]]
    if not isinstance(tree, dict):
        raise TypeError(path)
    return {**tree, path[0]: _placed(tree.get(path[0], {}) if len(path) > 1 else None, path[1:], value)}


def _whole(path: str, found: Range) -> Range:
    """Ends as integers where the setting takes integers alone, as floats elsewhere."""
    if isinstance(found, Choices):
        return found
    kinds = {setting.type_ for setting in settings(TrainSpec) if setting.name == path}
    if kinds == {int} and found.low == int(found.low) and found.high == int(found.high):
        return Interval(int(found.low), int(found.high), found.log)
    return Interval(float(found.low), float(found.high), found.log)


def _checked(tree: Tree, where: str) -> TrainSpec:
    try:
        spec = check(TrainSpec, tree)
    except SpecError as error:
        lines = "\n".join(f"{where}: {line}" for line in error.message.splitlines())
        raise SpecError(error.code, lines, remedy=error.remedy) from None
    assert isinstance(spec, TrainSpec)
    return spec


def _refuse_unusable(path: str) -> None:
    known = {setting.name for setting in settings(TrainSpec)}
    known |= {name.rpartition(".")[0] for name in known}
    if path not in known or _under(path, SET_BY_PROTOCOL):
        raise SpecError(
            "compare.allow", f"{path!r} is no setting of a training that candidates may change", field="allow"
        )


def _refuse_idle(spec: CompareSpec, candidates: tuple[Candidate, ...]) -> None:
    used = {
        path for candidate in candidates for path in [*(name for name, _, _ in candidate.differs), *candidate.ranges]
    }
    for allowed in spec.allow:
        if not any(_under(path, (allowed,)) for path in used):
            raise SpecError("compare.allow", f"no candidate changes {allowed}", field="allow", remedy="leave it away")


def _refuse_twins(candidates: tuple[Candidate, ...]) -> None:
    seen: dict[str, str] = {}
    for candidate in candidates:
        key = repr(as_tree(_checked(candidate.tree, candidate.name)))
        if key in seen:
            raise SpecError(
                "compare.twins",
                f"has the same settings as candidates.{seen[key]}",
                field=f"candidates.{candidate.name}",
                remedy="leave one of them away",
            )
        seen[key] = candidate.name


def _under(path: str, names: tuple[str, ...] | list[str]) -> bool:
    return any(f"{path}.".startswith(f"{name}.") for name in names)


def flattened(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; those in lists by their place."""
    if isinstance(tree, dict):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        items = [(str(place), value) for place, value in enumerate(tree)]
    else:
        return {prefix[:-1]: tree}
    return {name: value for key, inner in items for name, value in flattened(inner, f"{prefix}{key}.").items()}
