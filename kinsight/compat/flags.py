"""Flags of documented scripts, with the types and the rules of Python's argparse.

`--name=value`, `--name value` or, for lists, `--name value value ...`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinsight.errors import SpecError

_TRUE, _FALSE = ("y", "yes", "t", "true", "on", "1"), ("n", "no", "f", "false", "off", "0")  # distutils' strtobool


@dataclass(frozen=True)
class Flag:
    """One flag of a script: type is int, float, str or bool; default None: not set. many: a list of them."""

    name: str
    type: type
    default: Any
    help: str
    many: bool = False


@dataclass(frozen=True)
class Values:
    """What a command line says. value: of every flag, its default where it is not given. given: those that are."""

    script: str
    value: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.value[name]

    def given_of(self, *names: str) -> list[str]:
        """Those of these flags that are on the command line, as flags."""
        return [f"--{name}" for name in names if name in self.given]


def parse(script: str, flags: Sequence[Flag], words: Sequence[str]) -> Values:
    """The flags in `words`; the last of two counts. Raises SpecError for a wrong one, naming the nearest.

    Blank words are passed over: a backslash before a blank at the end of a line makes one.
    """
    known = {flag.name: flag for flag in flags}
    value = {flag.name: flag.default for flag in flags}
    given: set[str] = set()
    rest = [word for word in words if word.strip()]
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SpecError("spec.stray-word", f"{word!r} is not a flag", remedy="write flags as --name=value")
        name, equals, text = word[2:].partition("=")
        if name not in known:
            raise _unknown(script, name, list(known))
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise SpecError("spec.no-value", "needs a value", field=f"--{name}", remedy=f"write --{name}=VALUE")
            text = rest.pop(0)
        texts = [text]
        while known[name].many and rest and not rest[0].startswith("--"):
            texts.append(rest.pop(0))
        numbers = [_converted(known[name], each.strip()) for each in texts]
        value[name] = numbers if known[name].many else numbers[0]
        given.add(name)
    return Values(script, value, frozenset(given))


def help_page(script: str, title: str, flags: Sequence[Flag]) -> str:
    """What `--help` prints."""
    heads = [f"--{flag.name} {flag.type.__name__}{' ...' * flag.many}" for flag in flags]
    width = max(map(len, heads)) + 2
    rows = [f"  {head:<{width}}{flag.help} [{_shown(flag)}]" for head, flag in zip(heads, flags, strict=True)]
    return "\n".join([f"kinsight compat {script} [--flag=value ...]", "", title, "", *rows])


def _converted(flag: Flag, text: str) -> Any:
    if flag.type is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise _bad(flag, text, "True or False")
        return text.lower() in _TRUE
    if flag.type is str:
        return text
    try:
        return flag.type(text)
    except ValueError:
        raise _bad(flag, text, "a whole number" if flag.type is int else "a number") from None


def _bad(flag: Flag, text: str, expected: str) -> SpecError:
    default = "" if flag.default is None else f"; the default is {_shown(flag)}"
    remedy = f"write a list as in --{flag.name} 1 2 3" if flag.many else None
    return SpecError("spec.value", f"{text!r}: expected {expected}{default}", field=f"--{flag.name}", remedy=remedy)


def _shown(flag: Flag) -> str:
    return " ".join(map(str, flag.default)) if flag.many and flag.default is not None else str(flag.default)


def _unknown(script: str, name: str, known: list[str]) -> SpecError:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    hint = f"; did you mean --{near[0]}?" if near else ""
    return SpecError(
        "spec.unknown-flag", f"{script} has no --{name}{hint}", remedy=f"kinsight compat {script} --help lists them"
    )
