"""Large downloads that go on where they were broken off, in this process or a later one.

What has arrived lies in `<target>.part`, and beside it `<target>.part.json` says of which file in which version. Only
a server that keeps the version and answers ranges lets a part be continued; else it begins anew.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from kinsight.errors import StorageError
from kinsight.storage import local, web
from kinsight.storage.address import Address
from kinsight.storage.dispatch import AddressLike, existing
from kinsight.storage.local import Stat
from kinsight.storage.remote import run, web_session
from kinsight.storage.retry import Transient, persist
from kinsight.storage.sources import Progress
from kinsight.storage.transfer import download_file

_CHUNK = 2**18


def download_resumable(address: AddressLike, target: Path, progress: Progress | None = None) -> None:
    """Copies a file to `target`, which appears whole. progress: called with bytes, those of an earlier run too.

    Interrupted, it keeps what has arrived. Raises StorageError; may be repeated.
    """
    address = Address.parse(address)
    if address.scheme not in ("http", "https"):
        download_file(address, target, progress)  # local files and object stores are quick to ask again
        return
    found = existing(address)
    part, note = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    local.make_directory(target.parent)
    origin = {"address": str(address), "size": found.size, "version": found.version}
    if _noted(note) != origin or not found.version:
        with local.local_errors(part):
            part.unlink(missing_ok=True)
        local.write_atomically(note, json.dumps(origin).encode())
    if progress and part.exists():
        progress(part.stat().st_size)
    _fetch_rest(address, found, part, progress)
    with local.local_errors(target):
        os.replace(part, target)  # noqa: PTH105
        note.unlink(missing_ok=True)


def _noted(note: Path) -> Any:
    with suppress(OSError, ValueError):
        return json.loads(note.read_text(encoding="utf-8"))
    return None


def _fetch_rest(address: Address, found: Stat, part: Path, progress: Progress | None) -> None:
    """Asks for what is missing until nothing is; a connection that moved something does not count as failed."""

    def attempt() -> bool:
        had = part.stat().st_size if part.exists() else 0
        if 0 <= found.size <= had:
            return True
        try:
            run(_stream, address.uri, part, had, found, progress)
        except Exception as error:
            failure = web.failed(error, address)
            now = part.stat().st_size if part.exists() else 0
            if isinstance(failure, Transient) and now > had:
                return False
            raise failure from None
        return found.size < 0 or part.stat().st_size >= found.size

    while not persist(attempt, address, server=web.server_of(address)):
        pass
    if 0 <= found.size != part.stat().st_size:
        with suppress(OSError):
            part.unlink()
        raise StorageError(
            "storage.changed", f"{address}: changed while it was read", remedy="try again once it is complete"
        )


async def _stream(url: str, part: Path, had: int, found: Stat, progress: Progress | None) -> None:
    from yarl import URL

    session = await web_session()
    headers = {"Accept-Encoding": "identity"}
    if had:
        headers |= {"Range": f"bytes={had}-", "If-Range": found.version}
    async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=True) as answer:
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise Transient(f"it answered {answer.status}")
        if answer.status not in (200, 206):
            raise web.refused(answer.status, Address.parse(url))
        continued = had > 0 and answer.status == 206
        if had and not continued and progress:
            progress(-had)
        with part.open("ab" if continued else "wb") as file:
            async for data in answer.content.iter_chunked(_CHUNK):
                file.write(data)
                if progress:
                    progress(len(data))
            file.flush()
            os.fsync(file.fileno())
