"""Help pages and the reference page, written from the specs."""

import re
import shutil
import textwrap
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from kinsight.specs.base import Spec
from kinsight.specs.fields import Setting, settings, type_name

_FAST = "\N{NO-BREAK SPACE}"
COMMON = """\
  --spec FILE        settings from a YAML file; flags win over it
  --dry-run          print the resolved settings and stop
  --help [SECTION]   this page, or every setting of one section"""


def job_help(name: str, summary: str, model: type[Spec], section: str | None, extra: str = "") -> str:
    """The help page of a job, or of one of its sections with more words."""
    groups = _groups(settings(model))
    bare = "".join(f" {setting.path[-1].upper()}" for setting in settings(model) if setting.positional)
    lines = [f"kinsight {name}{bare} [--spec FILE] [--setting VALUE ...]", "", (model.__doc__ or summary).strip(), ""]
    if section is not None:
        return "\n".join([*lines, f"{section}: {_section_help(model, section)}", *_rows(groups[section], words=True)])
    single = [rows[0] for rows in groups.values() if len(rows) == 1 and not rows[0].tag_of]
    lines += [*_rows(single), ""]
    for key, rows in groups.items():
        if len(rows) > 1 or rows[0].tag_of:
            lines += [f"{key}: {_section_help(model, key)}", *_rows(rows), ""]
    return "\n".join([*lines, "also:", COMMON, *([extra] if extra else [])])


def sections(model: type[Spec]) -> list[str]:
    """Names `--help SECTION` takes."""
    return list(_groups(settings(model)))


def _section_help(model: type[Spec], key: str) -> str:
    field = next((f for n, f in model.model_fields.items() if (f.alias or n) == key), None)
    return field.description or "" if field else ""


def _groups(known: list[Setting]) -> dict[str, list[Setting]]:
    groups: dict[str, list[Setting]] = {}
    for setting in known:
        groups.setdefault(setting.path[0], []).append(setting)
    return groups


def _rows(rows: list[Setting], *, words: bool = False) -> list[str]:
    lines: list[str] = []
    shown: list[Any] = []
    for setting in rows:
        if setting.arms:
            continue
        if setting.tag_of is None:
            lines += _row(f"--{_flag(setting)} {_value(setting)}", setting.help + _choices(setting) + _limits(setting))
        elif setting.tag_of in shown:
            lines += _row(f"--{_flag(setting)} {_value(setting)}", f"{setting.help}; choices as above")
        else:
            lines += _union_rows(setting, rows, words=words)
            shown.append(setting.tag_of)
    return lines


def _union_rows(tag: Setting, rows: list[Setting], *, words: bool) -> list[str]:
    path = tag.path[:-1]
    arms = tag.tag_of or {}
    own = {name: [row for row in rows if row.arms and row.arms[-1] == (path, name)] for name in arms}
    common = [row for row in own[next(iter(arms))] if all(_find(row, other) for other in own.values())]
    groups = _shared_groups(path, arms, rows)
    lines = _row(f"--{_flag(tag)} {_value(tag)}", tag.help)
    for row in common:
        lines += _row(f"--{_flag(row)} {_value(row)}", row.help + _limits(row))
    bare = [name for name in arms if all(_find(row, common) for row in own[name])]
    if bare and not words:
        lines += [f"    {', '.join(bare)}"]
    for name, arm in arms.items():
        if name in bare and not words:
            continue
        special = [row for row in own[name] if not _find(row, common) and row.path[len(path)] not in groups]
        parts = [f"{'.'.join(row.path[len(path) :])}{_default(row)}{_limits(row)}" for row in special]
        parts += [group for group in groups if any(row.path[len(path)] == group for row in own[name])]
        text = f"{_first_sentence(arm)} {'; '.join(parts)}".strip() if words else "; ".join(parts)
        lines += _wrap(f"    {name}", text, 26)
    for group, inside in groups.items():
        lines += [f"  where it says {group}:", *_rows(inside, words=words)]
    return lines


