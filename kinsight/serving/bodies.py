"""Bodies of requests, read no further than they may be, and only so many bytes of them at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from kinsight.serving.embedder import Overloaded
from kinsight.serving.engine import TooLarge

_DRAINED_BYTES = 256 * 2**20
_HELD_BYTES = 512 * 2**20


class Bodies:
    """limit: bytes of one body. All calls come from the server's one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, whose memory counts as held within the block. Raises TooLarge, Overloaded.

        A larger one is read to its end and thrown away, as far as that is bearable: a client that is still sending
        would otherwise see a broken connection instead of the reason.
        """
        parts: list[bytes] = []
        size = held = 0
        try:
            declared = request.headers.get("content-length", "")
            hopeless = declared.isdigit() and int(declared) > self._limit + _DRAINED_BYTES
            if not hopeless:
                async for part in request.stream():
                    size += len(part)
                    if size <= self._limit:
                        held += len(part)
                        self._held += len(part)
                        parts.append(part)
                        self._refuse_overload(parts)
                    elif size > self._limit + _DRAINED_BYTES:
                        break
            if hopeless or size > self._limit:
                raise TooLarge(
                    "serve.too-large",
                    f"the body is larger than {self._limit / 1e6:g} MB",
                    remedy="send a smaller image, or start the server with a larger max_upload_mb",
                )
            data = b"".join(parts)
            parts.clear()
            yield data
        finally:
            self._held -= held

    def _refuse_overload(self, parts: list[bytes]) -> None:
        if self._held > _HELD_BYTES:
            parts.clear()
            raise Overloaded("serve.overloaded", "too many images are being sent", remedy="try again in a second")
