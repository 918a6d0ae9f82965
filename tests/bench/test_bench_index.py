"""`kinsight bench index` on a small set: truth, recall, counts, tuning without the test queries, tables, pictures."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from kinsight.bench.index.choosing import choose
from kinsight.bench.index.faiss_systems import IvfFastScan, IvfFlat, IvfHnsw
from kinsight.bench.index.job import _say_ratio, run
from kinsight.bench.index.measuring import measure
from kinsight.bench.index.mixture import make_mixture
from kinsight.bench.index.ours import KinsightFlat
from kinsight.bench.index.sets import prepare
from kinsight.bench.index.store import Store
from kinsight.bench.index.system import steps
from kinsight.bench.index.systems import system
from kinsight.bench.index.tables import at_recall, beside, best_peer, equal_speeds, quickest_peer, speed_table
from kinsight.bench.index.truth import faiss, nearest, recall_at_10
from kinsight.bench.index.tuning import Candidate, best, tune
from kinsight.errors import DataError, RunError
from kinsight.specs.bench_index import BenchedSystem, BenchIndex

PEERS = [
    name
    for name in BenchedSystem.__args__
    if not name.startswith("kinsight") and all(importlib.util.find_spec(each) for each in system(name).modules)
]


def _spec(output: Path, **words: object) -> BenchIndex:
    settings = {
        "output": str(output),
        "sets": ["mixture-1m"],
        "max_rows": 3000,
        "max_queries": 200,
        "tune_queries": 200,
        "effort": "quick",
        "repeats": 1,
        "threads": [1],
        "seeds": [0],
        "targets": [0.9],
    }
    return BenchIndex.model_validate(settings | words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the set is there."""
    folder = tmp_path_factory.mktemp("bench")
    prepare("mixture-1m", _spec(folder), folder / "sets" / "mixture-1m")
    return folder


def test_the_truth_is_exact_counts_ties_and_leaves_the_own_row_out():
    rng = np.random.default_rng(0)
    base_ND = rng.integers(0, 3, (400, 5)).astype(np.float32)  # many ties
    own_Q = np.arange(50)
    near_QM = nearest(base_ND, base_ND[:50], own_Q, lambda amount: None)
    for query, row_M in enumerate(near_QM):
        distance_N = np.square(base_ND - base_ND[query]).sum(1)
        distance_N[query] = np.inf
        tenth = np.sort(distance_N)[9]
        right = set(np.flatnonzero(distance_N <= tenth))
        found = set(row_M[row_M >= 0])
        assert found <= right and len(found) == min(len(right), near_QM.shape[1], 31)
    perfect_QK = near_QM[:, :10]
    assert recall_at_10(perfect_QK, near_QM) == 1.0
    assert recall_at_10(np.concatenate([own_Q[:, None], perfect_QK], 1), near_QM, own_Q) == 1.0
    assert recall_at_10(np.repeat(perfect_QK[:, :1], 10, 1), near_QM) < 0.4  # none is counted twice
    assert recall_at_10(np.full((50, 10), -1), near_QM) == 0.0


def test_the_mixture_is_the_same_each_time_and_has_uneven_clusters():
    base_ND, query_QD = make_mixture(5000, 100, seed=3)
    again_ND, _ = make_mixture(5000, 100, seed=3)
    other_ND, _ = make_mixture(5000, 100, seed=4)
    assert base_ND.shape == (5000, 128) and query_QD.shape == (100, 128) and base_ND.dtype == np.uint8
    assert (base_ND == again_ND).all() and (base_ND != other_ND).any()
    length_N = np.linalg.norm(base_ND.astype(float), axis=1)
    assert 480 < np.median(length_N) < 530 and 0.1 < (base_ND == 0).mean() < 0.6


def test_counts_are_those_of_faiss(made: Path):
    spec = _spec(made)
    data = prepare("mixture-1m", spec, made / "sets" / "mixture-1m")
    task = Store(made).task(data)
    query_QD = np.array(data.array("query"))
    for kind, knob in ((IvfFlat, {}), (IvfHnsw, {"beam": 1.0})):
        (build,) = kind.builds(3000, 128, "quick")
        place = made / f"counts-{kind.__name__}"
        place.mkdir()
        searched = kind(task, 1)
        searched.build(build, 0, place)
        searched.load(build, place)
        faiss.cvar.indexIVF_stats.reset()
        searched.search(query_QD, 10, 7, knob)
        counts = searched.counts(query_QD, 10, 7, knob)
        assert counts.entries == pytest.approx(faiss.cvar.indexIVF_stats.ndis / len(query_QD))
        assert counts.p95 is not None and counts.p95 > counts.entries
        routing = counts.multiply_adds / 128 - counts.entries
        assert routing == pytest.approx(build["lists"]) if kind is IvfFlat else 0 < routing < 10 * build["lists"]
    everything = IvfFlat.search(searched, query_QD, 10, build["lists"], {"beam": 2.0})
    assert recall_at_10(everything, data.array("query_near")) > 0.999


