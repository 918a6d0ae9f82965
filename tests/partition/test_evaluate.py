"""`kinsight partition evaluate`: figures against loops, both kinds of truth, every rule, stopped and gone on with."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from kinsight import storage
from kinsight.cli import main
from kinsight.data.vector_files import open_vector_file
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.partition import Partition, learn
from kinsight.partition import evaluate as job
from kinsight.partition.evaluate import evaluate
from kinsight.partition.space import Space
from kinsight.partition.variants import Exam, neighbours
from kinsight.partition.work import Work

RULES = ["misses", "ratio", "probability", "soar", "air"]


def mixture(number: int, seed: int, dim: int = 12) -> np.ndarray:
    random = np.random.default_rng(0)
    centre, stretch = random.normal(size=(40, dim)) * 1.5, random.gamma(1.0, 1.0, (40, dim))
    random = np.random.default_rng(seed)
    which = random.integers(40, size=number)
    return (centre[which] + random.normal(size=(number, dim)) * stretch[which]).astype(np.float32)


@pytest.fixture
def spec(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A partition learned from 3,000 vectors, others to search."""
    metric = getattr(request, "param", "l2")
    for name, number, seed in (("learn", 3000, 1), ("base", 2000, 2), ("queries", 120, 3)):
        vector_ND = mixture(number, seed)
        vector_ND *= np.minimum(1, 15 / np.linalg.norm(vector_ND, axis=1, keepdims=True))
        np.save(tmp_path / f"{name}.npy", vector_ND)
    made = {"vectors": str(tmp_path / "learn.npy"), "output": str(tmp_path / "out"), "metric": metric, "lists": 32}
    learn(made | {"held_out": 300, "fit": {"epochs": 3}, "cluster": {"iterations": 8}, "device": "cpu"})
    names = ("partition", "out"), ("base", "base.npy"), ("queries", "queries.npy")
    return {"device": "cpu"} | {name: str(tmp_path / file) for name, file in names}


@pytest.mark.parametrize("spec", ["l2", "ip", "cosine"], indirect=True)
def test_figures_against_a_loop(spec: dict[str, Any]) -> None:
    told = evaluate(spec | {"probes": [1, 4, 32], "copies": ["ratio"], "budgets": [0, 0.5]})
    assert [each["name"] for each in told["variants"]] == [
        "learned", "learned, ratio 0.5", "k-means, 32 lists", "k-means, 48 lists",
    ]  # fmt: skip
    found, k_means = Partition.load(spec["partition"]), told["variants"][2]
    base, query = (np.load(spec[name]).astype(np.float64) for name in ("base", "queries"))
    metric = found.header.metric
    if metric == "cosine":
        base, query = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (base, query))
    score = -((query[:, None] - base[None]) ** 2).sum(2) if metric == "l2" else query @ base.T
    near = np.argsort(-score, axis=1)[:, :10]
    centre = found.clusters.centre_LD.numpy().astype(np.float64)
    if metric == "ip":  # the added coordinate
        rest = np.sqrt(np.maximum(found.space.longest**2 - (base**2).sum(1), 0))
        query *= found.space.longest / np.linalg.norm(query, axis=1, keepdims=True)  # its length orders nothing
        base, query = np.c_[base, rest], np.c_[query, np.zeros(len(query))]
    of_N = ((base[:, None] - centre[None]) ** 2).sum(2).argmin(1)
    order = ((query[:, None] - centre[None]) ** 2).sum(2).argsort(1)
    for place, probe in enumerate((1, 4, 32)):
        recall = np.mean([np.isin(of_N[near[q]], order[q, :probe]).mean() for q in range(120)])
        scanned = np.mean([np.isin(of_N, order[q, :probe]).mean() for q in range(120)])
        assert k_means["recall@10"][place] == pytest.approx(recall, abs=2e-3)
        assert k_means["scanned"][place] == pytest.approx(scanned, abs=2e-3)
    for row in told["variants"][:3]:
        assert row["scanned"][-1] == pytest.approx(row["stored"]) and row["recall@100"][-1] == 1
    assert told["variants"][1]["stored"] == 1.5
    assert k_means["multiply_adds"] == centre.size and k_means["routing"] == pytest.approx(centre.size / (2000 * 12))


