"""What users give by mistake, or in a form of their own: labels of text, wrong addresses, no room on the disk."""

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from index_cases import grouped, store

import kinsight
from kinsight.cli import main
from kinsight.errors import DataError, StorageError
from kinsight.indexing import Index, add, build
from kinsight.partition import learn

_TEXTS = ["shoe", None, "", "bag"]
_LISTS = [["shoe", "red"], None, [], ["bag", None, ""]]


def parquet(path: Path, labels: pa.Array, seed: int = 0) -> str:
    """As many vectors as labels, in a file."""
    rows = pa.array(list(grouped(len(labels), 8, seed=seed)), pa.list_(pa.float32()))
    pq.write_table(pa.table({"vector": rows, "labels": labels, "size": range(len(labels))}), path)
    return str(path)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (pa.array(_TEXTS), ["shoe", "", "", "bag"]),
        (pa.array(_TEXTS, pa.large_string()), ["shoe", "", "", "bag"]),
        (pa.array(_TEXTS).dictionary_encode(), ["shoe", "", "", "bag"]),
        (pa.array(_LISTS), ["shoe | red", "", "", "bag"]),
        (pa.array(_LISTS, pa.large_list(pa.large_string())), ["shoe | red", "", "", "bag"]),
        (pa.array([["a", "b"]] * 4, pa.list_(pa.string(), 2)), ["a | b"] * 4),
        (pa.array([7, None, 0, 2]), ["7", "", "0", "2"]),
        (pa.array([[7, None], None, [], [2, 3]]), ["7", "", "", "2 | 3"]),
        (pa.nulls(4), [""] * 4),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_of_text(tmp_path, labels, shown):
    place = parquet(tmp_path / "v.parquet", labels)
    build({"embeddings": place, "output": str(tmp_path / "index")})
    more = parquet(tmp_path / "more.parquet", labels, seed=1)
    add({"index": str(tmp_path / "index"), "embeddings": more})
    index = Index.open(tmp_path / "index")
    assert index.items(np.arange(8))["label"].to_pylist() == shown * 2


def test_text_labels_are_filtered_by(tmp_path):
    labels = pa.array([["shoe", "red"] if row % 2 else ["bag"] for row in range(3000)])
    place = parquet(tmp_path / "v.parquet", labels)
    learn({"vectors": place, "output": str(tmp_path / "part"), "lists": 8, "held_out": 200, "device": "cpu"})
    build({"embeddings": place, "output": str(tmp_path / "index"), "partition": str(tmp_path / "part"), "columns": []})
    found = kinsight.search({"index": str(tmp_path / "index"), "ids": ["2"], "where": ["label=red"]})
    assert found["label"].to_pylist() == ["shoe | red"] * 10 and "size" not in found.column_names


def test_labels_that_are_none_are_named(tmp_path):
    place = parquet(tmp_path / "v.parquet", pa.array([0.5, 1.5]))
    with pytest.raises(DataError, match="'labels' holds double, not text or integers, or lists of them"):
        build({"embeddings": place, "output": str(tmp_path / "index")})


def test_addresses_that_hold_something_else(tmp_path, capsys):
    emb = str(store(tmp_path / "emb", grouped(60)))
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "v.npy", grouped(3))
    words = ["index", "build", emb, "--output", str(tmp_path / "index"), "--partition"]
    for place, code, said in (
        ("empty", 3, "holds no partition: partition.json is missing"),
        ("v.npy", 3, "is a file, and a partition is a folder"),
        ("none", 1, "no partition there"),
    ):
        assert main([*words, str(tmp_path / place)]) == code
        told = capsys.readouterr().err
        assert f"partition={tmp_path / place}: {said}" in told and "learn one: kinsight partition VECTORS" in told
    for place, code, said in (
        ("empty", 3, "there is no index"),
        ("v.npy", 3, "is a file, and an index is a folder"),
        ("none", 1, "no index there"),
    ):
        assert main(["index", "info", str(tmp_path / place)]) == code
        assert said in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_no_room_for_a_graph_is_said_as_of_other_files(tmp_path, monkeypatch):
    np.save(tmp_path / "v.npy", grouped(3000, 4))
    spec = {"embeddings": str(tmp_path / "v.npy"), "output": str(tmp_path / "index"), "index": {"kind": "hnsw"}}
    before = build(spec | {"index": {"kind": "flat"}})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))  # vectors fit, the graph does not
    try:
        with pytest.raises(StorageError, match="the file system cannot hold a file of this size") as caught:
            build(spec, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    text = str(caught.value)
    assert "MB are free there" in text and "the index is as it was before" in text and "faiss" not in text.split(":")[1]
    index = Index.open(before)
    assert index.kind == "flat" and index.search(torch.from_numpy(grouped(1, 4)), 1).row_QK.shape == (1, 1)


def test_a_refused_build_leaves_what_was_there(tmp_path):
    vector_ND = grouped(60)
    vector_ND[3] = np.inf
    np.save(tmp_path / "v.npy", vector_ND)
    for output, left in (("new/index", []), ("mine", ["note.txt"])):
        if left:
            (tmp_path / "mine").mkdir()
            (tmp_path / "mine" / "note.txt").write_text("mine")
        with pytest.raises(DataError, match="row 3: the vector holds NaN"):
            build({"embeddings": str(tmp_path / "v.npy"), "output": str(tmp_path / output)})
        assert [path.name for path in (tmp_path / output).glob("*")] == left
    assert not (tmp_path / "new").exists()