@pytest.mark.parametrize("name", PEERS)
def test_tuning_reaches_the_recall_without_the_test_queries(name: str, made: Path, tmp_path: Path):
    shutil.copytree(made / "sets", tmp_path / "sets")
    folder = tmp_path / "sets" / "mixture-1m"
    spec = _spec(tmp_path)
    data = prepare("mixture-1m", spec, folder)
    for file in ("query.npy", "query_near.npy"):
        (folder / file).unlink()
    found = tune(spec, Store(tmp_path), data, name)
    one = best(found, 0.9, "s")
    assert one is not None and 0.9 <= one.recall <= 1.0 and one.s > 0
    assert (one.cost is None) == (name in ("hnswlib", "scann"))


def test_the_best_reaches_the_recall_with_the_least_time_or_cost():
    rows = [(0.96, 1.0, 5.0), (0.955, 2.0, 4.0), (0.97, 3.0, 3.0), (0.9, 0.5, 1.0), (0.99, 4.0, None)]
    found = [Candidate({}, {}, number, *row) for number, row in enumerate(rows)]
    assert best(found, 0.95, "s") is found[0] and best(found, 0.95, "cost") is found[2]
    assert best(found, 0.98, "s") is found[4] and best(found, 0.98, "cost") is None
    assert steps(1, 100)[0] == 1 and steps(1, 100)[-1] == 100 and (np.diff(steps(1, 100)) > 0).all()


def test_a_value_at_a_recall_lies_between_the_points_on_both_sides():
    points = [(0.9, 1000.0), (0.99, 100.0), (0.5, 9000.0)]
    assert at_recall(points, 1 - 0.1 * 10**-0.5) == pytest.approx(1000 * 10**-0.5)
    assert at_recall(points, 0.9) == pytest.approx(1000.0)
    assert at_recall(points, 0.995) is None and at_recall(points, 0.4) is None


def test_what_learn_queries_chose_is_kept_whatever_the_test_queries_say(made: Path, tmp_path: Path):
    shutil.copytree(made / "sets", tmp_path / "sets")
    folder, spec, name = tmp_path / "sets" / "mixture-1m", _spec(tmp_path), "faiss-ivf-flat"
    data, store = prepare("mixture-1m", spec, folder), Store(tmp_path)
    (build,) = system(name).builds(3000, 128, "quick")
    store.ensure_built(name, data, build, 0, 1)
    deceived = [Candidate(build, {}, 1, 0.95, 1e-5, 1.0)]
    one = choose(spec, store, data, {name: deceived})["s", 0.9][name]
    assert one["candidate"] == vars(deceived[0]) and not one["reached"] and 0.1 < one["recall"] < 0.9
    (row,) = measure(spec, store, data, {name: one}, 0.9, 1)
    assert (row["effort"], row["recall"], row["target"]) == (1, one["recall"], 0.9)
    enough = [Candidate(build, {}, build["lists"], 0.95, 1e-5, 1.0)]
    assert choose(spec, store, data, {name: enough})["s", 0.9][name]["reached"]
    assert choose(spec, store, data, {name: []})["s", 0.9] == {}


def test_tables_of_packed_codes_are_counted_once_for_a_query(made: Path):
    data = prepare("mixture-1m", _spec(made), made / "sets" / "mixture-1m")
    searched = IvfFastScan(Store(made).task(data), 1)
    place = made / "fastscan"
    place.mkdir()
    searched.build({"factory": "PCAR64,IVF16,PQ32x4fs,RFlat", "lists": 16}, 0, place)
    searched.load({}, place)
    assert not searched.inverted.by_residual
    query_QD = np.array(data.array("query"))
    few, many = (searched.counts(query_QD, 10, effort, {"refine": 2}) for effort in (2, 8))
    assert many.multiply_adds - few.multiply_adds == pytest.approx(32 * (many.entries - few.entries))
    rest = 128 * 64 + 16 * 64 + 16 * 64 + 20 * 128  # components, centres, tables, full vectors
    assert few.multiply_adds == pytest.approx(rest + 32 * few.entries)


def test_lists_chosen_through_a_graph_are_one_more_way_and_counted_by_what_they_compare(made: Path):
    *plain, graph = KinsightFlat.builds(60_000, 64, "full")
    assert graph == {**plain[-1], "routing": "graph"} and not any("routing" in each for each in plain)
    assert KinsightFlat.builds(60_000, 64, "quick") == plain[:1]
    data = prepare("mixture-1m", _spec(made), made / "sets" / "mixture-1m")
    task, query_QD = Store(made).task(data), np.array(data.array("query"))
    build = {"components": None, "lists": 128, "payload": "flat", "copies": 0.0}
    counted = []
    for name, way in (("plain", build), ("graph", build | {"routing": "graph"})):
        searched, place = KinsightFlat(task, 1), made / f"ours-{name}"
        place.mkdir()
        assert (searched.build(way, 0, place) is None) == (name == "plain")  # the second finds the partition there
        searched.load(way, place)
        for knob in searched.knobs(way, 3000)[:2]:
            assert recall_at_10(searched.search(query_QD, 10, 12, knob), data.array("query_near")) > 0.8
            counts = searched.counts(query_QD, 10, 12, knob)
            counted.append((counts.multiply_adds - 128 * counts.entries) / 128)
    flat, _, narrow, wide = counted
    assert flat == pytest.approx(128) and 16 < narrow < wide < 128


