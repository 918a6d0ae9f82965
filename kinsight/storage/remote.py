"""One event loop and one client per server and process, shared by all threads.

The clients live on fsspec's loop thread, which does not survive a fork: a forked child starts with none and makes its
own at first use. What it inherited is kept, not closed, because closing would reach the parent's sockets. Fork before
the first remote access where you can; forkserver or spawn are right for loader workers that read remote data.
"""

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kinsight.storage.endpoints import Endpoint
from kinsight.storage.retry import timeout_s

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from s3fs import S3FileSystem

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0  # silence, not duration: a slow transfer goes on
_CONNECTIONS = 32

_lock = threading.Lock()
_s3_clients: "dict[Endpoint, S3FileSystem]" = {}
_web_sessions: "dict[float, ClientSession]" = {}
_inherited: list[object] = []


def run(function: Callable[..., Awaitable[Result]], *arguments: object) -> Result:
    """The awaited result of `function(*arguments)` on the loop thread. Interruptible by Ctrl-C."""
    from fsspec.asyn import get_loop, sync

    return cast(Result, sync(get_loop(), function, *arguments))


def s3_client(endpoint: Endpoint) -> "S3FileSystem":
    """The client of `endpoint` in this process; use it with `run` only."""
    with _lock:
        if endpoint not in _s3_clients:
            if not _s3_clients and not _web_sessions:
                atexit.register(_close_all, os.getpid())
            _s3_clients[endpoint] = _new_s3_client(endpoint)
        return _s3_clients[endpoint]


def _new_s3_client(endpoint: Endpoint) -> "S3FileSystem":
    from s3fs import S3FileSystem

    config: dict[str, Any] = {
        # OSS and other servers refuse the trailing checksums that newer clients add by default.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "s3": {"addressing_style": endpoint.addressing},
        "connect_timeout": min(CONNECT_TIMEOUT_S, endpoint.timeout_s),
        "read_timeout": min(READ_TIMEOUT_S, endpoint.timeout_s),
        "max_pool_connections": _CONNECTIONS,
    }
    client = S3FileSystem(
        asynchronous=True,  # no finalizers of its own, which would act on the parent's sockets after a fork
        skip_instance_cache=True,
        use_listings_cache=False,
        anon=endpoint.anonymous,
        endpoint_url=endpoint.url,
        key=endpoint.key,
        secret=endpoint.secret,
        token=endpoint.token,
        client_kwargs={"region_name": endpoint.region} if endpoint.region else {},
        config_kwargs=config,
    )
    client.retries = 1
    return client


async def connect(client: "S3FileSystem") -> None:
    """Opens the client's session if need be; to be awaited on the loop before its calls."""
    session: Any = await client.set_session()
    if client.endpoint_url:
        session.meta.events.register("before-call.s3", _stay, unique_id="kinsight-stay")


def _stay(context: dict[str, Any], **_: object) -> None:
    """Marks a request as redirected already.

    botocore answers a redirect by looking for the bucket's region at Amazon's rules, which at a named endpoint can only
    mislead, and asks without end where the server redirects that question too.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


async def web_session() -> "ClientSession":
    """The session for http and https in this process; to be awaited on the loop."""
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    limit_s = timeout_s()
    if limit_s not in _web_sessions:
        if not _s3_clients and not _web_sessions:
            atexit.register(_close_all, os.getpid())
        silence_s = min(READ_TIMEOUT_S, limit_s)
        timeout = ClientTimeout(total=None, sock_connect=min(CONNECT_TIMEOUT_S, limit_s), sock_read=silence_s)
        _web_sessions[limit_s] = ClientSession(
            timeout=timeout, connector=TCPConnector(limit=_CONNECTIONS), trust_env=True, auto_decompress=False
        )
    return _web_sessions[limit_s]


def close_clients() -> None:
    """Closes this process's connections; the next access opens new ones."""
    with _lock:
        clients, sessions = list(_s3_clients.values()), list(_web_sessions.values())
        _s3_clients.clear()
        _web_sessions.clear()
    if clients or sessions:
        run(_close, clients, sessions)


def _close_all(pid: int) -> None:
    if pid == os.getpid():
        close_clients()


async def _close(clients: "list[S3FileSystem]", sessions: "list[ClientSession]") -> None:
    for client in clients:
        if client._s3 is not None:
            await client._s3.close()
    for session in sessions:
        await session.close()


def _after_fork() -> None:
    global _lock, _s3_clients, _web_sessions
    _inherited.append((_s3_clients, _web_sessions))
    _lock, _s3_clients, _web_sessions = threading.Lock(), {}, {}


os.register_at_fork(after_in_child=_after_fork)
