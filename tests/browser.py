"""A headless Chromium driven over its DevTools protocol: pages as people see them."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")


class Page:
    """One page. Every call waits for its answer; `errors` gathers what the page's console complained of."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._number = loop, socket, 0
        self.errors: list[str] = []

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A DevTools command's result."""
        return self._loop.run_until_complete(self._call(method, arguments))

    async def _call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": arguments})
        while True:
            answer = json.loads((await self._socket.receive(timeout=30)).data)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"])[:500])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, promises awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, limit_s: float = 20.0) -> None:
        """Until JavaScript is true."""
        deadline = time.monotonic() + limit_s
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never came: {condition}; {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move over the others, let go."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def resize(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """The window's size in pixels, and its colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """The window as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_page(address: str, *, width: int = 1200, height: int = 800) -> Iterator[Page]:
    """A page at an address (http:// or file://) in a browser of its own."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        command = [PROGRAM, *options, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            loop = asyncio.new_event_loop()
            try:
                port = _port(Path(profile, "DevToolsActivePort"))
                yield from _within(loop, lambda session: _connect(session, port), address)
            finally:
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()
                process.kill()


def _within(
    loop: asyncio.AbstractEventLoop,
    connect: Callable[[aiohttp.ClientSession], Awaitable[aiohttp.ClientWebSocketResponse]],
    address: str,
) -> Iterator[Page]:
    async def start() -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession()
        return session, await connect(session)

    async def end(session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.close()
        await session.close()

    session, socket = loop.run_until_complete(start())
    try:
        page = Page(loop, socket)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=address)
        page.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        yield page
    finally:
        loop.run_until_complete(end(session, socket))


async def _connect(session: aiohttp.ClientSession, port: int) -> aiohttp.ClientWebSocketResponse:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        target = next(entry for entry in await answer.json() if entry["type"] == "page")
    return await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)


def _port(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
