"""Reading, writing, listing and removing on two real servers, under s3:// and oss://."""

import random

import pytest
from servers import use

from kinsight import storage
from kinsight.errors import StorageError
from kinsight.storage import Address, s3
from kinsight.storage.sources import parallel

NAMES = [
    "plain.txt",
    "with space.txt",
    "中文 目录/图片 一.jpg",
    "a#b?c%20d+e&f=g.bin",
    "emoji-😀.bin",
    "deep/er/still.x",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(place, name):
    target = place.root.child(name)
    storage.write_bytes(target, name.encode())
    assert storage.read_bytes(target) == name.encode()
    assert storage.read_bytes(target.uri) == name.encode()  # the text form means the same object
    assert storage.size(target) == len(name.encode())
    assert storage.exists(target)
    assert [entry.relative for entry in storage.list_files(place.root)] == [name]
    storage.remove(target)
    assert not storage.exists(target)
    storage.remove(target)


@pytest.mark.parametrize("size", [0, 1, 6 * 2**20])
def test_sizes(place, size):
    data = random.Random(size).randbytes(size)
    target = place.root.child("object")
    storage.write_bytes(target, data)
    assert storage.size(target) == size
    assert storage.read_bytes(target) == data


def test_multipart_both_ways(place, tmp_path, monkeypatch):
    monkeypatch.setattr("kinsight.storage.s3.PART_BYTES", 5 * 2**20)
    monkeypatch.setattr("kinsight.storage.transfer.PART_BYTES", 5 * 2**20)
    data = random.Random(1).randbytes(11 * 2**20 + 3)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    sent, fetched = [], []
    storage.upload_file(source, place.root.child("big"), sent.append)
    storage.download_file(place.root.child("big"), target, fetched.append)
    assert target.read_bytes() == data
    assert sum(sent) == sum(fetched) == len(data)
    assert len(sent) == len(fetched) == 3


def test_ranges(place):
    target = place.root.child("range")
    storage.write_bytes(target, b"0123456789")
    assert storage.read_bytes(target, start=3, length=4) == b"3456"
    assert storage.read_bytes(target, start=7) == b"789"
    assert storage.read_bytes(target, length=2) == b"01"
    assert storage.read_bytes(target, start=8, length=10) == b"89"
    assert storage.read_bytes(target, start=10, length=5) == b""
    assert storage.read_bytes(target, start=2, length=0) == b""


def test_open_read_seeks(place):
    data = random.Random(2).randbytes(3 * 2**20)
    storage.write_bytes(place.root.child("f"), data)
    with storage.open_read(place.root.child("f")) as file:
        file.seek(-10, 2)
        assert file.read() == data[-10:]
        file.seek(2_000_000)
        assert file.read(1000) == data[2_000_000:2_001_000]
        file.seek(0)
        assert file.read() == data


def test_parquet_through_open_read(place):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"uri": ["a", "b"], "label": [1, 2]})
    with storage.open_write(place.root.child("t.parquet")) as file:
        pq.write_table(table, file)
    with storage.open_read(place.root.child("t.parquet")) as file:
        assert pq.read_table(file).equals(table)


def test_open_write_leaves_nothing_when_the_body_fails(place):
    target = place.root.child("never")
    with pytest.raises(KeyError), storage.open_write(target) as file:
        file.write(b"half")
        raise KeyError
    assert not storage.exists(target)


def test_listing_is_sorted_and_complete(place):
    names = sorted(["b.txt", "a/2.txt", "a/1.txt", "a.txt", "c/d/e.txt", "中.txt"])
    for name in names:
        storage.write_bytes(place.root.child(name), b"x")
    assert [entry.relative for entry in storage.list_files(place.root)] == names
    assert [e.relative for e in storage.list_files(place.root, recursive=False)] == ["a.txt", "b.txt", "中.txt"]
    assert [entry.relative for entry in storage.list_files(place.root.child("a"))] == ["1.txt", "2.txt"]
    assert storage.is_directory(place.root.child("a")) and not storage.is_directory(place.root.child("a.txt"))


@pytest.mark.parametrize("name", ["rclone", "moto"])
def test_listing_over_several_pages(name, monkeypatch, request):
    root = use(request.getfixturevalue(name), "s3", monkeypatch, request).root
    names = [f"{number:04d}" for number in range(1005)]
    parallel(lambda name: storage.write_bytes(root.child(name), b""), names)
    assert [entry.relative for entry in storage.list_files(root)] == names


