"""Indexes of learned partitions: what they find beside an exact search, by payload, rule of copies and metric."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.indexing import Index, add, build, compact, delete
from kinsight.indexing.learned import Learned
from kinsight.indexing.untyped import faiss
from kinsight.neighbors import topk
from kinsight.partition import learn

ROWS, DIM, LISTS = 4000, 24, 40


def vectors(number: int, seed: int) -> np.ndarray:
    """A mixture in fewer dimensions than it has."""
    random = np.random.default_rng(seed)
    shape = np.random.default_rng(99)
    centre, axes = shape.normal(size=(60, 10)), shape.normal(size=(10, DIM))
    which = random.integers(60, size=number)
    inner = centre[which] + 0.4 * random.normal(size=(number, 10))
    return (inner @ axes + 0.05 * random.normal(size=(number, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    np.save(folder / "base.npy", vectors(ROWS, 0))
    np.save(folder / "more.npy", vectors(500, 1))
    for metric in ("l2", "cosine", "ip"):
        learn(
            {
                "vectors": str(folder / "base.npy"),
                "output": str(folder / metric),
                "metric": metric,
                "lists": LISTS,
                "held_out": 400,
                "fit": {"epochs": 5},
                "cluster": {"iterations": 8},
                "device": "cpu",
                "components": 12,
            }
        )
    return folder


def built(made: Path, output: Path, metric: str = "l2", **index: Any) -> Index:
    spec = {"embeddings": str(made / "base.npy"), "partition": str(made / metric), "output": str(output)}
    return Index.open(build(spec | {"index": index}, overwrite=True))


def queries(number: int = 200) -> torch.Tensor:
    return torch.from_numpy(vectors(number, 2))


def lists_of(index: Index) -> Learned:
    assert isinstance(index.structure, Learned)
    return index.structure


def recall_of(row_QK: torch.Tensor, true_QK: torch.Tensor) -> float:
    return float((row_QK[:, :, None] == true_QK[:, None, :]).any(2).float().mean())


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("payload", ["flat", "fp16", "sq8", "pq", "fastscan", "rabitq"])
def test_the_recall_asked_for_is_found(metric: str, payload: str, made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", metric, payload=payload, recall=0.9)
    hits = index.search(queries(), 10)
    similarity_QK, true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 10, metric=metric)
    assert recall_of(hits.row_QK, true_QK) > 0.87
    same = hits.row_QK == true_QK
    torch.testing.assert_close(hits.similarity_QK[same], similarity_QK[same], rtol=1e-4, atol=1e-4)
    assert (hits.similarity_QK[:, :-1] >= hits.similarity_QK[:, 1:]).all()


@pytest.mark.parametrize("rule", ["misses", "ratio", "probability", "soar", "air"])
def test_copies_are_within_the_budget_and_never_found_twice(rule: str, made: Path, tmp_path: Path) -> None:
    plain = built(made, tmp_path / "plain", nprobe=1, payload="flat", refine=8)
    index = built(made, tmp_path / "index", nprobe=1, payload="flat", refine=8, copies={"rule": rule, "budget": 0.5})
    entries = int(lists_of(index).entries_L.sum())
    assert entries == round(1.5 * ROWS) or (rule == "misses" and entries > 1.4 * ROWS)  # not so many are missed
    hits = index.search(queries(), 20)
    assert all(len(set(rows)) == 20 for rows in hits.row_QK.tolist())
    true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 20, metric="l2")[1]
    assert recall_of(hits.row_QK, true_QK) > recall_of(plain.search(queries(), 20).row_QK, true_QK) + 0.02


def test_levels_cost_more_the_more_they_find(made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", recall=0.97)
    levels = lists_of(index).settings.levels
    assert [level.recall for level in levels] == sorted({0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995})
    assert all(one.cost <= other.cost for one, other in pairwise(levels))
    assert all(level.reached >= level.recall for level in levels)
    true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 10, metric="l2")[1]
    low, high = (recall_of(index.at(asked).search(queries(), 10).row_QK, true_QK) for asked in (0.8, 0.99))
    assert low < high and high > 0.98
    with pytest.raises(SpecError, match="no settings that reach it"):
        index.at(0.9999)


def test_settings_given_are_used(made: Path, tmp_path: Path) -> None:
    few = built(made, tmp_path / "few", nprobe=2, refine=2)
    assert (few.settings.nprobe, few.settings.refine, few.settings.recall) == (2, 2.0, None)
    list_QP = lists_of(few).looked_through(queries().numpy(), 20, 1, None).list_QP
    assert list_QP.shape == (200, 2) and (list_QP >= 0).all()
    mass = built(made, tmp_path / "mass", mass=0.6)
    counts = (lists_of(mass).looked_through(queries().numpy(), 20, 1, None).list_QP >= 0).sum(1)
    assert counts.min() >= 1 and counts.max() > counts.min()  # as many as each query needs
    more = built(made, tmp_path / "more", mass=0.95)
    assert (lists_of(more).looked_through(queries().numpy(), 20, 1, None).list_QP >= 0).sum() > counts.sum()


def test_a_query_stops_by_mass_also_where_rows_were_deleted(made: Path, tmp_path: Path) -> None:
    def looked_into() -> int:
        index = Index.open(tmp_path / "index")
        return int((lists_of(index).looked_through(queries().numpy(), 20, 1, None).list_QP >= 0).sum())

    built(made, tmp_path / "index", mass=0.6)
    before = looked_into()
    delete({"index": str(tmp_path / "index"), "ids": ["0"]})
    assert looked_into() <= 1.02 * before
    delete({"index": str(tmp_path / "index"), "ids": [str(row) for row in range(1, int(0.6 * ROWS))]})
    assert looked_into() > 2 * before  # of few rows the nearest lie further away than the router expects
    assert Index.open(tmp_path / "index").settings.nprobe == max(8, LISTS // 4)


def test_all_lists_are_exact(made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", nprobe=LISTS, refine=50, copies={"budget": 1.0})
    similarity_QK, true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 10, metric="l2")
    hits = index.search(queries(), 10)
    assert torch.equal(hits.row_QK, true_QK)
    torch.testing.assert_close(hits.similarity_QK, similarity_QK, rtol=1e-5, atol=1e-4)
    assert torch.equal(index.search(queries(3), ROWS + 5).row_QK[:, ROWS:], torch.full((3, 5), -1))


@pytest.mark.parametrize("payload", ["sq8", "fastscan"])
def test_added_found_and_deleted_gone(payload: str, made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", payload=payload, recall=0.95, copies={"budget": 0.3})
    add({"index": str(tmp_path / "index"), "embeddings": str(made / "more.npy")})
    grown = Index.open(tmp_path / "index")
    assert len(index) == ROWS and len(grown) == ROWS + 500
    assert int(lists_of(grown).entries_L.sum()) == round(1.3 * ROWS) + round(1.3 * 500)
    own = torch.from_numpy(np.load(made / "more.npy"))
    assert (grown.search(own, 1).row_QK[:, 0] == torch.arange(ROWS, ROWS + 500)).float().mean() > 0.97
    delete({"index": str(tmp_path / "index"), "ids": [str(row) for row in range(ROWS, ROWS + 500)]})
    shrunk = Index.open(tmp_path / "index")
    hits = shrunk.search(own, 10)
    assert int(hits.row_QK.min()) >= 0 and int(hits.row_QK.max()) < ROWS


@pytest.mark.parametrize("payload", ["sq8", "flat", "fp16", "pq", "rabitq"])
def test_mapped_lists_are_the_same(payload: str, made: Path, tmp_path: Path) -> None:
    built(made, tmp_path / "index", payload=payload, nprobe=8, refine=4)
    read, mapped = Index.open(tmp_path / "index"), Index.open(tmp_path / "index", mapped=True)
    assert [in_memory(index) for index in (read, mapped)] == [True, False]
    here, there = read.search(queries(), 10), mapped.search(queries(), 10)
    assert torch.equal(here.row_QK, there.row_QK) and torch.equal(here.similarity_QK, there.similarity_QK)


def in_memory(index: Index) -> bool:
    """Whether the codes of the first list were read, and not left in the file."""
    return bool(faiss.downcast_InvertedLists(lists_of(index).faiss.invlists).codes.at(0).is_owned)


def test_mapping_without_effect_is_refused(made: Path, tmp_path: Path) -> None:
    built(made, tmp_path / "codes", payload="fastscan", nprobe=8)
    build({"embeddings": str(made / "base.npy"), "output": str(tmp_path / "flat")})
    for name, match in (("codes", "payload fastscan"), ("flat", "neither lists nor a graph")):
        with pytest.raises(SpecError, match=f"mapped: has no effect: .*{match}"):
            Index.open(tmp_path / name, mapped=True)


def test_filters_find_what_fits_and_only_that(made: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    base_ND = vectors(ROWS, 0)
    vector = pa.FixedSizeListArray.from_arrays(pa.array(base_ND.ravel()), DIM)
    shop = pa.array([("north", "south", "east")[row % 3] for row in range(ROWS)])
    size = pa.array(np.arange(ROWS) // 1000)
    pq.write_table(pa.table({"vector": vector, "shop": shop, "size": size}), tmp_path / "v.parquet")
    spec = {"embeddings": str(tmp_path / "v.parquet"), "partition": str(made / "l2"), "index": {"recall": 0.95}}
    index = Index.open(build(spec | {"output": str(tmp_path / "index")}))
    for where, kept_N in (
        ({"shop": "north"}, np.arange(ROWS) % 3 == 0),
        ({"shop": ["north", "east"], "size": 2}, (np.arange(ROWS) % 3 != 1) & (np.arange(ROWS) // 1000 == 2)),
    ):
        found = index.where(where)
        assert len(found) == kept_N.sum() and len(index) == ROWS
        row_QK = found.search(queries(), 10).row_QK
        assert kept_N[row_QK.numpy()].all()
        among_QK = topk(queries(), torch.from_numpy(base_ND[kept_N]), 10, metric="l2")[1]
        true_QK = torch.from_numpy(np.flatnonzero(kept_N))[among_QK]
        assert recall_of(row_QK, true_QK) > 0.8
    assert len(index.where({"shop": "west"})) == 0
    assert (index.where({"shop": "west"}).search(queries(2), 3).row_QK == -1).all()
    with pytest.raises(SpecError, match="no column"):
        index.where({"colour": "red"})
    with pytest.raises(DataError, match="size"):
        index.where({"size": "large"})


def test_wrong_partitions_and_settings(made: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones((500, DIM + 1), np.float32))
    base = {"embeddings": str(made / "base.npy"), "partition": str(made / "l2"), "output": str(tmp_path / "index")}
    cases = [
        (base | {"embeddings": str(tmp_path / "wide.npy")}, DataError, "length 25"),
        (base | {"metric": "cosine"}, SpecError, "learned for l2"),
        (base | {"partition": str(tmp_path / "none")}, KinsightError, "no partition there"),
        (base | {"index": {"kind": "flat"}}, SpecError, "has no effect"),
        (base | {"partition": None, "index": {"kind": "learned"}}, SpecError, "needs a partition"),
        (base | {"index": {"recall": 0.9, "nprobe": 4}}, SpecError, "give it or them"),
        (base | {"index": {"nprobe": LISTS + 1}}, SpecError, "40 lists"),
        (base | {"index": {"copies": {"rule": "soar"}}}, SpecError, "budget is 0"),
        (base | {"index": {"payload": "sq8", "subvectors": 4}}, SpecError, "no product codes"),
        (base | {"index": {"payload": "pq", "subvectors": 5}}, SpecError, "does not divide"),
    ]  # fmt: skip
    for spec, kind, match in cases:
        with pytest.raises(kind, match=match):
            build(spec)
        assert not (tmp_path / "index" / "index.json").exists()
    flat = Index.open(build({"embeddings": str(made / "base.npy"), "output": str(tmp_path / "flat")}))
    with pytest.raises(SpecError, match="no effect"):
        flat.at(0.9)


@pytest.mark.parametrize(("payload", "least"), [("pq", 256), ("fastscan", 16), ("sq8", 1), ("rabitq", 1)])
def test_codes_need_vectors_to_learn_from(payload: str, least: int, made: Path, tmp_path: Path) -> None:
    index = {"payload": payload, "nprobe": LISTS, "refine": 100}
    spec = {"partition": str(made / "l2"), "output": str(tmp_path / "index"), "index": index}
    np.save(tmp_path / "few.npy", vectors(least, 0)[: least - 1])
    np.save(tmp_path / "enough.npy", vectors(least, 0))
    if least > 1:
        with pytest.raises(
            SpecError, match=rf"payload={payload}: its codes need {least} vectors .* there are {least - 1}"
        ):
            build(spec | {"embeddings": str(tmp_path / "few.npy")})
        assert not (tmp_path / "index").exists()
    found = Index.open(build(spec | {"embeddings": str(tmp_path / "enough.npy")}))
    assert found.search(torch.from_numpy(vectors(least, 0)), 1).row_QK[:, 0].tolist() == list(range(least))


@pytest.mark.parametrize("payload", ["pq", "fastscan"])
@pytest.mark.parametrize(
    "settings", [{"recall": 0.9}, {"nprobe": LISTS, "copies": {"budget": 0.5}}], ids=["recall", "copies"]
)
def test_too_few_rows_for_new_codes_keep_the_old_ones(
    payload: str, settings: dict[str, Any], made: Path, tmp_path: Path
) -> None:
    index = built(made, tmp_path / "index", payload=payload, **settings)
    kept = [3, 700, 701, 2500, 3999]
    delete({"index": str(index.address), "ids": [str(row) for row in range(ROWS) if row not in kept]})
    compact({"index": str(index.address)})
    small = Index.open(index.address)
    assert (small.num_rows, lists_of(small).num_rows) == (5, 5)
    hits = small.search(torch.from_numpy(vectors(ROWS, 0)[kept]), 1)
    assert hits.row_QK[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert small.items(hits.row_QK[:, 0])["id"].to_pylist() == kept
    add({"index": str(index.address), "embeddings": str(made / "more.npy")})
    grown = Index.open(index.address).search(torch.from_numpy(vectors(500, 1)), 1).row_QK[:, 0]
    assert (grown == torch.arange(5, 505)).float().mean() > 0.9


def test_an_altered_partition_is_noticed(made: Path, tmp_path: Path) -> None:
    built(made, tmp_path / "index")
    (file,) = (tmp_path / "index").glob("partition-*.safetensors")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="SHA-256"):
        Index.open(tmp_path / "index")


def test_a_vector_alike_many_is_found_once_each(made: Path, tmp_path: Path) -> None:
    base_ND = vectors(ROWS, 0)
    base_ND[100:160] = base_ND[100]
    np.save(tmp_path / "same.npy", base_ND)
    spec = {"embeddings": str(tmp_path / "same.npy"), "partition": str(made / "l2"), "output": str(tmp_path / "index")}
    index = Index.open(build(spec | {"index": {"nprobe": 8, "refine": 20, "copies": {"budget": 0.5}}}))
    hits = index.search(torch.from_numpy(base_ND[100:101]), 60)
    assert hits.row_QK[0].tolist() == list(range(100, 160))


@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0])
def test_inner_products_do_not_depend_on_the_querys_length(scale: float, made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", "ip", recall=0.95)
    true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 10, metric="ip")[1]
    assert recall_of(index.search(scale * queries(), 10).row_QK, true_QK) > 0.93


def test_longer_vectors_than_were_learned_from_are_refused(made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", "ip", recall=0.95)
    np.save(tmp_path / "long.npy", 20 * vectors(50, 3))
    with pytest.raises(DataError, match="has length"):
        add({"index": str(tmp_path / "index"), "embeddings": str(tmp_path / "long.npy")})
    assert len(Index.open(tmp_path / "index")) == len(index) == ROWS


def test_a_filter_keeps_the_recall_asked_for(made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", recall=0.8)
    fast, sure = index.at(0.8), index.at(0.995)
    some = {"id": list(range(0, ROWS, 3))}
    for one, other in ((sure.where(some), index.where(some).at(0.995)), (fast.where(some), index.where(some).at(0.8))):
        assert lists_of(one).settings.nprobe == lists_of(other).settings.nprobe
        assert torch.equal(one.search(queries(), 10).row_QK, other.search(queries(), 10).row_QK)
    assert lists_of(sure).settings.nprobe != lists_of(fast).settings.nprobe


@pytest.mark.parametrize("near", [False, True])
def test_filters_reach_the_recall_of_a_search_without(near: bool, made: Path, tmp_path: Path) -> None:
    """near: what is left lies together, where most queries are not."""
    index, base_ND = built(made, tmp_path / "index", recall=0.95), vectors(ROWS, 0)
    kept_M = np.argsort(base_ND[:, 0])[:400] if near else np.random.default_rng(0).choice(ROWS, 400, replace=False)
    found = index.where({"id": kept_M.tolist()})
    among_QK = topk(queries(), torch.from_numpy(base_ND[kept_M]), 10, metric="l2")[1]
    assert recall_of(found.search(queries(), 10).row_QK, torch.from_numpy(kept_M)[among_QK]) > 0.9


@pytest.mark.parametrize("payload", ["sq8", "fastscan"])
def test_a_grown_index_is_tuned_again(payload: str, made: Path, tmp_path: Path) -> None:
    built(made, tmp_path / "index", payload=payload, recall=0.95)
    np.save(tmp_path / "many.npy", vectors(2000, 5))
    add({"index": str(tmp_path / "index"), "embeddings": str(tmp_path / "many.npy")})
    grown = Index.open(tmp_path / "index")
    assert lists_of(grown).settings.tuned_rows == ROWS + 2000
    whole = torch.from_numpy(np.concatenate([vectors(ROWS, 0), vectors(2000, 5)]))
    true_QK = topk(queries(), whole, 10, metric="l2")[1]
    assert recall_of(grown.search(queries(), 10).row_QK, true_QK) > 0.93


def test_few_candidates_among_copies_do_not_end_in_a_full_scan(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(made, tmp_path / "index", nprobe=4, refine=1, copies={"budget": 1.0})
    compared: list[int] = []
    exact = index.gallery.topk
    monkeypatch.setattr(
        index.gallery, "topk", lambda query, k, **more: compared.append(len(query)) or exact(query, k, **more)
    )
    assert (index.search(queries(), 10).row_QK >= 0).all()
    assert sum(compared) < 10


def test_copies_no_rule_can_make_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="one further list"):
        built(made, tmp_path / "index", copies={"rule": "soar", "budget": 2.0})


def test_whole_vectors_in_the_lists_are_not_compared_twice(tmp_path: Path) -> None:
    """What the lists say is what comparing all vectors says: after deletions, without a row, beyond what there is."""
    base_ND = vectors(300, 0)
    base_ND[7] = base_ND[3]  # equally near: the lower row first
    np.save(tmp_path / "base.npy", base_ND)
    partition = {"vectors": str(tmp_path / "base.npy"), "output": str(tmp_path / "l2"), "metric": "l2", "lists": 8}
    learn(partition | {"held_out": 100, "fit": {"epochs": 2}, "device": "cpu"})
    for payload, exact in (("flat", True), ("sq8", False)):
        index = built(tmp_path, tmp_path / payload, payload=payload, nprobe=8, refine=30)
        assert lists_of(index).is_exact == exact
        delete({"index": str(index.address), "ids": ["5", "6"]})
        index = Index.open(index.address)
        query_QD = torch.cat([queries(50), torch.from_numpy(base_ND[[3, 100]])])
        own_Q = torch.tensor([-1] * 50 + [3, 100])
        for k, exclude_Q in ((10, None), (10, own_Q), (400, None)):
            found = index.search(query_QD, k, exclude_Q=exclude_Q)
            expected = index.gallery.topk(query_QD, k, exclude=exclude_Q)
            assert torch.equal(found.row_QK, expected[1]), (payload, k)
            torch.testing.assert_close(found.similarity_QK, expected[0], rtol=1e-4, atol=1e-4)
