"""An index in shards, on a cluster of this machine: it finds what one index finds; lost shards are named."""

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_cases import METRICS, grouped, queries, store

from kinsight.errors import DataError, RunError, SpecError
from kinsight.indexing import Index, build
from kinsight.indexing.cluster import connect
from kinsight.indexing.learned import Learned
from kinsight.indexing.shard_search import Shards
from kinsight.indexing.shards import build_shards, read_shards
from kinsight.neighbors import Metric
from kinsight.neighbors.gallery import Gallery
from kinsight.neighbors.vectors import row_norms
from kinsight.partition import learn

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="kinsight[cluster] is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """A cluster of this machine, on loopback alone."""
    found = connect(None)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def emb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vector_ND = grouped(3001)
    vector_ND[2990] *= 30  # the longest is in the last shard, and lengths count under ip and l2
    extra = {"sku": [f"s{row}" for row in range(3001)]}
    return store(tmp_path_factory.mktemp("shards") / "emb", vector_ND, extra=extra)


@pytest.fixture(scope="module")
def built(emb: Path) -> Path:
    """Two shards under ip."""
    build_shards(_spec(emb, emb.parent / "built", metric="ip"), 2)
    return emb.parent / "built"


def _spec(emb: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {"embeddings": str(emb), "output": str(output), **more}


def test_shards_find_what_one_flat_index_finds_bit_for_bit_until_one_is_lost(built: Path, emb: Path, ray: Any) -> None:
    build(_spec(emb, emb.parent / "one", metric="ip"))
    one = Index.open(emb.parent / "one")
    assert [(shard.start, shard.rows) for shard in read_shards(built).shards] == [(0, 1500), (1500, 1501)]
    with Shards.open(built, cpus=0.5) as shards:
        for k in (1, 10, 1600, 4000):
            found, expected = shards.search(queries(), k), one.search(queries(), k)
            assert torch.equal(found.row_QK, expected.row_QK)
            assert torch.equal(found.similarity_QK, expected.similarity_QK)
        rows = [2990, 0, 1500, 1499, 0]
        assert shards.items(rows).to_pylist() == one.items(rows).to_pylist()
        assert shards.items([])["id"].to_pylist() == []
        with pytest.raises(SpecError, match="from 0 to 3000"):
            shards.items([3001])
        with pytest.raises(DataError, match="row 1 holds NaN"):
            shards.search(torch.tensor([[0.5] * 24, [torch.nan] * 24]), 3)
        with pytest.raises(DataError, match="vectors of length 24"):
            shards.search(torch.ones(2, 23), 3)
        ray.kill(shards._actors[1])
        with pytest.raises(RunError, match="shard-00001: shard 1 of 2 is lost"):
            shards.search(queries(), 3)
    with pytest.raises(RunError, match="is closed"):
        shards.search(queries(), 3)


def test_filters_find_in_shards_what_they_find_in_one(built: Path, emb: Path) -> None:
    build(_spec(emb, emb.parent / "whole", metric="ip"))
    one = Index.open(emb.parent / "whole")
    with Shards.open(built, cpus=0.5) as shards:
        for skus in (["s3", "s1700", "s2990"], ["s3"], [f"s{row}" for row in range(0, 3001, 2)]):
            where = {"sku": skus}
            found, expected = shards.search(queries(), 5, where=where), one.where(where).search(queries(), 5)
            assert torch.equal(found.row_QK, expected.row_QK)
            torch.testing.assert_close(found.similarity_QK, expected.similarity_QK, rtol=1e-5, atol=1e-4)
        with pytest.raises(SpecError, match="is no column of the index"):
            shards.search(queries(), 5, where={"colour": "red"})
        with pytest.raises(SpecError, match="recall"):
            shards.search(queries(), 5, recall=0.9)
        assert len(shards.search(queries(), 5).row_QK)


@pytest.mark.parametrize("metric", METRICS)
def test_parts_reckon_as_the_whole(metric: Metric, tmp_path: Path) -> None:
    """What the actors do, in this process."""
    vector_ND = torch.from_numpy(grouped(3001))
    vector_ND[2990] *= 30
    whole = Gallery([vector_ND], row_norms(vector_ND, "rows", metric), metric)
    left, right = (Gallery([part], row_norms(part, "rows", metric), metric) for part in vector_ND.split([1000, 2001]))
    (first, row_QK, _), (second, more_QK, _) = (
        part.within(whole.longest).nearest(queries(), 20) for part in (left, right)
    )
    similarity_QM, row_QM = torch.cat([first, second], 1), torch.cat([row_QK, more_QK + 1000], 1)
    expected, expected_QK, _ = whole.nearest(queries(), 20)
    order_QM = torch.from_numpy(np.lexsort((row_QM.numpy(), -similarity_QM.numpy()), axis=1))[:, :20]
    assert torch.equal(similarity_QM.gather(1, order_QM), expected)
    assert torch.equal(row_QM.gather(1, order_QM), expected_QK)


def test_what_is_done_stays_when_it_is_stopped(emb: Path, tmp_path: Path) -> None:
    spec = _spec(emb, tmp_path / "shards", id_column="sku", index={"kind": "ivf"})
    build_shards(spec, 3)
    (tmp_path / "shards" / "shards.json").unlink()
    (tmp_path / "shards" / "shard-00001" / "index.json").unlink()
    kept = (tmp_path / "shards" / "shard-00002" / "index.json").stat().st_mtime_ns
    build_shards(spec, 3)
    assert (tmp_path / "shards" / "shard-00002" / "index.json").stat().st_mtime_ns == kept
    with pytest.raises(SpecError, match="holds an index in shards"):
        build_shards(spec, 3)
    build_shards(spec, 2, overwrite=True)
    assert len(read_shards(tmp_path / "shards").shards) == 2
    build(_spec(emb, tmp_path / "one", id_column="sku"))
    with Shards.open(tmp_path / "shards", cpus=0.5) as shards:
        found, expected = shards.search(queries(), 10), Index.open(tmp_path / "one").search(queries(), 10)
        assert (found.row_QK == expected.row_QK).float().mean() > 0.9
        assert shards.items([2500])["id"].to_pylist() == ["s2500"]


def test_shards_of_other_embeddings_are_not_taken_over(tmp_path: Path) -> None:
    vector_ND = grouped(600)
    spec = _spec(store(tmp_path / "emb", vector_ND), tmp_path / "shards")
    build_shards(spec, 2)
    (tmp_path / "shards" / "shards.json").unlink()
    shutil.rmtree(tmp_path / "emb")
    store(tmp_path / "emb", vector_ND[::-1].copy())
    build_shards(spec, 2)
    for number in (0, 1):
        found = Index.open(tmp_path / "shards" / f"shard-{number:05d}").vectors(np.arange(300))
        assert np.array_equal(found.numpy(), vector_ND[::-1][300 * number : 300 * (number + 1)])


def test_shards_of_another_partition_are_not_taken_over(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", grouped(600))
    learned = {"vectors": str(tmp_path / "vectors.npy"), "output": str(tmp_path / "part"), "lists": 8, "held_out": 100}
    learn(learned | {"fit": {"epochs": 2}, "device": "cpu"})
    spec = _spec(tmp_path / "vectors.npy", tmp_path / "shards", partition=str(tmp_path / "part"))
    build_shards(spec, 2)
    (tmp_path / "shards" / "shards.json").unlink()
    learn(learned | {"lists": 16, "fit": {"epochs": 2}, "device": "cpu"}, overwrite=True)
    build_shards(spec, 2)
    for number in (0, 1):
        shard = Index.open(tmp_path / "shards" / f"shard-{number:05d}")
        assert isinstance(shard.structure, Learned) and shard.structure.partition.header.lists == 16


def test_learned_shards_search_at_a_recall_among_some_and_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", grouped(2000))
    learned = {"vectors": str(tmp_path / "vectors.npy"), "output": str(tmp_path / "part"), "lists": 16, "held_out": 100}
    learn(learned | {"fit": {"epochs": 2}, "device": "cpu"})
    emb = store(tmp_path / "emb", grouped(2000), extra={"half": ["ab"[row % 2] for row in range(2000)]})
    index = {"payload": "sq8", "recall": 0.9}
    build_shards(_spec(emb, tmp_path / "shards", partition=str(tmp_path / "part"), index=index), 2)
    build(_spec(emb, tmp_path / "one"))
    one = Index.open(tmp_path / "one")
    exact_QK = one.search(queries(), 10).row_QK
    with Shards.open(tmp_path / "shards", cpus=0.5, mapped=True) as shards:
        found = [
            float(
                (shards.search(queries(), 10, recall=recall).row_QK[:, :, None] == exact_QK[:, None])
                .any(2)
                .float()
                .mean()
            )
            for recall in (0.8, 0.99)
        ]
        assert found[1] >= 0.95 and found[0] <= found[1]
        halves = shards.search(queries(), 10, where={"half": "a"}, recall=0.99)
        assert (halves.row_QK % 2 == 0).all()


def test_what_is_overwritten_stays_until_the_new_shards_are_there(tmp_path: Path) -> None:
    vector_ND = grouped(600)
    spec = _spec(store(tmp_path / "emb", vector_ND), tmp_path / "shards")
    build_shards(spec, 2)
    before = {file: file.read_bytes() for file in (tmp_path / "shards").rglob("*") if file.is_file()}
    vector_ND[500] = np.nan
    shutil.rmtree(tmp_path / "emb")
    store(tmp_path / "emb", vector_ND)
    with pytest.raises(RunError, match="holds NaN"):
        build_shards(spec, 3, overwrite=True)
    assert all(file.read_bytes() == content for file, content in before.items())
    with Shards.open(tmp_path / "shards", cpus=0.5) as shards:
        assert len(shards) == 600
    vector_ND[500] = 1
    shutil.rmtree(tmp_path / "emb")
    store(tmp_path / "emb", vector_ND)
    for number in (3, 2, 2):
        build_shards(spec, number, overwrite=True)
        names = [shard.name for shard in read_shards(tmp_path / "shards").shards]
        assert len(names) == number
        assert sorted(each.name for each in (tmp_path / "shards").iterdir()) == [*names, "shards.json"]
    with Shards.open(tmp_path / "shards", cpus=0.5) as shards:
        assert len(shards) == 600


def test_shards_that_do_not_belong_together(built: Path, emb: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "shards")
    build(_spec(emb, tmp_path / "shards" / "shard-00001", metric="ip"), overwrite=True)
    with pytest.raises(DataError, match=r"shard-00001: holds 3,001 rows, of the whole 1,501 are in it"):
        Shards.open(tmp_path / "shards", cpus=0.5)
    (tmp_path / "shards" / "shard-00000" / "index.json").unlink()
    with pytest.raises(RunError, match=r"shard-00000: shard 0 of 2 .*index\.json is missing"):
        Shards.open(tmp_path / "shards", cpus=0.5)
    file = tmp_path / "shards" / "shards.json"
    content = json.loads(file.read_text())
    content["shards"][1]["name"] = "../elsewhere"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no name of a shard"):
        Shards.open(tmp_path / "shards")


def test_ids_that_come_twice_and_bad_vectors(emb: Path, tmp_path: Path) -> None:
    twice = store(tmp_path / "twice", grouped(100), extra={"sku": [f"s{row % 99}" for row in range(100)]})
    with pytest.raises(DataError, match="'s0': given twice"):
        build_shards(_spec(twice, tmp_path / "a", id_column="sku"), 2)
    vector_ND = grouped(100)
    vector_ND[70] = np.nan
    bad = store(tmp_path / "bad", vector_ND)
    with pytest.raises(RunError, match=r"shard-00001: .*row 70: the vector .*holds NaN"):
        build_shards(_spec(bad, tmp_path / "b"), 2)
    assert not (tmp_path / "b" / "shards.json").exists()
    with pytest.raises(SpecError, match="from 1 to the 100 vectors"):
        build_shards(_spec(bad, tmp_path / "c"), 101)
