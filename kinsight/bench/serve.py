"""Milliseconds from a client's request to its answer: searches by image, over HTTP on one machine.

The server is a process of its own; the clients are threads here, each with a connection that stays open, asking for the
next picture as soon as the last answer is read. The pictures are the index's own.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table

from kinsight import progress
from kinsight.data.reading import read_image
from kinsight.errors import RunError
from kinsight.indexing import Index
from kinsight.specs.bench import BenchServe

PICTURES = 200
WARMUP = 20
_START_S = 120.0


def run(spec: BenchServe) -> list[dict[str, Any]]:
    """Measure, print a table, return the figures. Raises RunError if the server fails."""
    index = Index.open(spec.index)
    rows = np.linspace(0, index.num_rows - 1, min(PICTURES, index.num_rows)).astype(np.int64)
    pictures = [read_image(uri) for uri in index.items(rows)["uri"].to_pylist()]
    results = []
    with _server(spec) as address, progress.task("bench serve", len(spec.users), "rows") as task:
        _ask(address, pictures, WARMUP, spec.k)
        for users in spec.users:
            results.append({"users": users, "requests": spec.requests} | _measure(spec, address, pictures, users))
            task.advance(1)
    Console().print(_table(spec, index, results))
    return results


def _measure(spec: BenchServe, address: str, pictures: list[bytes], users: int) -> dict[str, float]:
    share = -(-spec.requests // users)
    found: list[tuple[list[float], list[float]]] = []
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            found.append(_ask(address, pictures[number:] + pictures[:number], share, spec.k))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(users)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        raise RunError("bench.client", f"a client failed: {failures[0]}")
    took_ms = np.concatenate([times for times, _ in found])
    inside_ms = np.concatenate([times for _, times in found])
    return {
        "p50_ms": float(np.percentile(took_ms, 50)),
        "p99_ms": float(np.percentile(took_ms, 99)),
        "server_p50_ms": float(np.percentile(inside_ms, 50)),
        "per_s": len(took_ms) / seconds,
    }


def _ask(address: str, pictures: list[bytes], count: int, k: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each request: as the client sees it, and as the server says."""
    place = urlsplit(address)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    took, inside = [], []
    for number in range(count):
        started = time.perf_counter()
        picture = pictures[number % len(pictures)]
        connection.request("POST", f"/v1/search?k={k}", picture, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        body = answer.read()
        took.append(1000 * (time.perf_counter() - started))
        if answer.status != 200:
            raise RunError(
                "bench.answer", f"the server answered {answer.status}: {body[:200].decode(errors='replace')}"
            )
        inside.append(json.loads(body)["took_ms"]["total"])
    connection.close()
    return took, inside


@contextmanager
def _server(spec: BenchServe) -> Iterator[str]:
    """`kinsight serve` in a process of its own; its address once it answers."""
    command = [sys.executable, "-m", "kinsight", "serve", "--bundle", spec.bundle, "--index", spec.index, "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": str(spec.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said, deadline = "", time.monotonic() + _START_S
        try:
            while not (found := re.search(r"http://\S+", said)):
                line = process.stderr.readline()
                said += line
                if not line or time.monotonic() > deadline:
                    raise RunError("bench.server", f"the server did not start: {said.strip()}")
            yield found[0]
        finally:
            process.kill()


def _table(spec: BenchServe, index: Index, results: list[dict[str, Any]]) -> Table:
    table = Table(
        title=f"search by image over HTTP: {len(index):,} items, {index.kind}, k = {spec.k}; server of {spec.threads} "
        "threads, clients in one more process"
    )
    for name in ("clients", "searches", "p50 ms", "p99 ms", "in the server p50 ms", "per second"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results:
        times = (f"{row[name]:.1f}" for name in ("p50_ms", "p99_ms", "server_p50_ms"))
        table.add_row(str(row["users"]), f"{row['requests']:,}", *times, f"{row['per_s']:,.0f}")
    return table
