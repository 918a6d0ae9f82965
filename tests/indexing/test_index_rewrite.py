"""Compact and merge: what an index then holds and finds, and what each refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_cases import KINDS, METRICS, built, grouped, queries, store

from kinsight.cli import main
from kinsight.errors import DataError, SpecError
from kinsight.indexing import Index, add, build, compact, delete, merge
from kinsight.indexing.duplicates import OnDuplicate
from kinsight.partition import learn


def found(index: Index, k: int = 10) -> tuple[torch.Tensor, list[list[Any]]]:
    """Similarities and ids of the neighbours of some queries."""
    hits = index.search(queries(), k)
    ids = index.items(hits.row_QK.flatten())["id"].to_pylist()
    return hits.similarity_QK, [ids[start : start + k] for start in range(0, len(ids), k)]


def agreement(one: list[list[Any]], other: list[list[Any]]) -> float:
    return float(np.mean([len({*a} & {*b}) / len(a) for a, b in zip(one, other, strict=True)]))


def items_of(index: Index) -> list[dict[str, Any]]:
    """Items that searches find, in the order of their rows."""
    return index.items(np.setdiff1d(np.arange(index.num_rows), index.dead_rows())).to_pylist()


@pytest.fixture
def holey(tmp_path: Path) -> Path:
    """1500 flat items of an addition and a third of them deleted."""
    index = built(tmp_path, grouped(1200), metric="l2")
    np.save(tmp_path / "more.npy", grouped(300, seed=5))
    add({"index": str(index.address), "embeddings": str(tmp_path / "more.npy")})
    delete({"index": str(index.address), "ids": [str(row) for row in range(0, 1500, 3)]})
    return tmp_path / "index"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_compacted_index_finds_the_same(tmp_path: Path, kind: str, metric: str) -> None:
    extra = {"price": [row / 4 for row in range(1500)]}
    emb = store(tmp_path / "emb", grouped(1500), extra=extra)
    place = str(tmp_path / "index")
    build({"embeddings": str(emb), "output": place, "metric": metric, "id_column": "uri", "index": {"kind": kind}})
    delete({"index": place, "ids": [f"images/{row}.png" for row in range(0, 1500, 3)]})
    old, expected = Index.open(place), found(Index.open(place))
    kept = items_of(old)
    compact({"index": place})
    index = Index.open(place)
    assert (len(index), index.num_rows, index.version, len(index.header.segments)) == (1000, 1000, 3, 1)
    assert index.settings.model_dump(exclude={"train_vectors"}) == old.settings.model_dump(exclude={"train_vectors"})
    assert items_of(index) == kept
    assert torch.equal(index.vectors(np.arange(1000)), torch.from_numpy(grouped(1500)[np.arange(1500) % 3 > 0]))
    now = found(index)
    if kind == "flat":
        assert torch.equal(now[0], expected[0])
        assert now[1] == expected[1]
    assert agreement(now[1], expected[1]) > 0.95
    assert found(old)[1] == expected[1]  # who has it open keeps it


def test_running_numbers_stay_and_go_on(holey: Path, tmp_path: Path) -> None:
    compact({"index": str(holey)})
    index = Index.open(holey)
    assert index.items([0, 1, 2])["id"].to_pylist() == [1, 2, 4]
    assert index.rows_of([1499]).tolist() == [999]
    add({"index": str(holey), "embeddings": str(tmp_path / "more.npy")})
    assert Index.open(holey).items([1000])["id"].to_pylist() == [1500]


def test_compaction_says_what_it_did_and_does_nothing_twice(
    holey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = {path.name: path.stat().st_size for path in holey.iterdir()}
    before = sum(size[name] for name in Index.open(holey).header.files)
    assert main(["index", "compact", str(holey)]) == 0
    after = sum((holey / name).stat().st_size for name in Index.open(holey).header.files)
    said = capsys.readouterr().err
    assert f"500 deleted items left out: {before:,} bytes before, {after:,} now" in said
    assert after < before * 0.7
    assert main(["index", "compact", str(holey)]) == 0
    assert "nothing to do: none of its 1,000 items is deleted" in capsys.readouterr().err
    assert Index.open(holey).version == 4
    delete({"index": str(holey), "ids": ["1"]})
    assert not list(holey.glob("*-g000001.*")) and not list(holey.glob("*-g000002.*"))  # what was before it is gone


def test_an_index_of_which_nothing_is_left_stays(tmp_path: Path) -> None:
    index = built(tmp_path, grouped(5))
    delete({"index": str(index.address), "ids": [str(row) for row in range(5)]})
    with pytest.raises(SpecError, match="all of its 5 items are deleted"):
        compact({"index": str(index.address)})
    assert len(Index.open(index.address)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_few_are_left(tmp_path: Path, kind: str) -> None:
    index = built(tmp_path, grouped(1000), index={"kind": kind})
    delete({"index": str(index.address), "ids": [str(row) for row in range(1000) if row not in (3, 500, 999)]})
    compact({"index": str(index.address)})
    index = Index.open(index.address)
    assert index.header.kind == kind
    assert sorted(found(index, 3)[1][0]) == [3, 500, 999]
    add({"index": str(index.address), "embeddings": str(tmp_path / "index.npy")})
    assert len(Index.open(index.address)) == 1003


def _halves(folder: Path, metric: str = "cosine", **settings: Any) -> list[str]:
    """Two indexes of 1350 vectors together, and one of their union."""
    whole_ND = grouped(1350)
    places = []
    for name, start, stop in (("a", 0, 750), ("b", 750, 1350), ("both", 0, 1350)):
        extra = {"sku": [f"s{row}" for row in range(start, stop)], "price": [row / 4 for row in range(start, stop)]}
        emb = store(folder / f"emb-{name}", whole_ND[start:stop], first=start, extra=extra)
        spec = {"embeddings": str(emb), "output": str(folder / name), "metric": metric, "id_column": "sku"}
        build(spec | settings)
        places.append(str(folder / name))
    return places


@pytest.mark.parametrize("metric", METRICS)
def test_a_merged_index_is_that_of_the_union_bit_for_bit(tmp_path: Path, metric: str) -> None:
    a, b, both = _halves(tmp_path, metric)
    merge({"indexes": [a, b], "output": str(tmp_path / "out")})
    index, union = Index.open(tmp_path / "out"), Index.open(both)
    assert items_of(index) == items_of(union)
    (similarity, ids), (expected, expected_ids) = found(index, 50), found(union, 50)
    assert torch.equal(similarity, expected)
    assert ids == expected_ids
    parts, whole = index.header.segments[0], union.header.segments[0]
    for name in ("vectors", "norms"):
        assert index.header.files[getattr(parts, name)] == union.header.files[getattr(whole, name)]
    fields = (
        "kind",
        "metric",
        "dim",
        "rows",
        "live",
        "id_type",
        "id_column",
        "columns",
        "model",
        "model_hash",
        "normalized",
    )
    assert all(getattr(index.header, name) == getattr(union.header, name) for name in fields)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_ones_settings_are_chosen_anew_for_the_sum(tmp_path: Path, kind: str) -> None:
    a, b, both = _halves(tmp_path, index={"kind": kind})
    delete({"index": a, "ids": ["s3"]})
    delete({"index": both, "ids": ["s3"]})
    merge({"indexes": [a, b], "output": str(tmp_path / "out")})
    index, union = Index.open(tmp_path / "out"), Index.open(both)
    names = {"train_vectors"} if kind in ("ivf", "ivf-pq") else set()
    assert index.settings.model_dump(exclude=names) == union.settings.model_dump(exclude=names)
    assert agreement(found(index)[1], found(union)[1]) > 0.95
    assert (len(index), index.num_rows) == (1349, 1349)
    merge({"indexes": [b, a], "output": str(tmp_path / "flat"), "index": {"kind": "flat"}})
    assert agreement(found(index)[1], found(Index.open(tmp_path / "flat"))[1]) > 0.95


def test_settings_that_were_given_stay(tmp_path: Path) -> None:
    a, b, _ = _halves(tmp_path, index={"kind": "ivf", "lists": 17})
    merge({"indexes": [a, b], "output": str(tmp_path / "out")})
    merge({"indexes": [str(tmp_path / "out"), _other_ids(tmp_path)], "output": str(tmp_path / "again")})
    for name in ("out", "again"):
        settings: Any = Index.open(tmp_path / name).settings
        assert (settings.lists, settings.train_vectors) == (17, len(Index.open(tmp_path / name)))


def _other_ids(folder: Path) -> str:
    extra = {"sku": [f"t{row}" for row in range(100)], "price": [0.5] * 100}
    emb = store(folder / "emb-c", grouped(100, seed=8), first=5000, extra=extra)
    build({"embeddings": str(emb), "output": str(folder / "c"), "id_column": "sku"})
    return str(folder / "c")


@pytest.mark.parametrize(("policy", "wins"), [("skip", 0), ("replace", 1)])
def test_ids_that_are_in_several(tmp_path: Path, policy: OnDuplicate, wins: int) -> None:
    first_ND, second_ND = grouped(300), grouped(200, seed=4)
    places = []
    for number, (vector_ND, rows) in enumerate([(first_ND, range(300)), (second_ND, range(250, 450))]):
        emb = store(tmp_path / f"emb{number}", vector_ND, extra={"sku": [f"s{row}" for row in rows]})
        build({"embeddings": str(emb), "output": str(tmp_path / f"{number}"), "id_column": "sku"})
        places.append(str(tmp_path / f"{number}"))
    delete({"index": places[0], "ids": ["s299"]})
    spec: dict[str, Any] = {"indexes": places, "output": str(tmp_path / "out")}
    with pytest.raises(DataError, match=r"'s250', 's251', .* and 44 more: in .*/0 and in .*/1; an id names one"):
        merge(spec)
    assert not (tmp_path / "out" / "index.json").exists()
    merge(spec | {"on_duplicate": policy})
    index = Index.open(tmp_path / "out")
    assert len(index) == 450
    taken = index.vectors(index.rows_of(["s260", "s299", "s449"]))
    expected = [[first_ND[260], second_ND[10]][wins], second_ND[49], second_ND[199]]
    assert torch.equal(taken, torch.from_numpy(np.stack(expected)))
    with pytest.raises(SpecError, match=r"renumber.*: has no effect"):
        merge(spec | {"renumber": True, "output": str(tmp_path / "other")})


def test_running_numbers_clash_unless_they_are_given_anew(tmp_path: Path) -> None:
    a, b = (built(tmp_path, grouped(count, seed=seed), name=name) for name, count, seed in (("a", 60, 0), ("b", 40, 1)))
    delete({"index": str(a.address), "ids": ["7", "59"]})
    spec: dict[str, Any] = {"indexes": [str(a.address), str(b.address)], "output": str(tmp_path / "out")}
    with pytest.raises(DataError, match=r"0, 1, 2, 3, 4 and 34 more: in .*/a and in .*/b") as caught:
        merge(spec)
    assert "--renumber" in str(caught.value)
    with pytest.raises(SpecError, match=r"on_duplicate.*: has no effect: ids are running numbers"):
        merge(spec | {"on_duplicate": "skip"})
    merge(spec | {"renumber": True})
    index = Index.open(tmp_path / "out")
    ids = [*range(7), *range(8, 59), *range(60, 100)]
    assert index.live_ids().to_pylist() == ids
    assert torch.equal(index.vectors(index.rows_of([60])), b.vectors([0]))
    add({"index": str(tmp_path / "out"), "embeddings": str(tmp_path / "b.npy")})
    assert Index.open(tmp_path / "out").live_ids().to_pylist()[-40:] == list(range(100, 140))


def test_numbers_that_do_not_clash_stay(tmp_path: Path) -> None:
    a, b = built(tmp_path, grouped(10), name="a"), built(tmp_path, grouped(30, seed=1), name="b")
    delete({"index": str(b.address), "ids": [str(row) for row in range(20)]})
    merge({"indexes": [str(b.address), str(a.address)], "output": str(tmp_path / "out")})
    index = Index.open(tmp_path / "out")
    assert index.live_ids().to_pylist() == [*range(20, 30), *range(10)]
    assert index.header.next_id == 30


def test_one_of_them_may_be_replaced(tmp_path: Path) -> None:
    a, b, both = _halves(tmp_path)
    with pytest.raises(SpecError, match="holds an index"):
        merge({"indexes": [a, b], "output": a})
    old = Index.open(a)
    merge({"indexes": [a, b], "output": a}, overwrite=True)
    assert found(Index.open(a))[1] == found(Index.open(both))[1]
    assert (len(old), len(Index.open(a)), Index.open(a).version) == (750, 1350, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model": "runs/second", "model_hash": "b" * 64},
            r"runs/first \(aaaaaaaaaaaa\); .*runs/second \(bbbbbbbbbbbb\)",
        ),
        ({"model_hash": None}, "a: made by runs/first .*; .*b: by runs/first"),
        ({"dim": 12}, "a: vectors of length 24; .*b: of length 12"),
        ({"metric": "l2"}, "a: metric ip; .*b: metric l2"),
        ({"normalized": True}, "as they came out of the model; .*b: of unit length"),
        ({"id_column": None}, "a: ids are of column 'sku'; .*b: they are running numbers"),
        ({"id_column": "uri"}, "a: ids are of column 'sku'; .*b: they are of column 'uri'"),
        ({"sku": list(range(50))}, "a: ids are of type string; .*b: of type int64"),
        ({"price": ["x"] * 50}, r"a: columns price \(double\); .*b: columns price \(string\)"),
        ({"columns": []}, r"a: columns price \(double\); .*b: columns none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_indexes_that_do_not_go_together(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    for name, own in (("a", {}), ("b", change)):
        extra = {
            "sku": own.get("sku", [f"{name}{row}" for row in range(50)]),
            "price": own.get("price", [0.5] * 50),
        }
        stored = {key: own[key] for key in ("model", "model_hash", "normalized") if key in own}
        emb = store(tmp_path / f"emb-{name}", grouped(50, own.get("dim", 24)), extra=extra, **stored)
        spec = {
            "embeddings": str(emb),
            "output": str(tmp_path / name),
            "metric": "ip",
            "id_column": "sku",
            "columns": ["price"],
        }
        build(spec | {key: own[key] for key in ("metric", "id_column", "columns") if key in own})
    with pytest.raises(DataError, match=said) as caught:
        merge({"indexes": [str(tmp_path / "a"), str(tmp_path / "b")], "output": str(tmp_path / "out")})
    assert caught.value.code == "index.unlike"
    assert not (tmp_path / "out" / "index.json").exists()


def test_the_command_line_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, _ = _halves(tmp_path)
    out = str(tmp_path / "out")
    assert main(["index", "merge", a, b, "--output", out, "--index.kind", "hnsw", "--index.m", "8"]) == 0
    assert main(["index", "merge", a, b, "--output", out]) == 2
    assert main(["index", "merge", a, b, "--output", out, "--overwrite"]) == 0
    assert main(["index", "merge", a, out, "--output", str(tmp_path / "x")]) == 3
    assert main(["index", "merge", a, out, "--output", str(tmp_path / "x"), "--on-duplicate", "skip"]) == 0
    capsys.readouterr()
    assert main(["index", "merge", a, "--output", out]) == 2
    assert main(["index", "merge", a, a, "--output", out]) == 2
    assert "named twice" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(a)
    assert main(["index", "merge", a, str(tmp_path / "link"), "--output", str(tmp_path / "z")]) == 2
    assert "are the same index" in capsys.readouterr().err
    assert main(["index", "merge", a, str(tmp_path / "gone"), "--output", str(tmp_path / "y")]) != 0
    assert "no index there" in capsys.readouterr().err


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("learned")
    np.save(folder / "learn.npy", grouped(3000, seed=2))
    spec = {"lists": 16, "held_out": 300, "fit": {"epochs": 2}, "cluster": {"iterations": 4}, "device": "cpu"}
    learn({"vectors": str(folder / "learn.npy"), "output": str(folder / "partition"), **spec})
    return str(folder / "partition")


@pytest.mark.parametrize("copies", [{}, {"copies": {"budget": 0.5}}], ids=["plain", "copies"])
def test_a_learned_index_is_compacted_and_merged(tmp_path: Path, partition: str, copies: dict[str, Any]) -> None:
    settings = {"partition": partition, "index": {"payload": "flat", "recall": 0.98, **copies}}
    a, b, both = _halves(tmp_path, **settings)
    merge({"indexes": [a, b], "output": str(tmp_path / "out")})
    index = Index.open(tmp_path / "out")
    assert index.settings.model_dump() == Index.open(both).settings.model_dump()
    assert found(index)[1] == found(Index.open(both))[1]
    for place in (a, str(tmp_path / "out")):
        delete({"index": place, "ids": [f"s{row}" for row in range(0, 750, 2)]})
        before = Index.open(place)
        compact({"index": place})
        index = Index.open(place)
        assert (len(index), index.num_rows, index.kind) == (len(before), len(before), "learned")
        assert agreement(found(index)[1], found(before)[1]) > 0.9
        assert items_of(index) == items_of(before)
    extra = {"sku": [f"new{row}" for row in range(50)], "price": [0.5] * 50}
    more = store(tmp_path / "more", grouped(50, seed=11), extra=extra)
    add({"index": str(tmp_path / "out"), "embeddings": str(more)})
    assert len(Index.open(tmp_path / "out")) == 1350 - 375 + 50


def test_an_index_without_a_partition_does_not_give_one(tmp_path: Path, partition: str) -> None:
    a, b, _ = _halves(tmp_path)
    with pytest.raises(SpecError, match=r"index\.kind=learned: needs a partition, and .*/a is of kind flat"):
        merge({"indexes": [a, b], "output": str(tmp_path / "out"), "index": {"kind": "learned"}})
    _, c, _ = _halves(tmp_path / "learned", partition=partition, index={"payload": "fp16"})
    merge({"indexes": [a, c], "output": str(tmp_path / "out"), "on_duplicate": "skip"})
    assert Index.open(tmp_path / "out").kind == "flat"
