"""The index that a server searches: replaced by its next version while requests go on."""

import threading

from kinsight import progress
from kinsight.errors import KinsightError
from kinsight.indexing import Index
from kinsight.indexing.header import read_header


class CurrentIndex:
    """`index` is always a whole version; who has taken one keeps it for the rest of a request.

    Every `seconds` (0: never) the header at the index's address is looked at. A version that cannot serve, being of
    another model or metric or damaged, is named once and left alone.
    """

    def __init__(self, index: Index, seconds: float) -> None:
        self.index = index
        self._refused: str | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if seconds > 0:
            self._thread = threading.Thread(target=self._watch, args=(seconds,), name="kinsight-index", daemon=True)
            self._thread.start()

    def _watch(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            try:
                self._look()
            except KinsightError as error:
                if str(error) != self._refused:
                    self._refused = str(error)
                    progress.warn(f"a newer version of the index cannot be served, the old one goes on: {error}")

    def _look(self) -> None:
        before = self.index
        header = read_header(before.address)
        if header.generation == before.version:
            return
        found = Index.open(before.address, mapped=before.mapped)
        if (found.model_hash, found.metric, found.dim) != (before.model_hash, before.metric, before.dim):
            raise KinsightError(
                "serve.other-index",
                f"version {found.version} was made by {found.model} with metric {found.metric}",
                field=str(found.address),
                remedy="start the server anew with the bundle that made it",
            )
        self.index, self._refused = found, None
        progress.say(f"index       version {found.version}, {len(found):,} items")

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
