"""From command-line words and YAML to a checked spec."""

import difflib
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from kinsight.errors import SpecError
from kinsight.specs.base import Spec
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
    by_name: dict[str, Setting] = {setting.name: setting for setting in reversed(known)}
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
            raise unknown_name(f"--{text}", name, list(by_name))
        setting = by_name[name]
        taken = [value] if equals else _values(setting, words[position:])
        position += 0 if equals else len(taken)
        if setting.path in found:
            raise SpecError("spec.twice", "is given twice", field=f"--{text}", remedy="keep one of them")
        found[setting.path] = _convert(setting, taken, f"--{text}")
    return found


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
        on = _BOOLEANS.get(values[0].lower()) if values and values[0] != "null" else not values
        return {} if on else None
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
        lines = [_explain(model, dict(fault)) for fault in error.errors(include_url=False)]
        raise SpecError("spec.invalid", "\n".join(dict.fromkeys(lines))) from None


def _explain(model: type[Spec], fault: dict[str, Any]) -> str:
    known = settings(model)
    names = {setting.name for setting in known} | {".".join(s.path[:n]) for s in known for n in range(1, len(s.path))}
    path = _without_arms(names, fault["loc"])
    value, kind = fault["input"], fault["type"]
    if kind == "extra_forbidden":
        elsewhere = [arm for setting in known if setting.name == path for arm in setting.arms[-1:]]
        if elsewhere:
            union, owners = ".".join(elsewhere[0][0]), " or ".join(arm for _, arm in elsewhere)
            return f"{path}: {fault['loc'][-2]} has no such setting; it belongs to {union} {owners}"
        siblings = _siblings(known, path, fault["loc"])
        return f"{path}: no such setting{_nearest(path, siblings)}"
    if kind == "missing" or (value is None and kind.endswith("_type")):
        return f"{path}: is needed{_help_of(known, path)}"
    if kind == "union_tag_invalid":
        tag = fault["ctx"]["discriminator"].strip("'")
        tags = [name.strip(" '") for name in fault["ctx"]["expected_tags"].split(",")]
        given = fault["ctx"]["tag"]
        return f"{path}.{tag}={given}: no such choice{_nearest(given, tags)}; choices: {', '.join(tags)}"
    message = (
        fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace("Input should", "must")
    )
    if kind == "value_error":
        return message
    if kind == "model_type":
        switch = any(setting.name == path and setting.switch for setting in known)
        message = "must be a mapping of settings" + (", true for their defaults, or false for none" if switch else "")
    if kind == "literal_error" and isinstance(value, str):
        choices = next((get_args(setting.type_) for setting in known if setting.name == path), ())
        message += _nearest(value, [choice for choice in choices if isinstance(choice, str)])
    return f"{path}={value!r}: {message}{_help_of(known, path)}"


def _without_arms(names: set[str], location: tuple[str | int, ...]) -> str:
    parts: list[str] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if last or ".".join([*parts, str(part)]) in names or isinstance(part, int):
            parts.append(str(part))
    return ".".join(parts)


def _siblings(known: list[Setting], path: str, location: tuple[str | int, ...]) -> list[str]:
    above = path.rpartition(".")[0]
    arm = location[-2] if len(location) > 1 else None
    same_arm = [s.name for s in known if s.name.rpartition(".")[0] == above and any(name == arm for _, name in s.arms)]
    near = same_arm or [s.name for s in known if s.name.startswith(f"{above}." if above else "")]
    tops = [s.path[0] for s in known] if not above else []
    return list(dict.fromkeys([*near, *tops]))


def unknown_name(shown: str, name: str, names: list[str]) -> SpecError:
    """The error for a flag that does not exist, with the nearest that does."""
    near = _nearest(name, names).replace("mean ", "mean --").replace("_", "-")
    return SpecError("spec.unknown-flag", f"no such flag{near}", field=shown, remedy="--help lists all")


def _nearest(name: str, names: list[str]) -> str:
    leaf = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        near = [
            full
            for full in names
            if full.rpartition(".")[2]
            in difflib.get_close_matches(leaf, [n.rpartition(".")[2] for n in names], n=1, cutoff=0.6)
        ]
    return f"; did you mean {near[0]}?" if near else ""


def _help_of(known: list[Setting], path: str) -> str:
    found = next((setting for setting in known if setting.name == path), None)
    return f" ({found.help})" if found and found.help else ""