def _shared_groups(path: tuple[str, ...], arms: dict[str, type[Spec]], rows: list[Setting]) -> dict[str, list[Setting]]:
    """Groups of settings that several arms have alike, such as a miner, as if they stood outside of the arms."""
    found: dict[str, list[Setting]] = {}
    depth = len(path)
    for name in arms:
        inside: dict[str, list[Setting]] = {}
        for row in rows:
            if row.arms and row.arms[0] == (path, name) and len(row.path) > depth:
                inside.setdefault(row.path[depth], []).append(replace(row, arms=row.arms[1:]))
        for group, settings_ in inside.items():
            if len(settings_) > 1:
                found.setdefault(group, settings_)
    holders = {
        group: [n for n in arms if any(row.arms[:1] == ((path, n),) and row.path[depth] == group for row in rows)]
        for group in found
    }
    # what every arm has is listed before the arms, what a single one has, beside it
    return {group: inside for group, inside in found.items() if 1 < len(holders[group]) < len(arms)}


def _find(row: Setting, others: list[Setting]) -> bool:
    return any((row.path, row.default, row.bounds) == (other.path, other.default, other.bounds) for other in others)


def _first_sentence(arm: type[Spec]) -> str:
    text = re.sub(r"\s+", " ", (arm.__doc__ or "").strip())
    return re.split(r"(?<=\.) ", text)[0]


def _flag(setting: Setting) -> str:
    return setting.name.replace("_", "-")


def _value(setting: Setting) -> str:
    if setting.tag_of:
        return str(setting.default) if setting.default is not None else "KIND"
    if setting.switch:
        return "off" if setting.default is None else "on"
    return "(needed)" if setting.required else show(setting.default)


def show(value: Any) -> str:
    """A default as YAML would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return str(value)


def _default(setting: Setting) -> str:
    return " (needed)" if setting.required else f"={show(setting.default)}"


def _choices(setting: Setting) -> str:
    """The words that a setting takes, unless its help has them all."""
    words = [str(word) for word in get_args(setting.type_)] if get_origin(setting.type_) is Literal else []
    told = set(re.findall(r"[\w@.-]+", setting.help))
    return "" if len(words) < 2 or told.issuperset(words) else f" ({' | '.join(words)})"


def _limits(setting: Setting) -> str:
    """Bounds that `_wrap` does not take apart."""
    return f" ({setting.bounds.replace(' ', _FAST).replace(f',{_FAST}', ', ')})" if setting.bounds else ""


def _row(left: str, right: str) -> list[str]:
    return _wrap(f"  {left}", right, 40)


def _wrap(left: str, right: str, column: int) -> list[str]:
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120)) - column
    wrapped = textwrap.wrap(right, width, break_long_words=False) or [""]
    first = [f"{left:<{column}}{wrapped[0]}"] if len(left) < column else [left, " " * column + wrapped[0]]
    return [line.rstrip().replace(_FAST, " ") for line in [*first, *(" " * column + line for line in wrapped[1:])]]


def reference(title: str, model: type[Spec]) -> str:
    """The reference of a job as Markdown: one table a section, arms of unions as tables of their own."""
    known = settings(model)
    lines = [f"## `kinsight {title}`", "", re.sub(r"\s+", " ", (model.__doc__ or "").strip()), ""]
    lines += _table([setting for setting in known if not setting.arms])
    for union in [setting for setting in known if setting.tag_of]:
        for name, arm in (union.tag_of or {}).items():
            own = [s for s in known if s.arms and s.arms[-1] == (union.path[:-1], name)]
            note = re.sub(r"\s+", " ", (arm.__doc__ or "").strip())
            lines += [f"**`{union.name}: {name}`** — {note}", "", *(_table(own) if own else [])]
    return "\n".join(lines)


def _table(rows: list[Setting]) -> list[str]:
    body = [
        f"| `{row.name}` | {_markdown_type(row)} | {'needed' if row.required else f'`{show(row.default)}`'} "
        f"| {row.bounds} | {row.help} |"
        for row in rows
    ]
    return ["| setting | type | default | bounds | meaning |", "|---|---|---|---|---|", *body, ""]


def _markdown_type(row: Setting) -> str:
    text = " | ".join(row.tag_of) if row.tag_of else type_name(row.type_)
    return (f"{text} or null" if row.optional else text).replace(" | ", " \\| ")