def test_every_rule_and_k_means_with_as_much_storage(spec: dict[str, Any]) -> None:
    told = evaluate(spec | {"copies": RULES, "budgets": [0, 0.5, 1]})
    rows = {row["name"]: row for row in told["variants"]}
    for rule in RULES:
        for budget in (0.5, 1):
            row = rows[f"learned, {rule} {budget:g}"]
            assert row["stored"] == 1 + budget
            assert row["recall@10"][0] > rows["learned"]["recall@10"][0] + 0.03  # the first list alone holds more
            assert np.interp(0.3, row["scanned"], row["recall@10"]) > 0.7
    assert [rows[f"k-means, {lists} lists"]["lists"] for lists in (32, 48, 64)] == [32, 48, 64]
    output = Path(spec["partition"], "evaluation")
    assert sorted(each.name for each in output.iterdir()) == ["evaluation.json", "evaluation.png"]
    assert json.loads((output / "evaluation.json").read_text()) == told
    pair = (rows["learned, misses 0.5"], rows["learned"])
    misses, learned = (np.interp(0.15, row["scanned"], row["recall@10"]) for row in pair)
    assert misses > learned


def test_given_rows_are_the_truth(spec: dict[str, Any], tmp_path: Path) -> None:
    whole = evaluate(spec | {"budgets": [0]})
    base, query = np.load(spec["base"]).astype(np.float64), np.load(spec["queries"]).astype(np.float64)
    near = np.argsort(((query[:, None] - base[None]) ** 2).sum(2), axis=1)[:, :100].astype(np.int32)
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["train"], file["test"], file["neighbors"] = np.load(spec["base"]), np.load(spec["queries"]), near
    address = str(tmp_path / "set.hdf5")
    given = {"base": address, "queries": address, "truth": address, "output": str(tmp_path / "again")}
    again = evaluate(spec | given | {"budgets": [0]})
    assert [row["recall@10"] for row in again["variants"]] == [row["recall@10"] for row in whole["variants"]]


