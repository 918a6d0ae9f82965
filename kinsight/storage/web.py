"""Files of `http://` and `https://` addresses, read only. Queries, which may be signatures, stay out of messages."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from kinsight.errors import StorageError
from kinsight.storage.address import Address
from kinsight.storage.local import Stat
from kinsight.storage.remote import run, web_session
from kinsight.storage.retry import Transient, persist
from kinsight.storage.sources import byte_range


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def read_web(address: Address, start: int | None, length: int | None) -> tuple[bytes, str]:
    """Bytes [start, start + length), fewer past the end, and the version as far as known. Raises StorageError."""
    wanted = byte_range(start, length) if length != 0 else "bytes=0-0"
    answer = _ask(address, "GET", {"Range": wanted} if wanted else {})
    if answer.status == 416:
        return b"", ""
    data = answer.body
    if answer.status != 206 and wanted:  # the server does not do ranges and sent everything
        data = data[start or 0 :]
    return (data if length is None else data[:length]), _version(answer.headers)


def stat_web(address: Address) -> Stat | None:
    """Size and version, or None where the server knows no such file. Raises StorageError."""
    answer = _ask(address, "HEAD", {}, absent_is_fine=True)
    if answer.status in (405, 501):
        answer = _ask(address, "GET", {"Range": "bytes=0-0"}, absent_is_fine=True)
    if answer.status in (404, 410):
        return None
    return Stat(_size(answer), _version(answer.headers))


def _size(answer: Answer) -> int:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if not total and answer.status != 206:
        total = answer.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else -1


def _version(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _ask(address: Address, method: str, headers: dict[str, str], *, absent_is_fine: bool = False) -> Answer:
    def attempt() -> Answer:
        try:
            return run(_fetch, method, address.uri, headers)
        except Exception as error:
            raise failed(error, address) from None

    answer = persist(attempt, address, server=server_of(address))
    passable = {200, 206, 416} | ({404, 405, 410, 501} if absent_is_fine else set())
    if answer.status not in passable:
        raise refused(answer.status, address)
    return answer


async def _fetch(method: str, url: str, headers: dict[str, str]) -> Answer:
    from yarl import URL

    session = await web_session()
    headers = {"Accept-Encoding": "identity", **headers}
    async with session.request(method, URL(url, encoded=True), headers=headers, allow_redirects=True) as answer:
        if answer.status in (408, 425, 429) or (answer.status >= 500 and answer.status != 501):
            raise Transient(f"it answered {answer.status}")
        return Answer(answer.status, answer.headers, await answer.read())


def failed(error: Exception, address: Address) -> Exception:
    """What an exception of the client means: Transient, a StorageError, or itself."""
    import ssl

    import aiohttp

    match error:
        case Transient():
            return error
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return StorageError(
                "storage.tls",
                f"{address}: no trusted encrypted connection to {server_of(address)}",
                remedy="check the address and the certificates",
            )
        case aiohttp.InvalidURL() | aiohttp.TooManyRedirects():
            return StorageError("storage.refused", f"{address}: not a usable address", remedy="check it")
        case aiohttp.ClientError() | TimeoutError() | OSError():
            return Transient(_brief(error))
        case _:
            return error


def _brief(error: Any) -> str:
    inner = getattr(error, "os_error", None) or error
    if isinstance(inner, OSError) and inner.errno:
        return os.strerror(inner.errno).lower() if inner.errno > 0 else str(inner.strerror).lower()
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def refused(status: int, address: Address) -> StorageError:
    """The StorageError for an answer that asking again does not change."""
    if status in (404, 410):
        return StorageError(
            "storage.not-found", f"{address}: no such file on {server_of(address)}", remedy="check the address"
        )
    if status in (401, 403, 407):
        return StorageError(
            "storage.denied",
            f"{address}: access denied by {server_of(address)} ({status})",
            remedy="check the address; a signed one may have expired",
        )
    return StorageError(
        "storage.refused", f"{address}: {server_of(address)} answered {status}", remedy="check the address"
    )


def server_of(address: Address) -> str:
    """The server's name and port, without a user's name and password."""
    return address.container.rpartition("@")[2]
