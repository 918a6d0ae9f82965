"""The one exception type that carries a message for the person who can act on it.

`cli.py` turns it into an exit code, a server into an HTTP status; nobody else formats or translates it.
Families: `SpecError` (what was asked for is wrong), `DataError` (the data is), `StorageError` (an address did not
answer as it should), `RunError` (the work itself failed).
"""


class KinsightError(ValueError):
    """Something a user can mend.

    code: stable dotted name for machines, e.g. "spec.unknown-field".
    message: where, which value, what was expected.
    field: the setting or file (with line) concerned, e.g. "loss.margin_rad" or "train.txt:17".
    remedy: what to do about it, in the imperative.
    """

    def __init__(self, code: str, message: str, *, field: str | None = None, remedy: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        remedy = f"\n  → {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class SpecError(KinsightError):
    """A setting is unknown, out of range, contradictory or without effect. Exit code 2."""


class DataError(KinsightError):
    """A list, an image, a label or an artefact's content is not what it must be. Exit code 3."""


class StorageError(KinsightError):
    """An address cannot be read or written: absent, refused, out of reach, full. Exit code 1."""


class RunError(KinsightError):
    """The work failed: non-finite loss, a lost process, no such device. Exit code 1."""


class InterruptedRun(KinsightError):
    """Stopped on request with the state saved. Exit code 130."""
