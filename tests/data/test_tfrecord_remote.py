"""TFRecords behind a network: patterns, ranges instead of whole files, neighbours in one request."""

import http.server
import threading
import urllib.request
from typing import ClassVar

import numpy as np
import pytest
import servers
from tfrecord_files import example, picture, write_shard

from kinsight import storage
from kinsight.converting import convert
from kinsight.data import ImageLoader, read_records
from kinsight.errors import DataError, StorageError
from kinsight.specs.data import ImageSpec, Parquet, TFRecord

IMAGE = ImageSpec(image_size=16)


class Counting(http.server.BaseHTTPRequestHandler):
    """Hands requests on to the object server, and notes what was asked for."""

    asked: ClassVar["list[tuple[str, str, str | None]]"] = []
    target = ""

    def _pass_on(self):
        self.asked.append((self.command, self.path, self.headers.get("Range")))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        request = urllib.request.Request(self.target + self.path, method=self.command, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_HEAD = _pass_on

    def log_message(self, format, *args):
        pass


@pytest.fixture(params=["s3", "oss"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "20")
    with servers.rclone_server(tmp_path / "server") as server:
        yield servers.use(server, request.param, monkeypatch, request)
        storage.close_clients()


@pytest.fixture
def watched(place, tmp_path, monkeypatch):
    """A source on the server, and the requests that reach it from now on."""
    source = put(place, tmp_path)
    Counting.asked, Counting.target = [], place.server.url
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    name = "AWS_ENDPOINT_URL_S3" if place.scheme == "s3" else "OSS_ENDPOINT"
    monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
    yield source, Counting.asked
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def put(place, tmp_path, shards=2, each=10):
    for number in range(shards):
        rows = range(number * each, (number + 1) * each)
        local = write_shard(tmp_path / "shard", [example(i, [i % 3]) for i in rows])
        storage.upload_file(local, place.root.child(f"train_{number}.tfrecord"))
    return TFRecord(path=f"{place.root.uri}/train_*.tfrecord")


def test_shards_on_an_object_store(place, tmp_path):
    source = put(place, tmp_path)
    records = read_records(source)
    assert len(records) == 20 and records.uri(11).startswith(f"{place.root.uri}/train_1.tfrecord#bytes=")
    for workers, cache in ((0, "none"), (2, "none"), (0, "memory")):
        with ImageLoader(records, IMAGE, workers=workers, cache=cache) as loader:
            means = [batch.images_BCHW.float().mean((1, 2, 3)).numpy() for batch in loader.in_order(7)]
        assert np.allclose(np.concatenate(means), [20 * (i % 10) + 14.5 for i in range(20)], atol=3)
        assert not loader.broken
    with pytest.raises(DataError, match=r"no file matches; .* holds 2 files, for example train_"):
        read_records(TFRecord(path=f"{place.root.uri}/tset_*.tfrecord"))
    with pytest.raises(StorageError, match="there is no bucket"):
        read_records(TFRecord(path=f"{place.scheme}://no-such-bucket/train_*.tfrecord"))


def test_images_are_ranges_and_neighbours_one_request(watched):
    source, asked = watched
    records = read_records(source)
    assert sum(method == "GET" and ".tfrecord" in path for method, path, _ in asked) == 2  # once from end to end
    asked.clear()
    again = read_records(source)  # from the cache: the listing alone is asked for
    assert again.uris.equals(records.uris)
    assert not any(method == "GET" and ".tfrecord" in path for method, path, _ in asked)
    asked.clear()
    with ImageLoader(records, IMAGE) as loader:
        assert sum(len(batch) for batch in loader.in_order(10)) == 20
    assert len(asked) == 2 and all(wanted is not None for _, _, wanted in asked)
    asked.clear()
    with ImageLoader(records, IMAGE) as loader:
        (batch,) = loader.batches([(0, np.array([17, 3]))])
    assert len(batch) == 2 and len(asked) == 2
    lengths = [1 + last - first for first, last in (map(int, wanted[6:].split("-")) for _, _, wanted in asked)]
    assert sorted(lengths) == sorted(len(picture(i)) for i in (17, 3))


def test_conversion_from_and_to_an_object_store(place, tmp_path):
    source = put(place, tmp_path)
    for kind in ("tfrecord", "shards"):
        out = convert(
            {
                "data": source.model_dump(),
                "output": f"{place.root.uri}/{kind}",
                "to": {"kind": kind},
                "per_file": 8,
                "workers": 0,
            }
        )
        back = TFRecord(path=f"{out}/train_*.tfrecord") if kind == "tfrecord" else Parquet(path=f"{out}/train.parquet")
        records = read_records(back)
        with ImageLoader(records, IMAGE) as loader:
            count_C = np.bincount(np.concatenate([batch.label_B.numpy() for batch in loader.in_order(20)]))
        assert count_C.tolist() == [7, 7, 6] and not loader.broken
        assert not [entry.relative for entry in storage.list_files(out) if "/." in f"/{entry.relative}"]
