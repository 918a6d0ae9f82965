"""The small pictures of a page: read in threads, remembered, and given up on where nothing answers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from kinsight.data import BrokenImage
from kinsight.data.thumbnails import thumbnail
from kinsight.errors import KinsightError

_THREADS = 8
_AHEAD = 256  # pictures on their way at once
_TRIES = 24  # unreadable ones, without any readable, after which no more are asked for


class Images:
    """Thumbnails by address. `absent` says why there are none, once that is known."""

    def __init__(self) -> None:
        self.absent = ""
        self._failed = 0
        self._found = False
        self._reason = "there are none"
        self._kept: dict[tuple[str, int], np.ndarray | None] = {}

    def probe(self, uris: Sequence[str]) -> None:
        """Find out by some addresses whether any picture can be had."""
        for uri in uris:
            if self._one(uri, 32) is not None:
                return
        self.absent = self.absent or f"the images behind these vectors cannot be read: {self._reason}"

    def get(self, uri: str, side: int) -> np.ndarray | None:
        """The picture at `uri`, uint8 HxW or HxWx3, at most `side` pixels; None where it cannot be had."""
        if (uri, side) not in self._kept:
            self._kept[uri, side] = next(self.many([uri], side))
        return self._kept[uri, side]

    def many(self, uris: Sequence[str], side: int) -> Iterator[np.ndarray | None]:
        """The pictures of many addresses, in their order, not remembered."""
        if len(uris) == 1 or self.absent:
            yield from (self._one(uri, side) for uri in uris)
            return
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="kinsight-thumbnail") as pool:
            for start in range(0, len(uris), _AHEAD):
                yield from pool.map(partial(self._one, side=side), uris[start : start + _AHEAD])

    def _one(self, uri: str, side: int) -> np.ndarray | None:
        if self.absent:
            return None
        try:
            if not uri:
                raise BrokenImage(uri, "the embeddings name no image")
            image = thumbnail(uri, side)
        except BrokenImage as error:
            self._failed, self._reason = self._failed + 1, error.reason
            if not self._found and self._failed >= _TRIES:
                self.absent = f"the images behind these vectors cannot be read: {error.reason}"
            return None
        except KinsightError as error:  # the storage does not answer: it would not for the others
            self.absent = f"the images cannot be read: {error.message}"
            return None
        self._found = True
        return image