def test_listing_what_is_absent_or_a_file(place):
    with pytest.raises(StorageError, match="no object lies below") as caught:
        storage.list_files(place.root.child("absent"))
    assert caught.value.code == "storage.not-found"
    storage.write_bytes(place.root.child("file"), b"x")
    with pytest.raises(StorageError, match="is a file"):
        storage.list_files(place.root.child("file"))


def test_folder_marker_is_an_empty_directory(moto, monkeypatch, request):
    root = use(moto, "s3", monkeypatch, request).root
    s3._request(root, s3._call, "put_object", {"Bucket": root.container, "Key": f"{root.path}/empty/"})
    assert storage.list_files(root.child("empty")) == []


def test_remove_tree(place):
    for name in ["t/a", "t/b/c", "t2"]:
        storage.write_bytes(place.root.child(name), b"x")
    storage.remove_tree(place.root.child("t"))
    assert [entry.relative for entry in storage.list_files(place.root)] == ["t2"]
    storage.remove_tree(place.root.child("t"))
    with pytest.raises(StorageError, match="not removed as a whole"):
        storage.remove_tree(f"{place.scheme}://{place.server.bucket}/")


def test_missing_key_and_bucket(place):
    with pytest.raises(StorageError, match="no such object") as caught:
        storage.read_bytes(place.root.child("absent"))
    assert caught.value.code == "storage.not-found"
    with pytest.raises(StorageError, match="no such object"):
        storage.size(place.root.child("absent"))
    elsewhere = Address.parse(f"{place.scheme}://no-such-bucket/x")
    for action in (
        storage.read_bytes,
        storage.size,
        storage.list_files,
        storage.copy_in,
        lambda address: storage.write_bytes(address, b"x"),
    ):
        with pytest.raises(StorageError, match="no bucket 'no-such-bucket'") as caught:
            action(elsewhere)
        assert caught.value.code == "storage.no-bucket"


@pytest.mark.parametrize("scheme", ["s3", "oss"])
@pytest.mark.parametrize("wrong", ["KEY", "SECRET"])
def test_wrong_credentials(rclone, monkeypatch, request, scheme, wrong):
    root = use(rclone, scheme, monkeypatch, request).root
    secret = "wrong-and-secret"
    name = {
        "s3KEY": "AWS_ACCESS_KEY_ID",
        "s3SECRET": "AWS_SECRET_ACCESS_KEY",
        "ossKEY": "OSS_ACCESS_KEY_ID",
        "ossSECRET": "OSS_ACCESS_KEY_SECRET",
    }[scheme + wrong]
    monkeypatch.setenv(name, secret)
    for action in (storage.read_bytes, storage.exists, storage.list_files, storage.OutputDir(root).check_writable):
        with pytest.raises(StorageError) as caught:
            action(root) if action.__name__ != "check_writable" else action()  # type: ignore[call-arg]
        assert caught.value.code in ("storage.credentials", "storage.denied")
        assert name in str(caught.value)
        assert secret not in repr(caught.value) + str(caught.value)


def test_the_endpoint_in_an_oss_address_wins(rclone, monkeypatch):
    for name, value in rclone.environment("oss").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OSS_ENDPOINT", "127.0.0.1:1")
    address = Address.parse(f"oss://{rclone.bucket}.127.0.0.1:{rclone.port}/inside/键")
    storage.write_bytes(address, b"x")
    assert storage.read_bytes(address) == b"x"


def test_credentials_and_endpoint_from_the_ossutil_file(rclone, monkeypatch, tmp_path):
    config = tmp_path / "ossutil"
    config.write_text(
        f"[Credentials]\nlanguage=EN\nendpoint=127.0.0.1:1\naccessKeyID=testkey\naccessKeySecret=testsecret\n"
        f"[Bucket-Endpoint]\n{rclone.bucket}=127.0.0.1:{rclone.port}\n"
    )
    monkeypatch.setenv("OSS_CONFIG_FILE", str(config))
    storage.write_bytes(f"oss://{rclone.bucket}/by-config", b"x")
    assert storage.read_bytes(f"oss://{rclone.bucket}/by-config") == b"x"


def test_buckets_and_endpoints_by_lists(rclone, monkeypatch):
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "testkey")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "testsecret")
    monkeypatch.setenv("OSS_BUCKETS", f"other,{rclone.bucket}")
    monkeypatch.setenv("OSS_ENDPOINTS", f"127.0.0.1:1,{rclone.url}")
    storage.write_bytes(f"oss://{rclone.bucket}/by-list", b"x")
    assert storage.read_bytes(f"oss://{rclone.bucket}/by-list") == b"x"
