"""`kinsight compat`: find the script, read its flags, run what it stands for."""

import difflib
from importlib import import_module
from pathlib import PurePath
from typing import Any

from kinsight.compat.flags import help_page, parse
from kinsight.compat.table import SCRIPTS
from kinsight.errors import SpecError

_HELP = ("-h", "--help", "help")


def run(words: list[str]) -> int:
    """Run `SCRIPT --flag=value ...`, or `python SCRIPT ...` as the documentation prints it. Raises KinsightError."""
    words = [word for word in words if word.strip()]
    if words and PurePath(words[0]).name in ("python", "python2", "python3"):
        words = words[1:]
    if not words or words[0] in _HELP:
        print(overview())
        return 0
    name, rest = _script(words[0]), words[1:]
    script = SCRIPTS[name]
    if script.help_text:
        if any(word in _HELP[:2] for word in rest):
            print(_imported(script.help_text)())
        else:
            _imported(script.run)(rest)
        return 0
    flags = _imported(script.flags)
    if any(word in _HELP[:2] for word in rest):
        print(help_page(name, f"{script.system}: {script.summary}", flags))
        return 0
    values = parse(name, flags, rest)  # a wrong flag is said at once, before anything heavy is loaded
    _imported(script.run)(values)
    return 0


def overview() -> str:
    """The page `kinsight compat` prints."""
    width = max(map(len, SCRIPTS)) + 2
    lines = ["kinsight compat SCRIPT [--flag=value ...]", "", "Runs documented command lines of other systems."]
    for system in dict.fromkeys(script.system for script in SCRIPTS.values()):
        rows = [f"  {name:<{width}}{script.summary}" for name, script in SCRIPTS.items() if script.system == system]
        lines += ["", f"{system}:", *rows]
    return "\n".join([*lines, "", "kinsight compat SCRIPT --help lists a script's flags and their defaults."])


def _script(word: str) -> str:
    name = PurePath(word).name
    name = name if name in SCRIPTS else f"{name}.py"
    if name not in SCRIPTS:
        near = difflib.get_close_matches(name, SCRIPTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SpecError("spec.script", f"no script {word!r}{hint}", remedy=f"scripts: {', '.join(SCRIPTS)}")
    return name


def _imported(text: str) -> Any:
    module, _, name = text.partition(":")
    return getattr(import_module(module), name)
