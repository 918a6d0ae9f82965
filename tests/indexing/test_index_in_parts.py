"""Many queries at once, of which each core takes a part: what is found is what each query finds by itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinsight.errors import DataError
from kinsight.indexing import Index, build
from kinsight.indexing import index as index_module
from kinsight.indexing import learned as learned_module
from kinsight.neighbors.threads import in_parts
from kinsight.partition import learn

ROWS, QUERIES, DIM, K = 3000, 1100, 16, 10


def vectors(number: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(9).normal(size=(40, DIM))
    return (centre[random.integers(40, size=number)] + 0.5 * random.normal(size=(number, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    np.save(folder / "base.npy", vectors(ROWS, 0))
    common = {"vectors": str(folder / "base.npy"), "metric": "l2", "lists": 30, "fit": {"epochs": 2}, "device": "cpu"}
    learn(common | {"output": str(folder / "whole")})
    learn(common | {"output": str(folder / "short"), "components": 8})
    return folder


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two threads, and everything in pieces so small that there are several of each; how many there were."""
    before, made = torch.get_num_threads(), []

    def counted(work, rows, least, most):  # pyright: ignore
        made.append(len(found := in_parts(work, rows, least, most)))
        return found

    torch.set_num_threads(2)
    monkeypatch.setattr(index_module, "in_parts", counted)
    monkeypatch.setattr(index_module, "_PART", (256, 300))
    monkeypatch.setattr(index_module, "_REFINED", 70)
    monkeypatch.setattr(learned_module, "_AT_ONCE", 130)
    yield made
    torch.set_num_threads(before)


KINDS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "learned, refined": ("short", {"payload": "fastscan", "nprobe": 4, "refine": 4}),
    "learned, as exact as its lists": ("whole", {"payload": "flat", "nprobe": 4, "refine": 1}),
    "learned, by mass, with copies": ("short", {"payload": "sq8", "mass": 0.9, "refine": 3, "copies": {"budget": 0.3}}),
    "hnsw": (None, {"kind": "hnsw", "m": 8}),
    "ivf-pq": (None, {"kind": "ivf-pq", "lists": 20, "nprobe": 4}),
}


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Index:
    partition, settings = KINDS[request.param]
    spec: dict[str, Any] = {"embeddings": str(made / "base.npy"), "output": str(tmp_path / "index"), "metric": "l2"}
    if partition is not None:
        spec["partition"] = str(made / partition)
    return Index.open(build(spec | {"index": settings}))


def alone(index: Index, query_QD: torch.Tensor, exclude_Q: torch.Tensor | None = None) -> torch.Tensor:
    """Rows found by so few queries at a time that they are not shared out."""
    found = []
    for start in range(0, len(query_QD), 50):
        here = slice(start, start + 50)
        exclude_B = None if exclude_Q is None else exclude_Q[here]
        found.append(index.search(query_QD[here], K, exclude_Q=exclude_B).row_QK)
    return torch.cat(found)


def test_many_queries_find_what_each_finds(index: Index, pieces: list[int]) -> None:
    query_QD = torch.from_numpy(vectors(QUERIES, 1))
    row_QK = index.search(query_QD, K).row_QK
    assert pieces == [4]
    # sums of other blocks differ in their last bits, which may decide about a list
    assert (row_QK == alone(index, query_QD)).all(1).float().mean() > 0.995


def test_each_of_many_leaves_out_its_own_row(index: Index) -> None:
    own_Q = torch.arange(QUERIES).flip(0)
    query_QD = torch.from_numpy(vectors(ROWS, 0))[own_Q]
    row_QK = index.search(query_QD, K, exclude_Q=own_Q).row_QK
    assert not (row_QK == own_Q[:, None]).any()
    assert (index.search(query_QD, K).row_QK[:, 0] == own_Q).float().mean() > 0.9
    assert (row_QK == alone(index, query_QD, own_Q)).all(1).float().mean() > 0.995


def test_more_are_wanted_than_lists_propose(index: Index) -> None:
    query_QD = torch.from_numpy(vectors(QUERIES, 1))
    expected_QK = index.gallery.topk(query_QD, ROWS + 5)[1]
    row_QK = index.search(query_QD, ROWS + 5).row_QK
    assert (row_QK[:, ROWS:] == -1).all() and (row_QK == expected_QK).float().mean() > 0.99


def test_autograd_may_be_set_as_one_likes(index: Index) -> None:
    query_QD = torch.from_numpy(vectors(QUERIES, 1))
    expected_QK = index.search(query_QD, K).row_QK
    with torch.inference_mode():
        assert torch.equal(index.search(query_QD, K).row_QK, expected_QK)
    with torch.no_grad():
        assert torch.equal(index.search(query_QD, K).row_QK, expected_QK)


def test_many_ask_at_once(index: Index) -> None:
    query_QD = torch.from_numpy(vectors(QUERIES, 1))
    expected_QK = index.search(query_QD, K).row_QK
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: index.search(query_QD, K).row_QK, range(12)):
            assert torch.equal(found, expected_QK)


def test_a_bad_query_is_named_by_its_place_among_all(index: Index) -> None:
    query_QD = torch.from_numpy(vectors(QUERIES, 1))
    query_QD[1005, 3] = torch.nan
    with pytest.raises(DataError, match="1005"):
        index.search(query_QD, K)
