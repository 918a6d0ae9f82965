"""Indexes on disk: damaged, foreign, remote, and written while they are read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import servers
import torch
from index_cases import KINDS, built, grouped, queries, store

from kinsight import storage
from kinsight.errors import DataError, RunError, StorageError
from kinsight.indexing import Index, add, build, compact, delete, merge
from kinsight.indexing.header import sealed
from kinsight.indexing.lock import NAME, Lock, writing
from kinsight.neighbors import topk


def _data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".arrow", ".faiss"))


@pytest.mark.parametrize("kind", ["flat", "ivf-pq"])
def test_every_file_is_needed_and_checked(tmp_path, kind):
    built(tmp_path, grouped(700), index={"kind": kind})
    folder = tmp_path / "index"
    delete({"index": str(folder), "ids": ["5"]})
    header = json.loads((folder / "index.json").read_text())
    assert {path.name for path in _data_files(folder)} == set(header["files"])
    assert len(header["files"]) == (4 if kind == "flat" else 5)
    for path in _data_files(folder):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=r"is missing, though index\.json names it"):
            Index.open(folder)
        path.write_bytes(whole[:-1])
        with pytest.raises(DataError, match="truncated or altered") as caught:
            Index.open(folder)
        assert path.name in str(caught.value)
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DataError, match="SHA-256"):
            Index.open(folder)
        path.write_bytes(whole)
    assert len(Index.open(folder)) == 699


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "kinsight-embeddings"}, "format is 'kinsight-embeddings', not 'kinsight-index'"),
        ({"version": 3, "kinsight": "9.9"}, "version 3, this Kinsight reads up to 2; written by Kinsight 9.9"),
        ({"version": "1"}, "version is '1'"),
        ({"metric": "hamming"}, "metric: Input should be"),
        ({"kind": "tree"}, "tree"),
        ({"structure": {"m": -1}, "kind": "hnsw"}, "greater than or equal to 4"),
        ({"dim": 23}, r"\(60, 24\)"),
        ({"rows": 61}, "61 rows"),
        ({"columns": ["price"]}, "columns id, label, uri"),
        ({"files": {}}, "files are not those of its parts"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, change, said):
    built(tmp_path, grouped(60))
    file = tmp_path / "index" / "index.json"
    file.write_text(json.dumps(sealed(json.loads(file.read_text()) | change)))
    with pytest.raises(DataError, match=said):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "l2"},
        {"model_hash": "b" * 64},
        {"normalized": True},
        {"spec": {}},
        {"digest": None},
        {"digest": 7},
        {"version": 1, "metric": "l2"},
    ],
)
def test_a_header_altered_since_it_was_written_is_refused(tmp_path, change):
    built(tmp_path, grouped(60))
    file = tmp_path / "index" / "index.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(content.items()))))
    assert Index.open(tmp_path / "index").metric == "cosine"  # its layout does not matter
    file.write_text(json.dumps(content | change))
    for job in (Index.open, lambda place: delete({"index": str(place), "ids": ["3"]})):
        with pytest.raises(DataError, match="not as it was written") as caught:
            job(tmp_path / "index")
        assert caught.value.code == "index.altered"


def test_names_in_a_header_do_not_lead_out_of_the_folder(tmp_path):
    built(tmp_path, grouped(60))
    file = tmp_path / "index" / "index.json"
    (tmp_path / "secret.npy").write_bytes((tmp_path / "index" / "vectors-g000001.npy").read_bytes())
    changed = json.loads(file.read_text().replace("vectors-g000001.npy", "../secret.npy"))
    file.write_text(json.dumps(sealed(changed)))
    with pytest.raises(DataError, match="no name of an index's file"):
        Index.open(tmp_path / "index")


def test_what_is_no_index_is_said_to_be_none(tmp_path):
    with pytest.raises(StorageError, match="no index there"):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no index\.json"):
        Index.open(store(tmp_path / "emb", grouped(20)))
    built(tmp_path, grouped(20))
    (tmp_path / "index" / "index.json").unlink()
    with pytest.raises(DataError, match="was not built to the end"):
        Index.open(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        Index.open(tmp_path / "index")


def test_a_structure_of_other_vectors_is_refused(tmp_path):
    built(tmp_path, grouped(300), name="a", index={"kind": "hnsw"})
    built(tmp_path, grouped(301), name="b", index={"kind": "hnsw"})
    name = "structure-g000001.faiss"
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    header = json.loads((tmp_path / "a" / "index.json").read_text())
    header["files"][name] = json.loads((tmp_path / "b" / "index.json").read_text())["files"][name]
    (tmp_path / "a" / "index.json").write_text(json.dumps(sealed(header)))
    with pytest.raises(DataError, match="holds 301 vectors of length 24"):
        Index.open(tmp_path / "a")


def test_two_generations_stay_and_leftovers_go(tmp_path):
    built(tmp_path, grouped(600))
    folder = tmp_path / "index"
    for number in range(5):
        more = store(tmp_path / f"more{number}", grouped(40, seed=number), model_hash=None)
        header = json.loads((more / "embeddings.json").read_text()) | {"model": None, "normalized": None}
        (more / "embeddings.json").write_text(json.dumps(header))
        (folder / "vectors-g000099.npy").write_bytes(b"left over")
        before = Index.open(folder)
        (folder / "vectors-g000099.npy").unlink()
        add({"index": str(folder), "embeddings": str(more)})
        now = Index.open(folder)
        expected = {*before.header.files, *now.header.files}
        assert {path.name for path in _data_files(folder)} == expected
    assert (now.version, len(now)) == (6, 800)
    (folder / "items-g000077.arrow").write_bytes(b"left over")
    delete({"index": str(folder), "ids": ["3"]})
    assert Index.open(folder).version == 78
    assert not (folder / "items-g000077.arrow").exists()


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_reading_while_generations_are_written(tmp_path, kind):
    built(tmp_path, grouped(400), index={"kind": kind})
    folder, stop, faults, opened = str(tmp_path / "index"), threading.Event(), [], set()
    np.save(tmp_path / "more.npy", grouped(100, seed=3))

    def read() -> None:
        torch.set_num_threads(1)
        while not stop.is_set():
            try:
                index = Index.open(folder)
                hits = index.search(queries(), 20)
                assert (hits.row_QK < index.num_rows).all()
                assert (hits.row_QK >= 0).all()
                assert not np.isin(hits.row_QK.numpy(), index.dead_rows()).any()
                assert index.items(hits.row_QK[0]).num_rows == 20
                opened.add(index.version)
            except Exception as error:
                faults.append(repr(error))
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for number in range(25):
        if number % 2:
            delete({"index": folder, "ids": [str(number), str(number + 100)]})
        else:
            add({"index": folder, "embeddings": str(tmp_path / "more.npy")})
    stop.set()
    for thread in readers:
        thread.join()
    assert not faults
    assert len(opened) > 1
    assert Index.open(folder).version == 26


def test_a_killed_writer_leaves_the_index_and_no_lock(tmp_path):
    built(tmp_path, grouped(60), index={"kind": "hnsw"})
    np.save(tmp_path / "more.npy", np.random.default_rng(0).standard_normal((60_000, 24)).astype(np.float32))
    command = [sys.executable, "-m", "kinsight", "index", "add", str(tmp_path / "index"), str(tmp_path / "more.npy")]
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
        deadline = time.monotonic() + 60
        while not list((tmp_path / "index").glob("norms-g00000[2-9].npy")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(how)
        assert process.wait(60) == code
        assert (Index.open(tmp_path / "index").version, len(Index.open(tmp_path / "index"))) == (1, 60)
        for path in (tmp_path / "index").glob("*-g00000[2-9].*"):
            path.unlink()
    delete({"index": str(tmp_path / "index"), "ids": ["3"]})
    assert len(_data_files(tmp_path / "index")) == 5


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AWS_", "KINSIGHT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with servers.rclone_server(tmp_path / "rclone") as server:
        for name, value in server.environment("s3").items():
            monkeypatch.setenv(name, value)
        yield f"s3://{server.bucket}"
        storage.close_clients()


def test_an_index_in_object_storage(tmp_path, bucket, monkeypatch):
    address = f"{bucket}/indexes/first"
    np.save(tmp_path / "v.npy", grouped(900))
    local = built(tmp_path / "local", grouped(900), index={"kind": "ivf"})
    build({"embeddings": str(tmp_path / "v.npy"), "output": address, "index": {"kind": "ivf"}})
    index = Index.open(address)
    assert torch.equal(index.search(queries(), 10).row_QK, local.search(queries(), 10).row_QK)
    np.save(tmp_path / "more.npy", grouped(1000, seed=5))
    add({"index": address, "embeddings": str(tmp_path / "more.npy")})
    delete({"index": address, "ids": ["0", "1899"]})
    now = Index.open(address)
    assert (len(now), now.num_rows, now.version, len(index)) == (1898, 1900, 3, 900)
    names = {entry.relative for entry in storage.list_files(address)}
    assert names == {"index.json", *now.header.files, *now.header.previous}
    monkeypatch.setattr("kinsight.indexing.lock._SETTLE_S", 0.01)
    with (
        writing(storage.Address.parse(address)),
        pytest.raises(RunError, match=r"is being written by process \d+ on .*\n.*remove s3://"),
    ):
        delete({"index": address, "ids": ["2"]})
    stale = {"token": "x", "time": time.time() - 3600, "writer": "process 1 on gone"}
    storage.write_text(f"{address}/{NAME}", json.dumps(stale))
    delete({"index": address, "ids": ["2"]})
    assert len(Index.open(address)) == 1897


def test_a_writer_that_stood_still_leaves_everything_to_the_one_that_came(tmp_path, bucket, monkeypatch):
    """Another one takes its lock for a lost process's: before it sends its files, and while it sends them."""
    monkeypatch.setattr("kinsight.indexing.lock._SETTLE_S", 0.01)
    address, send, check = f"{bucket}/indexes/first", storage.upload_file, Lock.check
    lock = f"{address}/{NAME}"
    for name, count in (("v", 900), ("more", 400)):
        np.save(tmp_path / f"{name}.npy", grouped(count, seed=count))
    build({"embeddings": str(tmp_path / "v.npy"), "output": address})

    def other_comes(deleted: str) -> None:
        monkeypatch.setattr(storage, "upload_file", send)
        monkeypatch.setattr(Lock, "check", check)
        storage.write_text(lock, json.dumps(json.loads(storage.read_text(lock)) | {"time": time.time() - 3600}))
        delete({"index": address, "ids": [deleted]})
        third = {"token": "x", "time": time.time(), "writer": "process 1 elsewhere"}  # which writes by now
        storage.write_text(lock, json.dumps(third))

    def stands_still(self: Lock) -> None:
        other_comes("2")
        check(self)

    def stands_still_sending(path: Path, place: storage.Address) -> None:
        other_comes("3")
        send(path, place)

    for count, patch in ((899, (Lock, "check", stands_still)), (898, (storage, "upload_file", stands_still_sending))):
        monkeypatch.setattr(*patch)
        with pytest.raises(RunError, match="another process has written it meanwhile"):
            add({"index": address, "embeddings": str(tmp_path / "more.npy")})
        assert json.loads(storage.read_text(lock))["token"] == "x"
        index = Index.open(address)
        assert (len(index), index.num_rows) == (count, 900)
        storage.remove(lock)
    add({"index": address, "embeddings": str(tmp_path / "more.npy")})
    now = Index.open(address)
    assert len(now) == 1298
    assert {each.relative for each in storage.list_files(address)} == {
        "index.json", *now.header.files, *now.header.previous
    }  # fmt: skip


