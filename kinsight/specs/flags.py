"""From command-line words and YAML to a checked spec."""

from dataclasses import replace
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from kinsight.errors import SpecError
from kinsight.specs.base import Spec
from kinsight.specs.faults import explain, no_value, unknown_name
from kinsight.specs.fields import Setting, settings

Words = list[str]


def resolve(model: type[Spec], words: Words, base: dict[str, Any] | None = None) -> Spec:
    """The spec that `base` (from YAML) and then flags describe.

    words: flags like `--loss.margin-deg 28`, `--loss.margin_deg=28`, `--no-compile`.
    Raises SpecError naming every wrong flag or field with the nearest right name.
    """
    tree = dict(base or {})
    known = settings(model)
    given = parse(known, words)
    for path, value in sorted(given.items(), key=lambda item: (len(item[0]), not _is_tag(known, item[0]))):
        _set(known, tree, path, value)
    return check(model, tree)


def parse(known: list[Setting], words: Words) -> dict[tuple[str, ...], Any]:
    """Flags as {path: value}; values of numbers stay text for the spec to read."""
    by_name = {group.name: group for group in _nullable_unions(known)}
    by_name |= {setting.name: setting for setting in reversed(known)}
    found: dict[tuple[str, ...], Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--"):
            setting = next((one for one in known if one.positional and one.path not in found), None)
            if setting is None:
                raise SpecError("spec.stray-word", f"{word!r} is not a flag", remedy="write settings as --name value")
            taken = [word, *(_values(setting, words[position:]) if get_origin(setting.type_) is list else ())]
            position += len(taken) - 1
            found[setting.path] = _convert(setting, taken, word)
            continue
        text, equals, value = word[2:].partition("=")
        name = text.replace("-", "_")
        if name.startswith("no_") and name not in by_name and name[3:] in by_name and not equals:
            name, equals, value = name[3:], "=", "false"
        if name not in by_name:
            raise no_value(f"--{text}", name.removeprefix("no_"), known) or unknown_name(
                f"--{text}", name, list(by_name)
            )
        setting = by_name[name]
        taken = [value] if equals else _values(setting, words[position:])
        position += 0 if equals else len(taken)
        if setting.path in found:
            raise SpecError("spec.twice", "is given twice", field=f"--{text}", remedy="keep one of them")
        found[setting.path] = _convert(setting, taken, f"--{text}")
    return found


def _nullable_unions(known: list[Setting]) -> list[Setting]:
    """Groups of several kinds that may be null: switched on and off like groups of one kind."""
    return [
        replace(tag, path=tag.path[:-1], type_=bool, tag_of=None, switch=True)
        for tag in known
        if tag.tag_of and tag.optional
    ]


def _values(setting: Setting, rest: Words) -> Words:
    many = get_origin(setting.type_) is list
    values: Words = []
    for word in rest:
        if word.startswith("--") or (values and not many):
            break
        if setting.type_ is bool and word.lower() not in (*_BOOLEANS, "null"):
            break
        values.append(word)
    return values


_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}


def _convert(setting: Setting, values: Words, flag: str) -> Any:
    if setting.switch:
        word = values[0].lower() if values else "on"
        if word not in (*_BOOLEANS, "null"):
            raise SpecError(
                "spec.switch",
                f"{values[0]!r}: expected on, off or null",
                field=flag,
                remedy=f"give its settings each by its own name, see --help {setting.path[0]}",
            )
        return {} if _BOOLEANS.get(word) else None
    if setting.type_ is bool and not values:
        return True
    if not values:
        raise SpecError("spec.no-value", "needs a value", field=flag, remedy=f"see --help {setting.path[0]}")
    if setting.optional and values == ["null"]:
        return None
    if setting.type_ is bool:
        return _BOOLEANS.get(values[0].lower(), values[0])
    if _takes_mapping(setting.type_) and values[0].lstrip().startswith("{"):
        return _yaml(values[0], flag)
    if get_origin(setting.type_) is not list:
        return values[0]
    if len(values) == 1 and values[0].lstrip().startswith(("[", "{")):
        return _yaml(values[0], flag)
    item = get_args(setting.type_)[0]
    if setting.positional and item is str:
        return values  # names of files and items may hold commas
    if item in (int, float, str) or get_origin(item) is not None:
        return [part for value in values for part in value.split(",") if part]
    return [_yaml(value, flag) for value in values]


def _takes_mapping(type_: Any) -> bool:
    return get_origin(type_) is dict or any(get_origin(part) is dict for part in get_args(type_))


def _yaml(text: str, field: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError("spec.yaml", f"is not YAML: {str(error).splitlines()[0]}", field=field) from None


class _TwiceGiven(yaml.constructor.ConstructorError):
    pass


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _TwiceGiven(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, name: str) -> dict[str, Any]:
    """A spec file's mapping. Raises SpecError with the line where YAML ends to make sense."""
    try:
        data = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(
            "spec.yaml",
            ("" if isinstance(error, _TwiceGiven) else "is not YAML: ") + str(getattr(error, "problem", error)),
            field=f"{name}{line}",
        ) from None
    if not isinstance(data, dict):
        raise SpecError(
            "spec.yaml", f"holds {type(data).__name__}, not settings", field=name, remedy="write `name: value` lines"
        )
    return data


def _is_tag(known: list[Setting], path: tuple[str, ...]) -> bool:
    return any(setting.path == path and setting.tag_of for setting in known)


def _set(known: list[Setting], tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    node = tree
    for name in path[:-1]:
        inner = node.get(name)
        node[name] = dict(inner) if isinstance(inner, dict) else {}
        node = node[name]
    tag = next((setting for setting in known if setting.path == path and setting.tag_of), None)
    if tag is not None and tag.tag_of is not None and value in tag.tag_of:
        before = node.get(path[-1], tag.default)
        if before != value:
            _drop_other_arms_keys(node, tag.tag_of.get(before), tag.tag_of[value], path[-1])
    if value == {} and isinstance(node.get(path[-1]), dict):
        return
    node[path[-1]] = value


def _drop_other_arms_keys(node: dict[str, Any], old: type[Spec] | None, new: type[Spec], tag: str) -> None:
    """Forget what was set for the arm left behind, except what both arms declare alike."""
    for key in [key for key in node if key != tag]:
        mine, other = new.model_fields.get(key), old.model_fields.get(key) if old else None
        alike = mine is not None and other is not None and mine.get_default() == other.get_default()
        if not alike:
            del node[key]


def check(model: type[Spec], tree: dict[str, Any]) -> Spec:
    """A spec from a mapping. Raises SpecError listing every fault: path, value, expectation, nearest name."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        known = settings(model)
        lines = [explain(known, dict(fault)) for fault in error.errors(include_url=False)]
        raise SpecError("spec.invalid", "\n".join(dict.fromkeys(lines))) from None
