"""Lists, images and records at remote addresses, against real servers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers

from kinsight import storage
from kinsight.data.class_names import read_class_names
from kinsight.data.records import Records
from kinsight.data.sources.presence import missing_images, require_images
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Folder, ImageList, Itag
from kinsight.storage import Address

IMAGES = ("a b/1.jpg", "a b/2.jpg", "猫#%/1.png")


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server
    storage.close_clients()


@pytest.fixture(params=["s3", "oss"])
def root(
    rclone: servers.Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> Address:
    for name in list(os.environ):
        if name.startswith(("AWS_", "OSS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    return servers.use(rclone, request.param, monkeypatch, request).root


def fill(root: Address) -> None:
    for name in IMAGES:
        storage.write_bytes(root.child(name), b"x")


def list_text() -> str:
    return "".join(f"{name} {number}\n" for number, name in enumerate(IMAGES))


def test_list_and_images_in_a_bucket(root: Address) -> None:
    fill(root)
    storage.write_text(root.child("train.txt"), list_text())
    source = ImageList(path=root.child("train.txt").uri)
    records = read_records(source)
    assert [records.uri(i) for i in range(3)] == [root.child(name).uri for name in IMAGES]
    assert missing_images(records)[0].size == 0
    storage.write_text(root.child("lists/may/train.txt"), list_text().replace("a b", "../../a b"))
    higher = read_records(ImageList(path=root.child("lists/may/train.txt").uri))
    assert missing_images(higher)[0].tolist() == [2]


def test_list_here_and_images_in_a_bucket_and_the_other_way_round(root: Address, tmp_path: Path) -> None:
    fill(root)
    (tmp_path / "train.txt").write_text(list_text())
    here = ImageList(path=str(tmp_path / "train.txt"))
    with pytest.raises(DataError, match="3 of 3 images"):
        require_images(read_records(here), here)
    there = here.model_copy(update={"root": root.uri})
    require_images(read_records(there), there)

    storage.write_text(root.child("lists/train.txt"), "1.jpg 0\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.jpg").write_bytes(b"x")
    crossed = ImageList(path=root.child("lists/train.txt").uri, root=str(tmp_path / "images"))
    require_images(read_records(crossed), crossed)


def test_a_folder_in_a_bucket_is_numbered_like_the_same_folder_here(root: Address, tmp_path: Path) -> None:
    fill(root)
    for name in IMAGES:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    remote = read_records(Folder(path=root.uri))
    local = read_records(Folder(path=str(tmp_path / "set")))
    assert remote.class_names == local.class_names == ("a b", "猫#%")
    assert remote.label_N.tolist() == local.label_N.tolist() == [0, 0, 1]
    assert missing_images(remote)[0].size == 0


def test_a_manifest_in_a_bucket(root: Address) -> None:
    fill(root)
    text = f'{{"data": {{"source": "{root.child(IMAGES[0]).uri}"}}, "label-1": {{"results": [{{"data": "猫"}}]}}}}\n'
    storage.write_text(root.child("x.manifest"), text)
    source = Itag(path=root.child("x.manifest").uri)
    records = read_records(source)
    require_images(records, source)
    assert records.class_names == ("猫",)


def test_what_is_no_list_in_a_bucket(root: Address) -> None:
    fill(root)
    with pytest.raises(DataError, match="format: folder"):
        read_records(ImageList(path=root.uri))
    with pytest.raises(DataError, match="there is no such list"):
        read_records(ImageList(path=root.child("none.txt").uri))
    with pytest.raises(DataError, match="there is no such folder"):
        read_records(Folder(path=root.child("none").uri))


def test_class_names_and_records_in_a_bucket(root: Address, tmp_path: Path) -> None:
    storage.write_text(root.child("names.txt"), "猫, dog\n")
    assert read_class_names(root.child("names.txt").uri) == ["猫", "dog"]
    (tmp_path / "train.txt").write_text("a.jpg 0\n")
    records = read_records(ImageList(path=str(tmp_path / "train.txt")))
    records.save(root.child("records.arrow"))
    assert Records.load(root.child("records.arrow")).fingerprint == records.fingerprint


def test_a_list_on_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "train.txt").write_text(list_text())
    with servers.web_server(tmp_path) as server:
        source = ImageList(path=f"{server.url}/train.txt")
        records = read_records(source)
        require_images(records, source)
        assert missing_images(records)[0].size == 0
