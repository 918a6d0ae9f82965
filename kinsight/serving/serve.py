"""The `serve` job: the application on a socket, until Ctrl-C."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from kinsight import progress
from kinsight.errors import RunError, SpecError
from kinsight.specs.load import of
from kinsight.specs.serve import ServeSpec


def serve(spec: ServeSpec | Mapping[str, Any]) -> None:
    """Serve until interrupted; the same as `kinsight serve`.

    Raises SpecError for settings and ports that cannot work, DataError for a bundle and an index that do not fit.
    """
    spec = of(ServeSpec, spec)
    _need_packages()
    from kinsight.serving.engine import Engine

    with _listening(spec) as listener, Engine(spec) as engine:
        if spec.host not in ("127.0.0.1", "localhost", "::1"):
            progress.warn(f"everyone who reaches {spec.host} can search: there is no login")
        for line in _told(engine, address_of(listener, spec.host)):
            progress.say(line)
        with suppress(KeyboardInterrupt):  # how a server ends; uvicorn has answered what it had begun
            _server(engine).run(sockets=[listener])


_NAMED = 8  # classes that are listed by name


def _told(engine: Any, address: str) -> list[str]:
    """What is served and where, line by line."""
    lines, decision = [], engine.model.decision
    if engine.index is not None:
        lines += [f"threshold   {_accepting(engine)}"]
        lines += [f"index       {len(engine.index):,} items, {engine.index.kind}, {engine.index.metric}"]
    if decision is not None:
        lines += [f"{'labels' if decision.several else 'classes':<12}{_classes(decision)}"]
        lines += [f"predict     POST {address}/v1/predict"]
    if engine.index is None:
        lines += [f"embed       POST {address}/v1/embed"]
    return [*lines, f"serving     {address}   Ctrl-C ends it"]


def _classes(decision: Any) -> str:
    names = decision.class_names
    text = f"{len(names):,}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
    if decision.threshold_C is None:
        return text
    low, high = float(decision.threshold_C.min()), float(decision.threshold_C.max())
    return f"{text}; each is said from {low:.4g}{f' to {high:.4g}' if high > low else ''} on"


def _accepting(engine: Any) -> str:
    limit = engine.limit
    if limit.threshold is None:
        return f"nothing is marked as accepted: {limit.source}"
    chance = f"; about {engine.chance_matches:.2g} items reach it by chance" if limit.fmr else ""
    rate = f" (false-match rate {limit.fmr:g}{chance})" if limit.fmr else ""
    return f"accepted from {limit.threshold:.4f} on{rate}"


@contextmanager
def in_background(spec: ServeSpec) -> Iterator[str]:
    """The server in threads of this process for the time of the block; gives its address."""
    _need_packages()
    from kinsight.serving.engine import Engine

    with _listening(spec) as listener, Engine(spec) as engine:
        server = _server(engine)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="kinsight-serve", daemon=True)
        thread.start()
        try:
            yield address_of(listener, spec.host)
        finally:
            server.should_exit = True
            thread.join()


def address_of(listener: socket.socket, host: str) -> str:
    """Where a browser finds the server."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    return f"http://{shown}:{listener.getsockname()[1]}"


def _server(engine: Any) -> Any:
    import uvicorn

    from kinsight.serving.app import create_app

    config = uvicorn.Config(
        create_app(engine), log_level="warning", access_log=False, timeout_graceful_shutdown=3, lifespan="off"
    )
    return uvicorn.Server(config)


@contextmanager
def _listening(spec: ServeSpec) -> Iterator[socket.socket]:
    """A socket that is bound before anything is loaded: a port in use is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SpecError(
            "serve.host", str(error), field=f"host={spec.host}", remedy="give an address of this machine"
        ) from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1024)
        except OSError as error:
            raise SpecError(
                "serve.port",
                f"cannot listen there: {error.strerror}",
                field=f"host={spec.host}, port={spec.port}",
                remedy="choose another port, or 0 for any free one",
            ) from None
        yield listener


def _need_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise RunError(
            "serve.packages", f"{error.name} is not installed", remedy="pip install 'kinsight[serving]'"
        ) from None
