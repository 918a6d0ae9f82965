"""Images behind a network: workers that are not forked, the same batches, missing objects counted as broken."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from kinsight.data import ImageLoader, Records
from kinsight.errors import StorageError
from kinsight.specs.data import ImageSpec, PhotoAugment

SMALL = ImageSpec(image_size=32)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def site(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"图 {number}.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def records_of(uris):
    labels = pa.array([[0]] * len(uris), pa.list_(pa.int32()))
    return Records(pa.table({"uri": pa.array(list(map(str, uris))), "labels": labels}), ["a"], "list.txt")


@pytest.mark.parametrize(("workers", "cache"), [(0, "none"), (2, "none"), (1, "memory")])
def test_remote_images_are_the_local_ones(site, workers, cache):
    folder, root = site
    names = [f"图 {number}.png" for number in range(12)]
    asked = [(0, np.arange(7)), (1, np.arange(7, 13)), (2, np.arange(13))]
    with ImageLoader(records_of([*(folder / name for name in names), folder / "no.png"]), SMALL,
                     augment=PhotoAugment()) as loader:  # fmt: skip
        wanted = [batch.images_BCHW for batch in loader.batches(asked)]
    urls = [f"{root}/{quote(name)}" for name in [*names, "no.png"]]
    with ImageLoader(records_of(urls), SMALL, augment=PhotoAugment(), workers=workers, cache=cache) as loader:
        got = [batch.images_BCHW for batch in loader.batches(asked)]
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert [Path(uri).name for uri, _ in loader.broken] == ["no.png"]


def test_a_server_that_is_away_is_no_broken_image(monkeypatch, site):
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
    with ImageLoader(records_of(["s3://bucket-without-credentials/a.png"]), SMALL) as loader:
        monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
        with pytest.raises(StorageError):
            list(loader.in_order(4))
    assert not loader.broken


def test_a_closed_loader_leaves_no_threads(site):
    folder, root = site
    with ImageLoader(records_of([f"{root}/{quote('图 1.png')}"]), SMALL) as loader:
        list(loader.in_order(1))
        assert any(thread.name.startswith("kinsight-read") for thread in threading.enumerate())
    # Held on to, as a traceback or a cycle may hold it: the threads do not wait for the garbage.
    assert loader is not None
    assert not any(thread.name.startswith("kinsight-read") for thread in threading.enumerate())