def test_a_lock_is_renewed_as_long_as_it_is_ones_own(bucket, monkeypatch):
    monkeypatch.setattr("kinsight.indexing.lock._SETTLE_S", 0.01)
    monkeypatch.setattr("kinsight.indexing.lock._RENEW_S", 0.05)
    place = storage.Address.parse(f"{bucket}/indexes/first")
    with writing(place) as lock:
        first = json.loads(storage.read_text(place.child(NAME)))
        until = time.monotonic() + 20
        while (now := json.loads(storage.read_text(place.child(NAME)))) == first and time.monotonic() < until:
            time.sleep(0.02)
        assert now["token"] == first["token"] and now["time"] > first["time"]
        other = json.dumps({"token": "x", "time": time.time(), "writer": "process 1 elsewhere"})
        storage.write_text(place.child(NAME), other)
        time.sleep(0.5)
        assert not lock.is_ours
        storage.write_text(place.child(NAME), other)  # should a renewal have been under way
        time.sleep(0.3)
        assert storage.read_text(place.child(NAME)) == other
    assert storage.read_text(place.child(NAME)) == other


def test_indexes_in_object_storage_are_compacted_and_merged(tmp_path, bucket):
    whole_ND = grouped(900)
    for name, start, stop in (("a", 0, 600), ("b", 600, 900)):
        emb = store(tmp_path / name, whole_ND[start:stop], first=start)
        spec = {"embeddings": str(emb), "output": f"{bucket}/indexes/{name}", "id_column": "uri"}
        build(spec | {"index": {"kind": "hnsw"}})
    delete({"index": f"{bucket}/indexes/a", "ids": [f"images/{row}.png" for row in range(200)]})
    old = Index.open(f"{bucket}/indexes/a")
    compact({"index": f"{bucket}/indexes/a"})
    merge({"indexes": [f"{bucket}/indexes/a", f"{bucket}/indexes/b"], "output": f"{bucket}/indexes/c"})
    merge({"indexes": [f"{bucket}/indexes/a", f"{bucket}/indexes/b"], "output": str(tmp_path / "local")})
    for address, count, kept in ((f"{bucket}/indexes/a", 400, 2), (f"{bucket}/indexes/c", 700, 1)):
        index = Index.open(address)
        assert (len(index), index.num_rows) == (count, count)
        names = {entry.relative for entry in storage.list_files(address)}
        assert names == {"index.json", *index.header.files, *index.header.previous}
        assert len({name.split("-g")[1][:6] for name in names - {"index.json"}}) <= kept + 1
    remote, local = (Index.open(place).search(queries(), 10) for place in (f"{bucket}/indexes/c", tmp_path / "local"))
    assert torch.equal(remote.row_QK, local.row_QK)
    assert torch.equal(remote.similarity_QK, local.similarity_QK)
    _, expected_QK = topk(queries(), torch.from_numpy(whole_ND[200:]), 10)
    assert (remote.row_QK == expected_QK).float().mean() > 0.95
    assert len(old) == 400  # who has it open keeps it
    assert old.search(queries(), 3).row_QK.min() >= 200


def test_all_kinds_are_listed():
    from kinsight.specs.fields import settings
    from kinsight.specs.index import IndexBuild

    kinds = next(setting.tag_of for setting in settings(IndexBuild) if setting.name == "index.kind")
    assert tuple(kinds) == (*KINDS, "learned")
