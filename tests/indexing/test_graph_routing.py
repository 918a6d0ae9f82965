"""Lists chosen through a graph over the router's weights, beside comparing all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.indexing import Index, add, build, compact, delete, merge
from kinsight.indexing.learned import Learned
from kinsight.indexing.list_graph import ListGraph
from kinsight.indexing.settings import Tuned, stored_settings
from kinsight.indexing.summary import info
from kinsight.indexing.untyped import faiss
from kinsight.neighbors import Metric, topk
from kinsight.partition import learn

ROWS, DIM, LISTS = 6000, 24, 240


def vectors(number: int, seed: int) -> np.ndarray:
    """A mixture in fewer dimensions than it has."""
    random, shape = np.random.default_rng(seed), np.random.default_rng(99)
    centre, axes = shape.normal(size=(60, 10)), shape.normal(size=(10, DIM))
    inner = centre[random.integers(60, size=number)] + 0.4 * random.normal(size=(number, 10))
    return (inner @ axes + 0.05 * random.normal(size=(number, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    np.save(folder / "base.npy", vectors(ROWS, 0))
    np.save(folder / "more.npy", vectors(500, 1))
    common = {"vectors": str(folder / "base.npy"), "lists": LISTS, "held_out": 400, "device": "cpu"}
    common |= {"fit": {"epochs": 3}, "cluster": {"iterations": 5}}
    for metric in ("l2", "cosine", "ip"):
        learn(common | {"output": str(folder / metric), "metric": metric})
    return folder


def built(made: Path, output: Path, metric: str = "l2", **index: Any) -> Index:
    spec = {"embeddings": str(made / "base.npy"), "partition": str(made / metric), "output": str(output)}
    return Index.open(build(spec | {"index": {"routing": "graph", **index}}, overwrite=True))


def queries(number: int = 200) -> Tensor:
    return torch.from_numpy(vectors(number, 2))


def lists_of(index: Index) -> Learned:
    assert isinstance(index.structure, Learned)
    return index.structure


def chosen(structure: Learned, effort: int = 1) -> np.ndarray:
    """int64 (Q, P), each row sorted."""
    return np.sort(structure.looked_through(queries().numpy(), 1, effort, None).as_asked().list_QP, axis=1)


def recall_of(row_QK: Tensor, true_QK: Tensor) -> float:
    return float((row_QK[:, :, None] == true_QK[:, None, :]).any(2).float().mean())


def router(lists: int, length: float) -> tuple[Tensor, Tensor, Tensor]:
    """(weight_LR, bias_L, query_QR), weights alike in part, for queries of about this length."""
    centre_LR, query_QR = vectors(lists, 5).astype(np.float64), vectors(300, 6).astype(np.float64)
    usual = float(np.linalg.norm(centre_LR, axis=1).mean())
    bias_L = -np.square(centre_LR).sum(1) / 2 + np.random.default_rng(3).normal(size=lists)
    weight_LR = centre_LR + np.random.default_rng(4).normal(size=DIM)
    scaled = weight_LR * usual / length, bias_L, query_QR * length / usual
    return tuple(torch.from_numpy(each).float() for each in scaled)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("length", [1e-2, 1.0, 2000.0])
def test_a_beam_of_all_lists_finds_those_of_greatest_score(length: float) -> None:
    weight_LR, bias_L, query_QR = router(500, length)
    graph = ListGraph(weight_LR, bias_L, length)
    graph.beam = 500 / 20
    score_QL = query_QR.double() @ weight_LR.double().T + bias_L.double()
    best_QP, list_QP = score_QL.topk(20)
    found_QP = graph.nearest(query_QR, 20)
    assert (found_QP == list_QP).float().mean() > 0.999  # float32 may turn two of almost the same score
    torch.testing.assert_close(score_QL.gather(1, found_QP), best_QP, rtol=1e-5, atol=1e-3)
    assert not graph.pays(20) and graph.nearest(query_QR[:0], 20).shape == (0, 20)


def test_the_usual_beam_finds_most_and_compares_few() -> None:
    weight_LR, bias_L, query_QR = router(3000, 1.0)
    graph = ListGraph(weight_LR, bias_L, 1.0)
    list_QP = (query_QR @ weight_LR.T + bias_L).topk(20)[1]
    assert graph.pays(20) and recall_of(graph.nearest(query_QR, 20), list_QP) > 0.95
    compared = graph.compared(query_QR, 20)
    assert 100 < compared < 1000 and graph.compared(query_QR, 60) > 1.5 * compared
    again = ListGraph(weight_LR, bias_L, 1.0)
    assert torch.equal(again.nearest(query_QR, 20), graph.nearest(query_QR, 20))
    one_by_one = torch.cat([graph.nearest(query_Q[None], 20) for query_Q in query_QR])
    assert torch.equal(one_by_one, graph.nearest(query_QR, 20))


def test_what_all_lists_share_changes_nothing() -> None:
    weight_LR, bias_L, query_QR = router(1000, 1.0)
    here = ListGraph(weight_LR, bias_L, 1.0)
    there = ListGraph((weight_LR.double() + 3e4).float(), bias_L + 1e3, 1.0)
    alike = recall_of(here.nearest(query_QR, 20), there.nearest(query_QR, 20))
    assert alike > 0.97 and there.compared(query_QR, 20) == pytest.approx(here.compared(query_QR, 20), rel=0.05)


def test_a_graph_made_by_many_threads_is_the_same() -> None:
    weight_LR, bias_L, query_QR = router(3000, 1.0)
    found, threads = [], faiss.omp_get_max_threads()
    try:
        for number in (1, 4):
            faiss.omp_set_num_threads(number)
            found.append(ListGraph(weight_LR, bias_L, 1.0).nearest(query_QR, 20))
            assert faiss.omp_get_max_threads() == number
    finally:
        faiss.omp_set_num_threads(threads)
    assert torch.equal(*found)


def test_lists_all_alike_are_no_trouble() -> None:
    for lists in (1, 50):
        graph = ListGraph(torch.zeros(lists, 4), torch.zeros(lists), 0.0)
        assert (graph.nearest(torch.ones(3, 4), 1) >= 0).all()


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("payload", ["flat", "fastscan"])
def test_the_recall_asked_for_is_found(metric: Metric, payload: str, made: Path, tmp_path: Path) -> None:
    index = built(made, tmp_path / "index", metric, payload=payload, recall=0.9)
    true_QK = topk(queries(), torch.from_numpy(vectors(ROWS, 0)), 10, metric=metric)[1]
    assert recall_of(index.search(queries(), 10).row_QK, true_QK) > 0.87
    levels = lists_of(index).settings.levels
    assert levels and all(level.mass is None for level in levels)
    high = index.at(0.99)
    assert recall_of(high.search(queries(), 10).row_QK, true_QK) > 0.97


def test_what_is_compared_is_counted(made: Path, tmp_path: Path) -> None:
    """Told shares of a full scan are those of the comparisons there are."""
    graph, flat = (built(made, tmp_path / each, payload="flat", recall=0.9, routing=each) for each in ("graph", "flat"))
    here, there = lists_of(graph), lists_of(flat)
    ready_QD = queries().numpy()
    assert there.multiply_adds(ready_QD) == LISTS * DIM
    assert here.graph is not None and here.settings.nprobe is not None
    compared = here.graph.compared(queries(), here.settings.nprobe)
    assert here.multiply_adds(ready_QD) == pytest.approx(compared * (DIM + 2))
    assert here.multiply_adds(ready_QD) < 0.8 * LISTS * DIM
    (level,) = (each for each in here.settings.levels if each.recall == 0.9)
    held_HD = here.partition.held_HD.numpy()
    routing = here.at(level).multiply_adds(held_HD) / (ROWS * DIM)
    scanning, refining = level.scanned / ROWS, level.refine * 10 / ROWS
    assert level.share == pytest.approx(routing + scanning + refining, rel=1e-3)
    wide = here.at(level.model_copy(update={"nprobe": LISTS // 2}))
    assert wide.multiply_adds(ready_QD) == LISTS * DIM


def test_it_is_told_and_opened_again(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = built(made, tmp_path / "index", payload="flat", nprobe=8, refine=2)
    again = Index.open(tmp_path / "index")
    assert isinstance(again.settings, Tuned) and again.settings.routing == "graph"
    here, there = index.search(queries(), 10), again.search(queries(), 10)
    assert torch.equal(here.row_QK, there.row_QK) and torch.equal(here.similarity_QK, there.similarity_QK)
    assert "routing graph" in info({"index": str(tmp_path / "index")})["kind"]
    flat = built(made, tmp_path / "flat", payload="flat", nprobe=8, refine=2, routing="flat")
    same = [
        len(np.intersect1d(*pair)) / 8 for pair in zip(chosen(lists_of(again)), chosen(lists_of(flat)), strict=True)
    ]
    assert np.mean(same) > 0.9 and lists_of(flat).graph is None


def test_settings_from_before_there_were_graphs_compare_all_lists() -> None:
    found = stored_settings("learned", {"payload": "sq8", "nprobe": 4, "refine": 2.0, "seed": 0})
    assert isinstance(found, Tuned) and found.routing == "flat"


def test_added_deleted_compacted_and_merged(made: Path, tmp_path: Path) -> None:
    place, own = str(tmp_path / "index"), torch.from_numpy(np.load(made / "more.npy"))
    built(made, tmp_path / "index", payload="flat", recall=0.95, copies={"budget": 0.3})
    add({"index": place, "embeddings": str(made / "more.npy")})
    grown = Index.open(place)
    assert (grown.search(own, 1).row_QK[:, 0] == torch.arange(ROWS, ROWS + 500)).float().mean() > 0.97
    delete({"index": place, "ids": [str(row) for row in range(500)]})
    shrunk, base_ND = Index.open(place), np.concatenate([vectors(ROWS, 0), own.numpy()])
    assert lists_of(shrunk).graph is not None
    true_QK = topk(queries(), torch.from_numpy(base_ND[500:]), 10, metric="l2")[1]
    assert recall_of(shrunk.search(queries(), 10).row_QK, true_QK + 500) > 0.92
    compact({"index": place})
    merge({"indexes": [place, place + "2"], "output": place + "3"} | _second(made, place + "2"))
    for number, name in ((ROWS, place), (2 * ROWS, place + "3")):
        found = Index.open(name)
        assert len(found) == number and isinstance(found.settings, Tuned) and found.settings.routing == "graph"
        hits = found.search(torch.from_numpy(base_ND[500:700]), 1)
        assert (hits.similarity_QK[:, 0] > -1e-3).float().mean() > 0.97


def _second(made: Path, place: str) -> dict[str, Any]:
    built(made, Path(place), payload="flat", nprobe=4)
    return {"renumber": True}


def test_few_rows_and_many_lists_compare_all(made: Path, tmp_path: Path) -> None:
    graph, flat = (
        lists_of(built(made, tmp_path / each, payload="flat", nprobe=8, routing=each)) for each in ("graph", "flat")
    )
    live_N = (graph.homes() < 30).numpy()  # all rows of these lists, so that a search needs no further ones
    np.testing.assert_array_equal(chosen(graph.among(live_N)), chosen(flat.among(live_N)))
    np.testing.assert_array_equal(chosen(graph, effort=6), chosen(flat, effort=6))
    assert (chosen(graph) != chosen(flat)).any()  # that the graph is what answers otherwise
    mostly = graph.among(np.arange(ROWS) > 10)
    assert mostly.multiply_adds(queries().numpy()) < 0.9 * LISTS * DIM


def test_what_a_graph_cannot_do_is_refused(made: Path, tmp_path: Path) -> None:
    spec = {"embeddings": str(made / "base.npy"), "output": str(tmp_path / "index")}
    with pytest.raises(SpecError, match=r"mass=0\.5: .*routing=graph.*routing flat"):
        build(spec | {"partition": str(made / "l2"), "index": {"routing": "graph", "mass": 0.5}})
    network = {"vectors": str(made / "base.npy"), "output": str(tmp_path / "mlp"), "metric": "l2", "lists": 40}
    learn(
        network
        | {"held_out": 100, "fit": {"epochs": 2}, "router": {"kind": "mlp", "hidden": [8]}, "device": "cpu"}
        | {"cluster": {"iterations": 2}}
    )
    with pytest.raises(SpecError, match=r"routing=graph: .*kind mlp") as refused:
        build(spec | {"partition": str(tmp_path / "mlp"), "index": {"routing": "graph"}})
    assert "routing flat" in str(refused.value.remedy)
    assert not (tmp_path / "index").exists()


def test_lists_without_a_row_to_find_are_passed_by(made: Path, tmp_path: Path) -> None:
    graph = lists_of(built(made, tmp_path / "graph", payload="flat", nprobe=8))
    live_N = (graph.homes() >= 60).numpy()  # most rows, but none of these lists
    among = graph.among(live_N)
    assert among.by_graph
    list_QP = chosen(among)
    assert (list_QP[list_QP >= 0] >= 60).all() and (list_QP >= 0).mean() > 0.99
    assert (chosen(graph) < 60).any()


def test_a_graph_that_would_never_be_used_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="to look into 60 of them a graph compares nearly all"):
        built(made, tmp_path / "index", nprobe=60)
    few = {"vectors": str(made / "base.npy"), "lists": 40, "fit": {"epochs": 0}, "device": "cpu"}
    learn(few | {"output": str(made / "few")})
    with pytest.raises(SpecError, match="the partition has 40 lists"):
        built(made, tmp_path / "index", "few")
    assert not (tmp_path / "index").exists()
