"""What a `pai` command line says: `-name NAME` and `-Dx v`, `-Dx=v`, `-Dx = v`, from a shell's words or from text.

pai -name easy_vision_ext -Dcmd train -Dparam_config '--model_type Classification ...'

In text, as on a page or in a script, lines need no backslash at their end, and a semicolon ends a command.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinsight.errors import SpecError

_OPTION = re.compile(r"-(?:D[A-Za-z_]*(?:=.*)?|name(?:=.*)?|project(?:=.*)?)", re.DOTALL)
_LISTS = ("param_config", "convert_param_config")
"""Parameters whose value is a command line of its own: without quotes its words follow one by one."""
_PLACEHOLDER = re.compile(r"\{[A-Za-z_]+\}")


@dataclass(frozen=True)
class PaiCommand:
    """name: of the component. value: of every -D parameter that is given and not empty, by its name without -D."""

    name: str
    value: Mapping[str, str]

    def get(self, parameter: str) -> str | None:
        return self.value.get(parameter)


def commands_in(text: str) -> list[PaiCommand]:
    """The commands of a script. Raises SpecError."""
    lexer = shlex.shlex(text.replace("\\\r\n", " ").replace("\\\n", " "), posix=True, punctuation_chars=";")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise SpecError(
            "pai.quotes",
            f"{str(error).lower()}: a quote that was opened is not closed",
            remedy="write the values of -Dparam_config and -Dcluster between two single quotes",
        ) from None
    found: list[list[str]] = [[]]
    for token in tokens:
        if set(token) == {";"}:
            found.append([])
        elif token.lower() == "pai" and found[-1]:  # the page separates its commands by lines alone
            found.append([token])
        else:
            found[-1].append(token)
    return [command(words) for words in found if words]


def command(words: Sequence[str]) -> PaiCommand:
    """The command that a shell's words make, with or without `pai` before them. Raises SpecError."""
    rest = [word for word in words if word.strip()]
    if rest and rest[0].lower() == "pai":
        rest = rest[1:]
    given: dict[str, str] = {}
    while rest:
        word = rest.pop(0)
        if not _OPTION.fullmatch(word):
            raise SpecError(
                "spec.stray-word",
                f"{word!r} belongs to no parameter",
                remedy="write -name NAME and -Dparameter=value; a value with blanks goes between quotes",
            )
        if word == "-D" and rest:  # written apart: -D cmd=train
            word += rest.pop(0)
        name, equals, text = word[1:].partition("=")
        value = _value(name, text if equals else None, rest)
        if name in given and given[name] != value:
            raise SpecError("pai.twice", "is given twice, with two values", field=f"-{name}")
        given[name] = value
    parameters = {key[1:]: value.strip() for key, value in given.items() if key.startswith("D")}
    return PaiCommand(given.get("name", ""), {key: value for key, value in parameters.items() if value})


def _value(name: str, text: str | None, rest: list[str]) -> str:
    """The value of a parameter, taken from `rest` where it does not stand behind the equals sign."""
    if text is None and rest and rest[0].startswith("="):  # -Dx = v and -Dx ='v'
        text = rest.pop(0)[1:]
    if not text and rest and not _OPTION.fullmatch(rest[0]):
        text = rest.pop(0)
    if text is None:
        raise SpecError("spec.no-value", "needs a value", field=f"-{name}", remedy=f"write -{name}=VALUE")
    while name.removeprefix("D") in _LISTS and rest and not _OPTION.fullmatch(rest[0]):
        text += f" {shlex.quote(rest.pop(0))}"
    return text


def is_placeholder(text: str) -> bool:
    """Whether a value is left as a page prints it: `{oss_host}`."""
    return _PLACEHOLDER.search(text) is not None
