"""Outputs at local and remote addresses, the cache of remote inputs, and plain web servers."""

import json
import multiprocessing
import random

import pytest
import servers

from kinsight import storage
from kinsight.errors import StorageError
from kinsight.storage import FileEntry, OutputDir, cache, output


def names(root):
    return [entry.relative for entry in storage.list_files(root)]


def test_local_output_is_written_in_place(tmp_path):
    with OutputDir(tmp_path / "out") as out:
        out.check_writable()
        assert out.path == tmp_path / "out" and not out.is_remote
        (out.path / "x").write_text("x")
        assert out.sync() == []
    assert (tmp_path / "out" / "x").exists()


def test_remote_output_sends_changes_only_and_resumes(place):
    with OutputDir(place.root) as out:
        assert not out.exists() and out.pull() == []
        out.check_writable()
        (out.path / "检查 点").mkdir()
        (out.path / "metrics.jsonl").write_text("1\n")
        (out.path / "检查 点" / "w.safetensors").write_bytes(b"w" * 100)
        assert sorted(out.sync()) == ["metrics.jsonl", "检查 点/w.safetensors"]
        assert out.sync() == []
        with (out.path / "metrics.jsonl").open("a") as file:
            file.write("2\n")
        assert out.sync() == ["metrics.jsonl"]
        (out.path / "检查 点" / "w.safetensors").unlink()
        (out.path / "last.txt").write_text("z")
    assert not out.path.exists()
    assert names(place.root) == ["last.txt", "metrics.jsonl"]
    with OutputDir(place.root) as again:
        assert again.exists()
        assert again.pull(lambda name: name.endswith(".jsonl")) == ["metrics.jsonl"]
        assert (again.path / "metrics.jsonl").read_text() == "1\n2\n"
        assert again.sync() == []
    assert names(place.root) == ["last.txt", "metrics.jsonl"]  # what was not pulled stays


def test_headers_go_last_and_stale_ones_first(rclone_place, monkeypatch):
    root, actions = rclone_place.root, []
    real_send, real_remove = output.upload_file, output.files.remove

    def send(path, address, progress=None):
        actions.append(("send", address.uri.removeprefix(root.uri + "/")))
        real_send(path, address, progress)

    def remove(address):
        actions.append(("remove", address.uri.removeprefix(root.uri + "/")))
        real_remove(address)

    monkeypatch.setattr(output, "upload_file", send)
    monkeypatch.setattr(output.files, "remove", remove)
    with OutputDir(root) as out:
        for name in ["best/a.json", "best/m.safetensors", "best/z.bin", "spec.yaml"]:
            (out.path / name).parent.mkdir(exist_ok=True)
            (out.path / name).write_text("1")
        out.sync()
        assert actions[-1] == ("send", "best/a.json") and len(actions) == 4
        actions.clear()
        (out.path / "best/m.safetensors").write_text("22")
        (out.path / "best/a.json").write_text("22")
        (out.path / "best/header").write_text("h")
        out.publish("best/header")
        assert actions == [
            ("remove", "best/a.json"),
            ("send", "best/m.safetensors"),
            ("send", "best/a.json"),
            ("send", "best/header"),
        ]
        actions.clear()
        for name in ["a.json", "m.safetensors", "z.bin", "header"]:
            (out.path / "best" / name).unlink()
        out.sync()
        assert actions[0] == ("remove", "best/a.json") and len(actions) == 4
        with pytest.raises(StorageError, match="no such file"):
            out.publish("absent.json")


def test_an_output_that_cannot_be_written_is_known_at_once(place):
    out = OutputDir(f"{place.scheme}://no-such-bucket/out")
    with pytest.raises(StorageError, match="no bucket"):
        out.check_writable()
    with pytest.raises(StorageError, match="read only"):
        OutputDir("https://host/out")


def test_what_could_not_be_sent_is_kept(place, monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "1")
    with pytest.raises(StorageError, match="is kept in") as caught, OutputDir(place.root, tmp_path) as out:
        (out.path / "weights").write_text("precious")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
    assert str(out.path) in str(caught.value)
    assert (out.path / "weights").read_text() == "precious"


