"""Build, add, delete, info: what an index then holds, and what each refuses."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from index_cases import KINDS, METRICS, built, grouped, queries, store

from kinsight.cli import main
from kinsight.errors import DataError, RunError, SpecError
from kinsight.indexing import Index, add, build, delete, info
from kinsight.indexing.items import Items
from kinsight.indexing.lock import writing
from kinsight.neighbors import topk
from kinsight.storage import Address


def test_items_carry_ids_labels_addresses_and_further_columns(tmp_path):
    extra = {"sku": [f"A-{row:04}" for row in range(1000)], "price": [row / 4 for row in range(1000)]}
    emb = store(tmp_path / "emb", grouped(1000), extra=extra)
    build({"embeddings": str(emb), "output": str(tmp_path / "index"), "id_column": "sku"})
    index = Index.open(tmp_path / "index")
    assert (len(index), index.num_rows, index.dim, index.kind, index.metric) == (1000, 1000, 24, "flat", "cosine")
    assert (index.model, index.model_hash, index.version) == ("runs/first", "a" * 64, 1)
    assert index.columns == ("price",)
    rows = index.rows_of(["A-0999", "A-0001", "A-0705"])
    assert rows.tolist() == [999, 1, 705]
    assert index.items(rows).to_pylist() == [
        {"id": "A-0999", "label": "cat", "uri": "images/999.png", "price": 249.75},
        {"id": "A-0001", "label": "dog, big", "uri": "images/1.png", "price": 0.25},
        {"id": "A-0705", "label": "cat | dog, big", "uri": "images/705.png", "price": 176.25},
    ]
    assert index.items([]).num_rows == 0


def test_an_unusable_vector_is_named_by_its_row_in_the_file(tmp_path):
    index = built(tmp_path, grouped(40))
    more_ND = grouped(30, seed=4)
    for fault, said in ((np.nan, "holds NaN or infinity"), (0, "is a zero vector")):
        more_ND[17] = fault
        np.save(tmp_path / "more.npy", more_ND)
        with pytest.raises(DataError, match=rf"more\.npy: row 17: the vector of item 57 {said}"):
            add({"index": str(index.address), "embeddings": str(tmp_path / "more.npy")})
        with pytest.raises(DataError, match=rf"more\.npy: row 17: the vector {said}"):
            build({"embeddings": str(tmp_path / "more.npy"), "output": str(tmp_path / "other")})
    assert Index.open(index.address).version == 1


def test_the_row_is_that_of_the_file_where_others_are_skipped(tmp_path):
    emb = store(tmp_path / "emb", grouped(40), extra={"sku": [f"s{row}" for row in range(40)]})
    build({"embeddings": str(emb), "output": str(tmp_path / "index"), "id_column": "sku"})
    more_ND = grouped(30, seed=4)
    more_ND[17] = np.nan
    more = store(tmp_path / "more", more_ND, extra={"sku": [f"s{row}" for row in range(30, 60)]})
    with pytest.raises(DataError, match=r"more: row 17: the vector of item 's47' .*holds NaN"):
        add({"index": str(tmp_path / "index"), "embeddings": str(more), "on_duplicate": "skip"})


def test_default_ids_are_running_numbers_that_an_addition_goes_on_with(tmp_path):
    index = built(tmp_path, grouped(40))
    np.save(tmp_path / "more.npy", grouped(5, seed=4))
    add({"index": str(tmp_path / "index"), "embeddings": str(tmp_path / "more.npy")})
    grown = Index.open(tmp_path / "index")
    assert grown.items(np.arange(38, 45))["id"].to_pylist() == list(range(38, 45))
    assert grown.rows_of([44, "43"]).tolist() == [44, 43]
    assert (index.version, grown.version, len(index), len(grown)) == (1, 2, 40, 45)


@pytest.mark.parametrize("name", ["id", "uri"])
def test_ids_from_the_embeddings_own_columns(tmp_path, name):
    emb = store(tmp_path / "emb", grouped(30), first=500)
    build({"embeddings": str(emb), "output": str(tmp_path / "index"), "id_column": name})
    wanted = {"id": 507, "uri": "images/507.png"}[name]
    assert Index.open(tmp_path / "index").rows_of([wanted]).tolist() == [7]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_additions_and_deletions_are_as_if_built_at_once(tmp_path, kind, metric):
    vector_ND = grouped(2500)
    emb = store(tmp_path / "emb", vector_ND[:2000])
    build(
        {
            "embeddings": str(emb),
            "output": str(tmp_path / "index"),
            "metric": metric,
            "id_column": "id",
            "index": {"kind": kind},
        }
    )
    for number, (start, stop) in enumerate([(2000, 2300), (2300, 2310), (2310, 2500)]):
        more = store(tmp_path / f"more{number}", vector_ND[start:stop], first=start)
        add({"index": str(tmp_path / "index"), "embeddings": str(more)})
        delete({"index": str(tmp_path / "index"), "ids": [str(start), str(number)]})
    index = Index.open(tmp_path / "index")
    gone = [2000, 2300, 2310, 0, 1, 2]
    assert (len(index), index.num_rows, index.version) == (2494, 2500, 7)
    assert index.dead_rows().tolist() == sorted(gone)
    assert np.flatnonzero(~index.live_rows(np.arange(2500))).tolist() == sorted(gone)
    assert (index.is_live(2300), index.is_live(2301), index.live_rows([]).tolist()) == (False, True, [])
    for outside in (-1, 2500):
        with pytest.raises(SpecError, match="numbered from 0 to 2499"):
            index.is_live(outside)
    assert [part.rows for part in index.header.segments] == [2000, 300, 200]
    assert torch.equal(index.vectors(np.arange(2500)), torch.from_numpy(vector_ND))
    assert index.items([2305, 3])["uri"].to_pylist() == ["images/2305.png", "images/3.png"]
    live_M = np.setdiff1d(np.arange(2500), gone)
    _, among_QK = topk(queries(), torch.from_numpy(vector_ND[live_M]), 10, metric=metric)
    expected = [set(row) for row in live_M[among_QK.numpy()].tolist()]
    found = [set(row) for row in index.search(queries(), 10).row_QK.tolist()]
    shares = [len(one & other) / 10 for one, other in zip(expected, found, strict=True)]
    assert np.mean(shares) >= (1 if kind == "flat" else 0.95)


def test_repeated_ids_are_refused_replaced_or_skipped(tmp_path):
    index, vector_ND = str(tmp_path / "index"), grouped(900)
    emb = store(tmp_path / "emb", vector_ND[:800], extra={"sku": [f"s{row}" for row in range(800)]})
    build({"embeddings": str(emb), "output": index, "id_column": "sku"})
    more = store(tmp_path / "more", vector_ND[800:], extra={"sku": [f"s{row}" for row in (*range(750, 849), 848)]})
    with pytest.raises(DataError, match=r"'s750', 's751', .* and 46 more: in the index already, or given twice"):
        add({"index": index, "embeddings": str(more)})
    assert Index.open(index).version == 1
    add({"index": index, "embeddings": str(more), "on_duplicate": "skip"})
    skipped = Index.open(index)
    assert (len(skipped), skipped.num_rows) == (849, 849)
    assert torch.equal(skipped.vectors(skipped.rows_of(["s760", "s848"])), torch.from_numpy(vector_ND[[760, 898]]))
    add({"index": index, "embeddings": str(more), "on_duplicate": "replace"})
    replaced = Index.open(index)
    assert (len(replaced), replaced.num_rows) == (849, 948)
    assert torch.equal(replaced.vectors(replaced.rows_of(["s760", "s848"])), torch.from_numpy(vector_ND[[810, 899]]))
    assert replaced.search(torch.from_numpy(vector_ND[760:761]), 1).similarity_QK.item() < 0.9999
    twice = store(tmp_path / "twice", vector_ND[:3], extra={"sku": ["a", "b", "a"]})
    with pytest.raises(DataError, match="'a': given twice"):
        build({"embeddings": str(twice), "output": str(tmp_path / "other"), "id_column": "sku"})
    empty = store(tmp_path / "empty", vector_ND[:3], extra={"sku": ["a", None, "c"]})
    with pytest.raises(DataError, match="empty for vector 1"):
        build({"embeddings": str(empty), "output": str(tmp_path / "other"), "id_column": "sku"})
    assert not (tmp_path / "other" / "index.json").exists()


def test_embeddings_that_do_not_belong_are_refused(tmp_path):
    emb = store(tmp_path / "emb", grouped(50), normalized=True)
    for metric in METRICS:
        build({"embeddings": str(emb), "output": str(tmp_path / metric), "metric": metric})
    other = store(tmp_path / "other", grouped(20), model="runs/second", model_hash="b" * 64)
    with pytest.raises(DataError, match="made by runs/second, the index by runs/first"):
        add({"index": str(tmp_path / "cosine"), "embeddings": str(other)})
    np.save(tmp_path / "bare.npy", grouped(20))
    with pytest.raises(DataError, match="made by a tool that names no model, the index by runs/first"):
        add({"index": str(tmp_path / "cosine"), "embeddings": str(tmp_path / "bare.npy")})
    short = store(tmp_path / "short", grouped(20, dim=12))
    with pytest.raises(DataError, match="length 12, the index holds 24"):
        add({"index": str(tmp_path / "cosine"), "embeddings": str(short)})
    raw = store(tmp_path / "raw", grouped(20), normalized=False)
    for metric in ("ip", "l2"):
        with pytest.raises(DataError, match=r"vectors as they came out .* the index holds them of unit length"):
            add({"index": str(tmp_path / metric), "embeddings": str(raw)})
    add({"index": str(tmp_path / "cosine"), "embeddings": str(raw)})
    assert len(Index.open(tmp_path / "cosine")) == 70


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_none_are_named(tmp_path, bad):
    vector_ND = grouped(900)
    vector_ND[777, 3] = bad
    emb = store(tmp_path / "emb", vector_ND)
    with pytest.raises(DataError, match=r"row 777: the vector \(images/777.png\) holds NaN or infinity"):
        build({"embeddings": str(emb), "output": str(tmp_path / "index")})
    vector_ND[777] = 0
    zero = store(tmp_path / "zero", vector_ND)
    with pytest.raises(DataError, match=r"row 777: the vector \(images/777.png\) is a zero vector"):
        build({"embeddings": str(zero), "output": str(tmp_path / "index")})
    assert not (tmp_path / "index").exists()
    build({"embeddings": str(zero), "output": str(tmp_path / "index"), "metric": "l2"})


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"kind": "ivf", "lists": 301}, "lists=301: more cells than the 300 vectors"),
        ({"kind": "ivf", "lists": 8, "nprobe": 9}, "nprobe=9: must be at most index.lists=8"),
        ({"kind": "ivf", "nprobe": 200}, "nprobe=200: more than the 7 cells"),
        ({"kind": "ivf", "train_vectors": 400}, "train_vectors=400: there are 300"),
        ({"kind": "ivf-pq", "subvectors": 7}, "does not divide the vectors' length 24"),
        ({"kind": "ivf-pq", "bits": 9}, "need 512 vectors to learn from, there are 300"),
        ({"kind": "flat", "m": 8}, "flat has no such setting; it belongs to index hnsw"),
        ({"kind": "hnsw", "nprobe": 8}, "hnsw has no such setting"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, index, said):
    np.save(tmp_path / "v.npy", grouped(300))
    with pytest.raises(SpecError, match=said):
        build({"embeddings": str(tmp_path / "v.npy"), "output": str(tmp_path / "index"), "index": index})
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("count", [1, 2, 17, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_few_vectors_are_enough_unless_said_otherwise(tmp_path, kind, count):
    if kind == "ivf-pq" and count < 16:
        with pytest.raises(SpecError, match="codes of 4 bits need 16 vectors"):
            built(tmp_path, grouped(count), index={"kind": kind})
        return
    index = built(tmp_path, grouped(count), index={"kind": kind})
    assert (index.search(queries(), count).row_QK >= 0).all()


def test_columns_are_chosen_checked_and_left_out_where_results_need_the_name(tmp_path, capsys):
    extra = {"rank": [1, 2, 3], "tags": [["a"], [], ["b", "c"]], "raw": [b"1", b"2", b"3"]}
    emb = store(tmp_path / "emb", grouped(3), extra=extra)
    build({"embeddings": str(emb), "output": str(tmp_path / "index")})
    assert Index.open(tmp_path / "index").columns == ("tags",)
    said = capsys.readouterr().err
    assert "'rank' is left out" in said
    assert "'raw' is left out: it holds binary" in said
    build({"embeddings": str(emb), "output": str(tmp_path / "none"), "columns": []})
    assert Index.open(tmp_path / "none").columns == ()
    for name, words in {"nope": "has no column 'nope'; it has id, rank, tags, raw, uri", "rank": "results use"}.items():
        with pytest.raises(SpecError, match=words):
            build({"embeddings": str(emb), "output": str(tmp_path / "x"), "columns": [name]})
    with pytest.raises(SpecError, match="ids are integers or strings"):
        build({"embeddings": str(emb), "output": str(tmp_path / "x"), "id_column": "tags"})


def test_an_index_is_replaced_only_on_request(tmp_path):
    built(tmp_path, grouped(30))
    spec = {"embeddings": str(tmp_path / "index.npy"), "output": str(tmp_path / "index"), "metric": "l2"}
    with pytest.raises(SpecError, match="holds an index"):
        build(spec)
    old = Index.open(tmp_path / "index")
    build(spec, overwrite=True)
    assert (old.metric, Index.open(tmp_path / "index").metric) == ("cosine", "l2")
    assert Index.open(tmp_path / "index").version == 2
    assert old.search(queries(), 3).row_QK.shape == (30, 3)
    (tmp_path / "index" / "index.json").write_text("{")
    build(spec, overwrite=True)
    assert Index.open(tmp_path / "index").version == 3


def test_unknown_ids_are_named_with_the_nearest(tmp_path):
    emb = store(tmp_path / "emb", grouped(50), extra={"sku": [f"bolt-{row}" for row in range(50)]})
    build({"embeddings": str(emb), "output": str(tmp_path / "index"), "id_column": "sku"})
    with pytest.raises(DataError, match=r"no item 'bolt-4x', 'nut'") as caught:
        Index.open(tmp_path / "index").rows_of(["bolt-1", "bolt-4x", "nut"])
    assert "did you mean 'bolt-4" in str(caught.value)
    with pytest.raises(DataError, match="no item 'bolt-99'"):
        delete({"index": str(tmp_path / "index"), "ids": ["bolt-99"]})
    (tmp_path / "gone.txt").write_text("bolt-99\nbolt-3\n\nbolt-3\n")
    delete({"index": str(tmp_path / "index"), "ids_file": str(tmp_path / "gone.txt"), "missing": "ignore"})
    index = Index.open(tmp_path / "index")
    assert len(index) == 49
    with pytest.raises(DataError, match="bolt-3"):
        index.rows_of(["bolt-3"])
    numbers = built(tmp_path / "n", grouped(30))
    with pytest.raises(DataError, match="the ids of this index are numbers"):
        numbers.rows_of(["x"])
    with pytest.raises(DataError, match="did you mean 29"):
        numbers.rows_of([31])
    with pytest.raises(DataError, match="no item"):
        numbers.rows_of([2**70])


def test_one_writer_at_a_time(tmp_path):
    built(tmp_path, grouped(30))
    with writing(Address.parse(tmp_path / "index")):
        with pytest.raises(RunError, match=r"is being written by process \d+ on"):
            delete({"index": str(tmp_path / "index"), "ids": ["3"]})
        assert len(Index.open(tmp_path / "index")) == 30
    delete({"index": str(tmp_path / "index"), "ids": ["3"]})


def test_a_write_that_fails_leaves_the_index_as_it_was(tmp_path):
    built(tmp_path, grouped(60), index={"kind": "hnsw"})
    before = {path.name for path in (tmp_path / "index").iterdir()}
    bad = grouped(20)
    bad[19] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(DataError, match="holds NaN"):
        add({"index": str(tmp_path / "index"), "embeddings": str(tmp_path / "bad.npy")})
    assert {path.name for path in (tmp_path / "index").iterdir()} == before
    assert len(Index.open(tmp_path / "index")) == 60


def test_the_command_line_builds_adds_deletes_and_informs(tmp_path, capsys):
    emb = store(tmp_path / "emb", grouped(100))
    index = str(tmp_path / "index")
    assert main(["index", "build", str(emb), "--output", index, "--index.kind", "ivf", "--id-column", "id"]) == 0
    assert main(["index", "build", str(emb), "--output", index]) == 2
    assert main(["index", "build", str(emb), "--output", index, "--overwrite", "--id-column", "id"]) == 0
    more = store(tmp_path / "more", grouped(7), first=100)
    assert main(["index", "add", index, str(more)]) == 0
    assert main(["index", "add", index, str(more)]) == 3
    assert main(["index", "delete", index, "3", "106"]) == 0
    assert main(["index", "delete", index]) == 2
    capsys.readouterr()
    assert main(["index", "info", index]) == 0
    shown = capsys.readouterr().out
    assert "items       105" in shown
    assert "generation  4" in shown
    found = info({"index": index})
    assert (found["items"], found["deleted"], found["ids"], found["model"]) == (105, 2, "id", "runs/first")
    stored = json.loads((tmp_path / "index" / "index.json").read_text())
    assert stored["spec"]["embeddings"] == str(emb)


def test_labels_of_many_kinds(tmp_path):
    from kinsight.indexing.source import label_names

    labels = pa.chunked_array([pa.array([[], [0], [2, 1], [7]], pa.list_(pa.int32()))])
    assert label_names(labels, ("a", "b | c", "ü")).to_pylist() == ["", "a", "ü | b | c", "7"]
    assert label_names(labels, ()).to_pylist() == ["", "0", "2 | 1", "7"]


def test_addresses_are_compared_and_nothing_else_is_read(tmp_path, monkeypatch, capsys):
    emb = store(tmp_path / "emb", grouped(900), extra={"text": ["x" * 100] * 900})
    build({"embeddings": str(emb), "output": str(tmp_path / "index"), "columns": ["text"]})
    delete({"index": str(tmp_path / "index"), "ids": ["1"]})
    more = store(tmp_path / "more", grouped(3), extra={"text": ["y"] * 3})  # of the addresses of the first three
    taken, take = [], Items.take
    monkeypatch.setattr(Items, "take", lambda self, row_N: taken.append(len(row_N)) or take(self, row_N))
    add({"index": str(tmp_path / "index"), "embeddings": str(more)})
    assert "2 of the 3 items have addresses that are in the index already" in capsys.readouterr().err
    assert max(taken) < 10