def test_identities(spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of the same object: those of the query's own part of the mixture; a query without any does not count."""
    base, query = np.load(spec["base"]), np.load(spec["queries"])
    rows = np.full((120, 5), -1, np.int64)
    rows[1:, :2] = np.argsort(((query[1:, None] - base[None]) ** 2).sum(2), axis=1)[:, [0, 30]]
    np.save(tmp_path / "rows.npy", rows)
    told = evaluate(spec | {"truth": str(tmp_path / "rows.npy"), "identity": True, "budgets": [0, 1]})
    assert told["queries"]["number"] == 119 and "1 of 120 queries have no true row" in capsys.readouterr().err
    for row in told["variants"]:
        if row["probes"][-1] == row["lists"]:
            assert row["top1"][-1] == 1 and row["in_lists"][-1] == 1
        assert row["top1"] == sorted(row["top1"]) and row["top1"][0] >= row["in_lists"][0]


def test_stopped_and_gone_on_with(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(spec | {"output": spec["partition"] + "-whole"})
    k_means = job.k_means

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "k_means", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(spec)
    monkeypatch.setattr(job, "k_means", k_means)
    monkeypatch.setattr(job, "neighbours", stop)  # found before it was stopped
    assert evaluate(spec) == expected
    with pytest.raises(SpecError, match="holds an evaluation"):
        evaluate(spec)


@pytest.mark.parametrize("name", ["base", "queries", "learn", "truth"])
def test_what_was_done_on_other_vectors_is_not_gone_on_with(
    name: str, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truth(number: int) -> None:
        np.save(tmp_path / "truth.npy", np.random.default_rng(number).integers(2000, size=(120, 10)))

    truth(0)
    spec = spec | {"budgets": [0.5]} | ({"truth": str(tmp_path / "truth.npy")} if name == "truth" else {})
    with monkeypatch.context() as patched:
        patched.setattr(job, "measured", _stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(spec)
    if name == "truth":
        truth(1)
    else:
        number = {"base": 2000, "queries": 120, "learn": 3000}[name]
        np.save(tmp_path / f"{name}.npy", mixture(number, 9))
    assert evaluate(spec)["variants"] == evaluate(spec | {"output": str(tmp_path / "anew")})["variants"]


def _stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_the_command_line(spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = [spec["partition"], "--base", spec["base"], "--queries", spec["queries"], "--budgets", "0,0.5"]
    assert main(["partition", "evaluate", *words]) == 0
    out = capsys.readouterr().out
    assert "copies: air 0.5" in out and "k-means, 48 lists" in out and "…" not in out
    assert main(["partition", "evaluate", *words]) == 2
    assert main(["partition", "evaluate", *words, "--overwrite"]) == 0
    assert main(["partition", spec["base"], "--output", spec["partition"]]) == 2  # the job `partition` itself
    assert "holds a partition" in capsys.readouterr().err


def test_vectors_that_are_gone(spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "learn.npy").rename(tmp_path / "elsewhere.npy")
    told = evaluate(spec | {"budgets": [0, 0.5]})
    assert [row["name"] for row in told["variants"]][-1] == "k-means, 32 lists"
    assert "no k-means with 48 lists" in capsys.readouterr().err
    more = {"output": str(tmp_path / "again"), "vectors": str(tmp_path / "elsewhere.npy")}
    assert evaluate(spec | {"budgets": [0, 0.5]} | more)["variants"][-1]["lists"] == 48


@pytest.mark.parametrize(
    ("change", "array", "error", "said"),
    [
        ({"identity": True}, None, SpecError, "truth is needed"),
        ({"probes": [33]}, None, SpecError, "there are 32 lists"),
        ({"budgets": [-1]}, None, SpecError, "budgets"),
        ({"copies": ["ratio"]}, None, SpecError, "copies=.*has no effect: .*makes no copies"),
        ({"vectors": "learn.npy"}, None, SpecError, "vectors=learn.npy: has no effect"),
        ({"sample": 500}, None, SpecError, "sample=500: has no effect"),
        ({"budgets": [0.5], "copies": ["air"], "sample": 500}, None, SpecError, "only the rule misses looks at"),
        ({"budgets": [0, 2], "copies": ["misses", "soar"]}, None, SpecError, "soar gives each vector one further list"),
        ({}, np.zeros((119, 5), np.int64), DataError, "119 lines for 120 queries"),
        ({}, np.full((120, 5), 2000, np.int64), DataError, "line 0 names row 2000 of a base of 2,000"),
        ({}, np.full((120, 5), -1, np.int64), DataError, "no query has a true row"),
        ({}, np.zeros((120, 5), np.float32), DataError, "expected whole numbers"),
    ],
)
def test_what_cannot_be_measured(
    spec: dict[str, Any], tmp_path: Path, change: dict[str, Any], array: np.ndarray | None,
    error: type[KinsightError], said: str,
) -> None:  # fmt: skip
    if array is not None:
        np.save(tmp_path / "rows.npy", array)
        change = change | {"truth": str(tmp_path / "rows.npy")}
    with pytest.raises(error, match=said):
        evaluate(spec | {"budgets": [0]} | change)


@pytest.mark.parametrize("spec", ["ip"], indirect=True)
def test_vectors_longer_than_those_learned_from(spec: dict[str, Any]) -> None:
    np.save(spec["base"], np.load(spec["base"]) * 2)
    with pytest.raises(DataError, match="the partition was learned from up to 15"):
        evaluate(spec)


def test_vectors_of_another_length(spec: dict[str, Any]) -> None:
    np.save(spec["queries"], mixture(50, 3, dim=11))
    with pytest.raises(DataError, match=r"queries.npy has 11 dimensions, the partition 12"):
        evaluate(spec)


def test_neighbours_under_inner_products_are_those_of_largest_product(tmp_path: Path) -> None:
    """Vectors of uneven lengths as queries: as an index searches for them, and not by where they lie as rows."""
    vector_ND = mixture(500, 4) * np.random.default_rng(5).lognormal(0, 0.5, (500, 1)).astype(np.float32)
    np.save(tmp_path / "base.npy", vector_ND)
    longest = float(np.linalg.norm(vector_ND.astype(np.float64), axis=1).max())
    space, none = Space("ip", 12, longest, None), torch.empty(0, 0)
    base = open_vector_file(tmp_path / "base.npy")
    exam = Exam(base, space, space, none, none, False, None, torch.device("cpu"))
    with storage.OutputDir(tmp_path / "out") as output:
        found = neighbours(Work(output, {}, overwrite=False), "near", exam, 60, 0)
    product_SN = vector_ND[found.row_S].astype(np.float64) @ vector_ND.T.astype(np.float64)
    product_SN[np.arange(60), found.row_S] = -np.inf
    assert np.array_equal(found.near_SK.numpy(), np.argsort(-product_SN, axis=1)[:, :20])