def test_copy_in_of_files_and_directories(place):
    data = random.Random(0).randbytes(10_000)
    storage.write_bytes(place.root.child("d/图 片.jpg"), data)
    storage.write_bytes(place.root.child("d/e/x"), b"x")
    copy = storage.copy_in(place.root.child("d/图 片.jpg"))
    assert copy.name == "图 片.jpg" and copy.read_bytes() == data
    assert storage.copy_in(place.root.child("d/图 片.jpg")) == copy
    folder = storage.copy_in(place.root.child("d"))
    assert names(folder) == names(place.root.child("d"))
    storage.write_bytes(place.root.child("d/图 片.jpg"), b"changed!")
    assert storage.copy_in(place.root.child("d/图 片.jpg")).read_bytes() == b"changed!"
    assert storage.copy_in(place.root.child("d")) != folder
    assert copy.read_bytes() == data
    with pytest.raises(StorageError, match="no such object"):
        storage.copy_in(place.root.child("absent"))


def test_keys_that_climb_out_stay_inside(tmp_path):
    root = storage.Address.parse("s3://bucket/d")
    with pytest.raises(StorageError, match="does not stay below"):
        cache._all(root, [FileEntry("../../evil", 1, "v")], tmp_path / "target", None)


def _copy(address, moved, paths) -> None:
    paths.put(str(storage.copy_in(address, lambda count: moved.put(count))))


def test_two_processes_fetch_once(rclone_place):
    data = random.Random(0).randbytes(40 * 2**20)
    address = rclone_place.root.child("large").uri
    storage.write_bytes(address, data)
    context = multiprocessing.get_context("spawn")
    moved, paths = context.Queue(), context.Queue()
    processes = [context.Process(target=_copy, args=(address, moved, paths)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = paths.get(timeout=60), paths.get(timeout=60)
    for process in processes:
        process.join()
    assert first == second
    assert storage.read_bytes(first) == data
    assert sum(moved.get(timeout=5) for _ in range(3)) == len(data) and moved.empty()


@pytest.fixture
def web(tmp_path):
    (tmp_path / "www").mkdir()
    with servers.web_server(tmp_path / "www") as server:
        yield server
    storage.close_clients()


def test_web_addresses_are_read(web, tmp_path):
    (web.folder / "a b 中#.json").write_text(json.dumps({"x": 1}))
    address = storage.Address.parse(f"{web.url}/").child("a b 中#.json")
    assert json.loads(storage.read_text(address)) == {"x": 1}
    assert json.loads(storage.read_text(f"{web.url}/a b 中%23.json?token=hidden")) == {"x": 1}
    assert storage.read_bytes(address, start=1, length=3) == b'"x"'
    assert storage.size(address) == 8 and storage.exists(address) and not storage.exists(f"{web.url}/no")
    assert storage.copy_in(address).name == "a b 中#.json"
    with storage.open_read(address) as file:
        assert json.load(file) == {"x": 1}
    with pytest.raises(StorageError, match="no such file") as caught:
        storage.read_bytes(f"{web.url}/absent?token=hidden")
    assert "hidden" not in str(caught.value) and caught.value.code == "storage.not-found"
    for action in (storage.list_files, storage.remove, storage.remove_tree, lambda a: storage.write_bytes(a, b"")):
        with pytest.raises(StorageError) as caught:
            action(address)
        assert caught.value.code == "storage.unsupported"


def test_web_server_away_for_a_moment(web):
    import threading
    import time

    (web.folder / "x").write_text("x")
    assert storage.read_text(f"{web.url}/x") == "x"
    web.stop()
    threading.Thread(target=lambda: (time.sleep(1.5), web.start())).start()
    assert storage.read_text(f"{web.url}/x") == "x"


def test_large_web_file_by_parts_where_the_server_has_no_ranges(web, tmp_path, monkeypatch):
    monkeypatch.setattr("kinsight.storage.transfer.PART_BYTES", 2**20)
    data = random.Random(3).randbytes(2 * 2**20 + 5)
    (web.folder / "big").write_bytes(data)
    storage.download_file(f"{web.url}/big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
