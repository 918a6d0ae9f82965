"""The bytes of many images at once from behind a network: neighbours inside one file travel in one request."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from kinsight.data.decode import BrokenImage
from kinsight.data.one_image import read_image, read_span
from kinsight.data.piece_address import split_piece
from kinsight.data.silent_servers import SilentServers

_GAP_BYTES = 256 << 10  # read along rather than asked for again: less than a round trip costs
_RUN_BYTES = 4 << 20  # more than that is asked for in several requests, which travel side by side


@dataclass
class _Run:
    """Images that lie near each other in a file, by where they stand in the list asked for."""

    file: str
    start: int
    stop: int
    places: list[tuple[int, int, int]] = field(default_factory=list)

    def takes(self, file: str, offset: int, length: int) -> bool:
        """Whether an image that begins at or behind all others belongs here."""
        end = max(self.stop, offset + length)
        return file == self.file and offset <= self.stop + _GAP_BYTES and end - self.start <= _RUN_BYTES


def fetches(uris: Sequence[str], pool: Executor, servers: SilentServers | None = None) -> list[Callable[[], bytes]]:
    """For each address a function that waits for its bytes, or raises as `read_image`; all are on their way at once.

    servers: those that have been silent for long are not asked any more.
    """
    ask = servers.ask if servers is not None else _plainly
    answers: dict[int, Callable[[], bytes]] = {}
    pieces = []
    for number, uri in enumerate(uris):
        if (piece := split_piece(uri)) is None:
            answers[number] = pool.submit(ask, read_image, uri).result
        else:
            pieces.append((*piece, number))
    for run in _runs(sorted(pieces)):
        data = pool.submit(ask, read_span, run.file, run.start, run.stop - run.start)
        for number, offset, length in run.places:
            answers[number] = _cut(data, uris[number], offset - run.start, length)
    return [answers[number] for number in range(len(uris))]


def _plainly(read: Callable[..., bytes], address: str, *further: int) -> bytes:
    return read(address, *further)


def _runs(pieces: Sequence[tuple[str, int, int, int]]) -> list[_Run]:
    """Pieces (file, offset, length, number) in order become runs."""
    runs: list[_Run] = []
    for file, offset, length, number in pieces:
        if not runs or not runs[-1].takes(file, offset, length):
            runs.append(_Run(file, offset, offset + length))
        runs[-1].stop = max(runs[-1].stop, offset + length)
        runs[-1].places.append((number, offset, length))
    return runs


def _cut(data: "Future[bytes]", uri: str, start: int, length: int) -> Callable[[], bytes]:
    def cut() -> bytes:
        part = data.result()[start : start + length]
        if len(part) < length:
            raise BrokenImage(uri, "its file ends before it does")
        return part

    return cut
