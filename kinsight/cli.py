"""The command line: find the job, read its settings, run it, turn errors into exit codes.

Exit codes: 0 done, 1 failed, 2 bad usage or spec, 3 bad data, 130 interrupted with the state saved.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from kinsight.errors import DataError, InterruptedRun, KinsightError, SpecError
from kinsight.specs.table import COMMANDS, JOBS

_RESUMABLE = (
    "train",
    "evaluate",
    "compare",
    "demo",
    "embed",
    "convert",
    "predict",
    "partition",
    "partition evaluate",
    "index build",
    "index merge",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(words)
    except KinsightError as error:
        return _report(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _report(error: KinsightError) -> int:
    if os.environ.get("KINSIGHT_TRACEBACK"):
        raise error
    label = "interrupted" if isinstance(error, InterruptedRun) else "error"
    print(f"{label}: {error}", file=sys.stderr)
    match error:
        case SpecError():
            return 2
        case DataError():
            return 3
        case InterruptedRun():
            return 130
        case _:
            return 1


def run(words: list[str]) -> int:
    """Run a command line; raises KinsightError."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        from kinsight import __version__

        print(f"kinsight {__version__}")
        return 0
    if words[0] in COMMANDS:
        module, _, function = COMMANDS[words[0]].run.partition(":")
        return getattr(import_module(module), function)(words[1:])
    name, rest = _job(words)
    options = _options(rest)
    job = JOBS[name]
    from kinsight.specs.load import as_yaml, by_import

    model = by_import(job.spec)
    if options.help:
        from kinsight.specs.help import job_help, sections

        if options.section is not None and options.section not in sections(model):
            raise SpecError(
                "spec.section", f"no section {options.section!r}", remedy=f"sections: {', '.join(sections(model))}"
            )
        extra = "  --overwrite        replace a finished output, or one of other settings" if name in _RESUMABLE else ""
        print(job_help(name, job.summary, model, options.section, extra))
        return 0
    spec = _resolve(model, options)
    if options.dry_run:
        print(as_yaml(spec), end="")
        return 0
    if name in _RESUMABLE:
        by_import(job.run)(spec, overwrite=options.overwrite)
    elif options.overwrite:
        raise SpecError("spec.overwrite", f"--overwrite has no effect on {name}")
    else:
        by_import(job.run)(spec)
    return 0


def overview() -> str:
    """The page `kinsight --help` prints."""
    width = max(len(name) for name in JOBS) + 2
    rows = [f"  {name:<{width}}{job.summary}" for name, job in [*JOBS.items(), *COMMANDS.items()]]
    return "\n".join(
        [
            "kinsight JOB [--spec FILE] [--setting VALUE ...]",
            "",
            "Train image-embedding models, measure how well they retrieve, use them.",
            "",
            *rows,
            "",
            "kinsight JOB --help lists a job's settings; kinsight JOB --dry-run prints them resolved.",
        ]
    )


def _job(words: list[str]) -> tuple[str, list[str]]:
    two = " ".join(words[:2])
    if two in JOBS:
        return two, words[2:]
    if words[0] in JOBS:
        return words[0], words[1:]
    group = [name for name in JOBS if name.startswith(f"{words[0]} ")]
    if group:
        raise SpecError("spec.job", f"{words[0]} needs one of: {', '.join(name.split()[1] for name in group)}")
    known = [*JOBS, *COMMANDS]
    near = difflib.get_close_matches(two, known, n=1) or difflib.get_close_matches(words[0], known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SpecError("spec.job", f"no job {words[0]!r}{hint}", remedy=f"jobs: {', '.join(known)}")


@dataclass
class _Options:
    """What the command line itself understands; the rest are settings."""

    flags: list[str] = field(default_factory=list)
    spec_file: str | None = None
    section: str | None = None
    help: bool = False
    dry_run: bool = False
    overwrite: bool = False


def _options(words: list[str]) -> _Options:
    options = _Options()
    rest = iter(range(len(words)))
    for index in rest:
        word, _, value = words[index].partition("=")
        following = words[index + 1] if index + 1 < len(words) else None
        match word.replace("_", "-"):
            case "--help" | "-h":
                options.help = True
                if following is not None and not following.startswith("-"):
                    options.section = following
                    next(rest)
            case "--spec":
                if not value and following is None:
                    raise SpecError("spec.no-value", "needs a file", field="--spec")
                options.spec_file = value or following
                if not value:
                    next(rest)
            case "--dry-run" if not value:
                options.dry_run = True
            case "--overwrite" if not value:
                options.overwrite = True
            case _:
                options.flags.append(words[index])
    return options


def _resolve(model: Any, options: _Options) -> Any:
    from kinsight.specs.flags import load_yaml, resolve

    base: dict[str, Any] = {}
    if options.spec_file is not None:
        from kinsight import storage

        base = load_yaml(storage.read_text(options.spec_file), options.spec_file)
    return resolve(model, options.flags, base)
