"""Servers that do not answer, so that not every address there has to be waited for."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from kinsight.data.decode import BrokenImage
from kinsight.errors import StorageError

Answer = TypeVar("Answer")

_UNREACHABLE = "storage.unreachable"
GIVEN_UP = 16  # addresses of a server, one after the other, that have not been answered


class SilentServers:
    """What one process has learnt of servers; its threads share it."""

    def __init__(self) -> None:
        self._silent: Counter[str] = Counter()
        self._lock = threading.Lock()

    def ask(self, read: Callable[..., Answer], address: str, *further: int) -> Answer:
        """`read(address, *further)`. A server that was silent too often is not asked any more: StorageError."""
        server = server_of(address)
        if self._silent[server] >= GIVEN_UP:
            raise StorageError(
                "storage.silent", f"{server} is not asked any more: {GIVEN_UP} addresses there were not answered"
            )
        try:
            answer = read(address, *further)
        except BrokenImage:  # an answer, too
            self._note(server, answered=True)
            raise
        except StorageError as error:  # a refusal is an answer, and does not keep anybody waiting
            self._note(server, answered=error.code != _UNREACHABLE)
            raise
        self._note(server, answered=True)
        return answer

    def _note(self, server: str, *, answered: bool) -> None:
        with self._lock:
            self._silent[server] = 0 if answered else self._silent[server] + 1


def server_of(address: str) -> str:
    """`https://host`, `s3://bucket`; of local paths nothing."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme.lower()}{mark}{rest.partition('/')[0].partition('?')[0].lower()}" if mark else ""