def test_a_ratio_says_that_the_recall_was_missed(made: Path, capsys: pytest.CaptureFixture[str]):
    data = prepare("mixture-1m", _spec(made), made / "sets" / "mixture-1m")
    counts = {"multiply_adds": 1000.0, "entries": 10.0, "p95": 20.0}
    about = {"seed": 0, "counts": counts, "mb": 1.0, "build_s": 1.0, "build": {}, "knob": {}, "effort": 1}
    rows = [
        {"system": name, "s": s, "per_s": 1 / s, "all_s": [s], "recall": recall, "target": 0.95, **about}
        for name, s, recall in (("kinsight", 1.0, 0.94), ("scann", 2.0, 0.96))
    ]
    _say_ratio(data, 0.95, 1, rows)
    assert "2.00 times the queries a second of scann; ours falls short, at 0.9400" in capsys.readouterr().err
    console = Console(width=220)
    console.print(speed_table({"name": "x", "rows": 10, "dim": 4}, 0.95, 1, rows))
    assert "2.00 at lower recall" in capsys.readouterr().out
    rows[0]["recall"] = 0.95
    _say_ratio(data, 0.95, 1, rows)
    assert "falls short" not in capsys.readouterr().err


def test_speeds_at_the_same_recall_name_the_quickest_peer():
    points = [("kinsight", 0.94, 1.0), ("kinsight", 0.96, 2.0), ("scann", 0.9, 1.0), ("scann", 0.95, 4.0)]
    points += [("hnswlib", 0.96, 0.1), ("kinsight-flat", 0.95, 0.5)]
    rows = [{"system": name, "recall": recall, "s": s} for name, recall, s in points]
    speeds = equal_speeds(rows, 0.95)
    assert set(speeds) == {"kinsight", "scann", "kinsight-flat"} and speeds["scann"] == pytest.approx(0.25)
    assert quickest_peer(speeds) == "scann" and quickest_peer({"kinsight": 1.0}) is None


def test_the_best_peer_reached_the_recall_and_ratios_are_of_the_same_turn():
    rows = [
        {"system": "kinsight", "s": 1.0, "recall": 0.96, "target": 0.95, "all_s": [1.0, 2.0, 1.0]},
        {"system": "scann", "s": 0.5, "recall": 0.94, "target": 0.95, "all_s": [0.5, 0.5, 0.5]},
        {"system": "hnswlib", "s": 2.0, "recall": 0.97, "target": 0.95, "all_s": [2.0, 4.0, 3.0]},
    ]
    peer = best_peer(rows)
    assert peer is rows[2] and beside(rows[0], peer) == 2.0


@pytest.mark.slow
def test_the_bench_measures_all_and_goes_on(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(made / "sets", tmp_path / "sets")
    words = {"systems": ["kinsight-flat", "faiss-ivf-flat"], "results": str(tmp_path / "results.json")}
    results = run(_spec(tmp_path, **words))
    (found,) = results["sets"]
    assert {row["system"] for row in found["speed"]} == {"kinsight-flat", "faiss-ivf-flat"}
    for row in found["speed"] + found["cost"]:
        assert row["recall"] > 0.87 and row["counts"]["entries"] > 10  # 0.9 of the learn queries
    assert [row["partition"] for row in found["lists"]] == ["learned", "k-means"]
    assert all(row["entries@0.9"] is None or row["entries@0.9"] < 3000 for row in found["lists"])
    assert [row["stored"] for row in found["lists"] if row["copies"] == 0.5] == [pytest.approx(1.5, abs=0.01)]
    assert all(1 <= row["imbalance"] < 5 and 0 < row["recall@1, 2%"] <= 1 for row in found["lists"])
    for picture in ("speed", "cost"):
        assert (tmp_path / f"{picture}-mixture-1m.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "results.json").read_text())["sets"][0]["speed"] == found["speed"]
    assert "entries scanned" in capsys.readouterr().out
    again = run(_spec(tmp_path, **words))
    assert again == results  # nothing was timed again


def test_another_size_in_the_same_folder_is_refused(made: Path):
    with pytest.raises(DataError, match="max_rows"):
        prepare("mixture-1m", _spec(made, max_rows=2000), made / "sets" / "mixture-1m")


def test_a_system_that_fails_says_so(made: Path):
    data = prepare("mixture-1m", _spec(made), made / "sets" / "mixture-1m")
    with Store(made).worker("faiss-ivf-flat", data, 1, "learn") as worker, pytest.raises(RunError, match="no-such"):
        worker.ask("load", build={}, place=str(made / "no-such"))
    with pytest.raises(ValueError, match="data: needed"):
        BenchIndex(output="x", sets=["cross-domain"])
