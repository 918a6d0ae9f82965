"""What is wrong with a spec, in words: where, which value, what was expected, and the nearest name."""

import difflib
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kinsight.errors import SpecError
from kinsight.specs.fields import Setting, type_name, union_arms


def explain(known: list[Setting], fault: dict[str, Any]) -> str:
    """One line for one of pydantic's faults: setting, value, expectation, nearest name."""
    names = {setting.name for setting in known} | {".".join(s.path[:n]) for s in known for n in range(1, len(s.path))}
    path = _without_arms(names, fault["loc"])
    value, kind = fault["input"], fault["type"]
    if kind == "value_error":
        return _from_the_top(names, fault)
    if choice := _choice_of(known, names, fault["loc"]):
        return f"{choice.name}={value!r}: must be {_wanted(choice.type_)}{_help_of(known, choice.name)}"
    if kind == "extra_forbidden":
        elsewhere = [arm for setting in known if setting.name == path for arm in setting.arms[-1:]]
        if elsewhere:
            union, owners = ".".join(elsewhere[0][0]), " or ".join(arm for _, arm in elsewhere)
            return f"{path}: {fault['loc'][-2]} has no such setting; it belongs to {union} {owners}"
        siblings = _siblings(known, path, fault["loc"])
        return f"{path}: no such setting{_nearest(path, siblings)}"
    if kind == "model_attributes_type" and (union := _union_at(known, path, value)):
        return union
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
    if kind == "model_type":
        switch = any(setting.name == path and setting.switch for setting in known)
        message = "must be a mapping of settings" + (", true for their defaults, or false for none" if switch else "")
    path, item = _of_list(names, path)
    if kind == "literal_error" and isinstance(value, str):
        choices = next((_choices(setting.type_) for setting in known if setting.name == path), ())
        message += _nearest(value, [choice for choice in choices if isinstance(choice, str)])
    return f"{path}={value!r}{item}: {message}{_help_of(known, path)}"


def _of_list(names: set[str], path: str) -> tuple[str, str]:
    """A setting's name instead of that of its item, and which item that is, counted from 1."""
    above, _, last = path.rpartition(".")
    if path in names or above not in names or not last.isdigit():
        return path, ""
    return above, f" (item {int(last) + 1} of --{above.replace('_', '-')})"


def _choices(type_: Any) -> tuple[Any, ...]:
    item = get_args(type_)[0] if get_origin(type_) is list else type_
    return get_args(item)


def _from_the_top(names: set[str], fault: dict[str, Any]) -> str:
    """What a group of settings says of itself, its own settings under their full names."""
    message = fault["msg"].removeprefix("Value error, ")
    parts = [str(part) for part in fault["loc"]]
    while parts and not (".".join(parts) in names or parts[-1].isdigit()):
        parts.pop()  # the arm, which is no part of a name
    above = f"{'.'.join(parts)}."
    if not parts or message.startswith(above[:-1]):
        return message
    if any(part.isdigit() for part in parts):  # an entry of a list, whose settings have no names of their own
        return f"{above[:-1]}: {message}"

    def full(match: re.Match[str]) -> str:
        return above + match[0] if above + match[0] in names else match[0]

    return re.sub(r"(?<![\w.])[a-z_]\w*(?==)|^[a-z_]\w*", full, message)


def _choice_of(known: list[Setting], names: set[str], location: tuple[str | int, ...]) -> Setting | None:
    """The setting that takes one of several types, if a fault lies in one of these."""
    above = {_without_arms(names, location[:end]) for end in range(1, len(location))}
    return next((one for one in known if one.name in above and _is_choice(one.type_)), None)


def _is_choice(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType) and not union_arms(type_)


def _wanted(type_: Any) -> str:
    """A type in words, its bounds too: `a number above 0`."""
    if get_origin(type_) is Annotated:
        base, *layers = get_args(type_)
        limits = [limit for layer in layers for limit in getattr(layer, "metadata", [layer])]
        told = [
            f"{words} {getattr(limit, sign):g}" for limit in limits for sign, words in _SIGNS if hasattr(limit, sign)
        ]
        return " ".join([_wanted(base), " and ".join(told)]).strip()
    if _is_choice(type_):
        *first, last = [_wanted(part) for part in get_args(type_)]
        return f"{', '.join(first)}, or {last}"
    if get_origin(type_) is Literal:
        return " or ".join(repr(value) for value in get_args(type_))
    if get_origin(type_) is list:
        return f"a list, each {_wanted(get_args(type_)[0])}"
    if get_origin(type_) is dict:
        return "a mapping"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(type_, type_name(type_))


_SIGNS = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "at most"))


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


def no_value(shown: str, group: str, known: list[Setting]) -> SpecError | None:
    """The error for a flag that names a whole group of settings; None where there is no such group."""
    inner = [setting for setting in known if setting.name.startswith(f"{group}.")]
    if not inner:
        return None
    tag = _tag_of(known, group)
    first = next((setting for setting in inner if setting.required), tag or inner[0])
    flag = f"--{first.name.replace('_', '-')}"
    remedy = f"choose {flag}: {', '.join(first.tag_of)}" if first.tag_of else f"give its settings each, as {flag}"
    return SpecError("spec.group", "is a group of settings, without a value of its own", field=shown, remedy=remedy)


def _union_at(known: list[Setting], path: str, value: Any) -> str | None:
    """What a group of several kinds may be, where `value` was given instead; None for another setting, or a lack."""
    tag = _tag_of(known, path)
    needed = any(setting.required for setting in known if setting.name.startswith(f"{path}."))
    if tag is None or tag.tag_of is None or (value is None and needed):
        return None
    shown = "null" if value is None else repr(value)
    or_null = ", or null" if tag.optional else ""
    return f"{path}={shown}: must be a mapping of settings{or_null}; {tag.path[-1]} chooses: {', '.join(tag.tag_of)}"


def _tag_of(known: list[Setting], group: str) -> Setting | None:
    return next((setting for setting in known if setting.tag_of and ".".join(setting.path[:-1]) == group), None)


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
