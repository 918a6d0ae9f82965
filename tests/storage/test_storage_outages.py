"""Servers that go away: for a moment, for ten seconds, for good; and processes that fork."""

import multiprocessing
import os
import random
import socket
import threading
import time

import pytest
import servers

from kinsight import storage
from kinsight.errors import StorageError


@pytest.fixture
def own_rclone(tmp_path, monkeypatch):
    """A server of this test's own, to be stopped at will."""
    with servers.rclone_server(tmp_path / "served") as server:
        for name, value in server.environment("s3").items():
            monkeypatch.setenv(name, value)
        yield server
    storage.close_clients()


def away_for(server: servers.Server, seconds: float) -> threading.Thread:
    server.stop()

    def back() -> None:
        time.sleep(seconds)
        server.start()

    thread = threading.Thread(target=back)
    thread.start()
    return thread


@pytest.mark.parametrize("seconds", [3, 10])
def test_a_server_away_for_a_while_is_survived(own_rclone, monkeypatch, tmp_path, seconds):
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "40")
    root = f"s3://{own_rclone.bucket}/out"
    data = random.Random(0).randbytes(6 * 2**20)
    storage.write_bytes(f"{root}/before", data)
    returning = away_for(own_rclone, seconds)
    started = time.monotonic()
    assert storage.read_bytes(f"{root}/before") == data
    assert seconds - 1 < time.monotonic() - started < seconds + 15
    returning.join()
    returning = away_for(own_rclone, 0.5)
    storage.write_bytes(f"{root}/after", data)
    returning.join()
    assert [entry.size for entry in storage.list_files(root)] == [len(data)] * 2


@pytest.mark.parametrize("scheme", ["s3", "oss", "http"])
def test_a_server_away_for_good_is_a_clear_error_in_bounded_time(monkeypatch, scheme):
    port = servers.free_port()
    for name, value in servers.Server("none", [], port).environment(scheme).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "2")
    address = f"http://127.0.0.1:{port}/x?sig=hidden" if scheme == "http" else f"{scheme}://bucket/x"
    started = time.monotonic()
    with pytest.raises(StorageError, match=f"127.0.0.1:{port} did not answer") as caught:
        storage.read_bytes(address)
    assert 1.5 < time.monotonic() - started < 6
    assert caught.value.code == "storage.unreachable"
    assert "hidden" not in str(caught.value) and "testsecret" not in str(caught.value)
    assert "connect" in str(caught.value)  # why: connection refused


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_server_that_accepts_and_says_nothing(monkeypatch, scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for name, value in servers.Server("silent", [], port).environment("s3").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
        started = time.monotonic()
        with pytest.raises(StorageError, match="no answer in time"):
            storage.read_bytes(f"http://127.0.0.1:{port}/x" if scheme == "http" else "s3://bucket/x")
        assert time.monotonic() - started < 6
    storage.close_clients()


def test_an_unknown_host(monkeypatch):
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
    with pytest.raises(StorageError, match=r"no-such-host\.invalid did not answer"):
        storage.read_bytes("https://no-such-host.invalid/x")


def answering(*answers: bytes) -> tuple[str, list[bytes]]:
    """A server on a thread that gives one raw answer per connection, then closes; its address and the requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    head = requests[-1].startswith(b"HEAD ")
                    connection.sendall(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head else answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", requests


def raw(status: str, body: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_what_is_repeated_and_what_is_not(monkeypatch, scheme):
    good = raw("200 OK", b"hello")
    url, requests = answering(raw("503 Slow Down"), raw("429 Too Many"), raw("500 Oops"), raw("200 OK", b"he", 5), good)
    for name, value in servers.Server("raw", [], 0).environment("s3").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    address = f"{url}/bucket/x" if scheme == "http" else "s3://bucket/x"
    assert storage.read_bytes(address) == b"hello"
    assert len(requests) == 5  # one per answer: no layer below repeats on its own
    url, requests = answering(raw("403 Forbidden"), good)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(StorageError, match="access denied"):
        storage.read_bytes(f"{url}/bucket/x" if scheme == "http" else "s3://bucket/x")
    assert len(requests) == 1
    storage.close_clients()


def test_a_bucket_of_another_region(monkeypatch):
    body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    url, requests = answering(*[raw("301 Moved Permanently", body)] * 2)
    for name, value in servers.Server("raw", [], 0).environment("s3").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    with pytest.raises(StorageError, match="not served by") as caught:
        storage.read_bytes("s3://bucket/x")
    assert caught.value.code == "storage.wrong-region"
    assert len(requests) == 1
    storage.close_clients()


def _child(address: str, results) -> None:
    storage.write_bytes(f"{address}-{os.getpid()}", b"child")
    results.put(storage.read_bytes(address))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_make_their_own_connections(place):
    address = place.root.child("shared").uri
    storage.write_bytes(address, b"parent")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_child, args=(address, results)) for _ in range(2)]
    for child in children:
        child.start()
    assert [results.get(timeout=60) for _ in children] == [b"parent"] * 2
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert storage.read_bytes(address) == b"parent"
    assert len(storage.list_files(place.root)) == 3


def test_many_threads_share_a_client(place):
    from concurrent.futures import ThreadPoolExecutor

    def there_and_back(number: int) -> bool:
        data = str(number).encode() * 1000
        storage.write_bytes(place.root.child(str(number)), data)
        return storage.read_bytes(place.root.child(str(number))) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(40)))
