"""Progress of long work: a bar for people, JSON lines for programs.

On a terminal a rich bar shows rate and time left; elsewhere a plain line appears now and then. Bars go to standard
error, so that standard output stays the command's result. Events are appended to a file, one JSON object a line:
`{"time": ..., "event": "progress", "task": "train", "done": 640, "total": 19280, "rate": 812.5, ...}`.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_LINE_EVERY_S = 10.0
_EVENT_EVERY_S = 1.0
_ROOMY = 100  # columns of a terminal that also has room for the time elapsed
_bars: list[Any] = []  # the bar on the terminal, if there is one
_hosts: "list[_Host]" = []  # work whose parts show nothing of their own


def console() -> Any:
    """The rich console for messages to people: standard error; the bar's own while there is one, to write above it."""
    from rich.console import Console

    if _bars:
        return _bars[-1].console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, urgent: bool = False) -> None:
    """One line for people, on standard error; within `hosted` only if urgent."""
    if _hosts and not urgent:
        return
    console().print(text, markup=False)


def warn(text: str) -> None:
    """A warning for people, on standard error; within `hosted` the same one is shown once."""
    if _hosts and _hosts[-1].is_known(text):
        return
    console().print(f"warning: {text}", style="yellow", markup=False)


class Events:
    """Appends events to a JSON-lines file; with no path, does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; numbers that are not finite become null."""
        if self._file is not None:
            self._file.write(json.dumps({"time": round(time.time(), 3), "event": event, **clean(fields)}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def clean(value: Any) -> Any:
    """Data that JSON can hold: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Task:
    """One piece of work being counted; made by `task`."""

    def __init__(self, name: str, total: float | None, unit: str, events: Events | None) -> None:
        self.name, self.total, self.unit = name, total, unit
        self._events = events
        self.done = 0.0
        self._base = 0.0
        self._fields: dict[str, Any] = {}
        self.hosted = False
        self._started = self._last_line = self._last_event = time.monotonic()
        self._bar: Any = None
        self._bar_id: Any = None

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Count `amount` more; `fields` (loss, recall@1, ...) are shown beside the bar."""
        self.done += amount
        self._fields.update(fields)
        self._show()

    def skip_to(self, done: float) -> None:
        """Begin at `done`, as after a resume; the rate counts from here."""
        self.done = self._base = done
        self._started = time.monotonic()
        self._show(force=True)

    def at(self, stage: str) -> None:
        """Show what is being done now in the place of the name."""
        if self._bar is not None:
            self._bar.update(self._bar_id, description=stage)

    def note(self, **fields: Any) -> None:
        """Change what is shown beside the bar."""
        self._fields.update(fields)
        self._show()

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._base) / max(time.monotonic() - self._started, 1e-9)

    def _detail(self) -> str:
        return "  ".join(f"{key} {_short(value)}" for key, value in self._fields.items())

    def _show(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.hosted and _hosts:
            _hosts[-1].show(self)
        if self._bar is not None:
            rate = f"{self.rate:,.0f} {self.unit}/s" if self.rate >= 10 else f"{self.rate:.2g} {self.unit}/s"
            self._bar.update(self._bar_id, total=self.total, completed=self.done, rate=rate, detail=self._detail())
        elif not force and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            self._print_line()
        if self._events is not None and now - self._last_event >= _EVENT_EVERY_S:
            self._last_event = now
            self._events.write("progress", **self._event_fields())

    def _event_fields(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": round(self.rate, 3),
            **self._fields,
        }

    def _print_line(self) -> None:
        share = f"{100 * self.done / self.total:3.0f} %  " if self.total else ""
        left = f"  {_clock((self.total - self.done) / self.rate)} left" if self.total and self.rate > 0 else ""
        counts = f"{self.done:,.0f}/{self.total:,.0f}" if self.total else f"{self.done:,.0f}"
        line = f"{self.name}  {share}{counts} {self.unit}  {self.rate:,.1f} {self.unit}/s{left}  {self._detail()}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class _Host:
    def __init__(self, show: Callable[[Task], None], hide: Sequence[str]) -> None:
        self.show, self._hide = show, hide
        self._known: set[str] = set()

    def is_known(self, text: str) -> bool:
        known = text in self._known or any(part in text for part in self._hide)
        self._known.add(text)
        return known


@contextmanager
def hosted(show: Callable[[Task], None], *, hide: Sequence[str] = ()) -> Iterator[None]:
    """Within the block work shows nothing of its own: `show` gets its tasks as they go on; events are still written.

    hide: warnings that hold one of these texts are not shown either.
    """
    host = _Host(show, hide)
    _hosts.append(host)
    try:
        yield
    finally:
        _hosts.remove(host)


@contextmanager
def task(
    name: str, total: float | None, unit: str, *, events: Events | None = None, quiet: bool = False
) -> Iterator[Task]:
    """Count a piece of work.

    total: units expected, None when unknown. unit: "images", "steps", "MB". quiet: no bar and no lines, events only.
    """
    work = Task(name, total, unit, events)
    work.hosted = bool(_hosts)
    if quiet or work.hosted:
        work._last_line = math.inf
        yield work
    elif sys.stderr.isatty():
        with _rich_bar() as bar:
            work._bar = bar
            work._bar_id = bar.add_task(name, total=total, rate="", detail="")
            _bars.append(bar)
            try:
                yield work
            finally:
                _bars.remove(bar)
    else:
        yield work
    if events is not None:
        events.write("done", **work._event_fields())


def _rich_bar() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    # Where the terminal is narrow, the bar gives way and the numbers stay whole.
    here = console()
    elapsed = (TimeElapsedColumn(Column(no_wrap=True)), TextColumn("/")) if here.width >= _ROOMY else ()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[rate]}"),
        *elapsed,
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[detail]}"),
        console=here,
        transient=False,
        refresh_per_second=4,
    )
