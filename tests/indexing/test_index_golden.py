"""Indexes written by versions 1 and 2 of the format still open, and find what they found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_cases import KINDS, grouped

from kinsight.indexing import Index, delete
from kinsight.indexing.header import read_header, sealed
from kinsight.indexing.merging import _as_built
from kinsight.neighbors import topk
from kinsight.specs.index import LearnedIndex
from kinsight.storage import Address

_GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", [*(f"{kind}-v1" for kind in KINDS), "flat-v2", "learned-v2"])
def test_what_was_written_once_opens_and_searches(name):
    index, kind = Index.open(_GOLDEN / name), name.rpartition("-")[0]
    assert (index.kind, len(index), index.num_rows, index.dim, index.model) == (kind, 59, 60, 8, "runs/first")
    assert index.rows_of(["s0", "s59"]).tolist() == [0, 59]
    assert index.items([12]).to_pylist() == [{"id": "s12", "label": "cat", "uri": "images/12.png", "price": 3.0}]
    vector_ND = torch.from_numpy(grouped(60, 8))
    assert torch.equal(index.vectors(np.arange(60)), vector_ND)
    live_M = torch.tensor([row for row in range(60) if row != 7])
    similarity_QK, _ = topk(vector_ND, vector_ND[live_M], 59)
    hits = index.search(vector_ND, 59)
    error = 1e-6 if kind == "learned" else 0.0  # learned: sums in float32
    torch.testing.assert_close(hits.similarity_QK, similarity_QK, rtol=10 * error, atol=error)
    assert not (hits.row_QK == 7).any()


def test_a_write_brings_version_1_up_to_date(tmp_path):
    folder = shutil.copytree(_GOLDEN / "flat-v1", tmp_path / "index")
    assert "digest" not in json.loads((folder / "index.json").read_text())
    delete({"index": str(folder), "ids": ["s3"]})
    written = json.loads((folder / "index.json").read_text())
    assert (written["version"], len(written["digest"]), len(Index.open(folder))) == (2, 64, 58)


def test_settings_of_a_later_version_are_passed_over(tmp_path):
    folder = shutil.copytree(_GOLDEN / "learned-v2", tmp_path / "index")
    content: dict[str, Any] = json.loads((folder / "index.json").read_text())
    content["structure"] |= {"later": [1]}
    content["structure"]["copies"] |= {"later": 2}
    content["spec"]["index"] |= {"later": {"kind": "x"}}
    content["spec"]["index"]["copies"] |= {"later": 3}
    (folder / "index.json").write_text(json.dumps(sealed(content)))
    index = Index.open(folder)
    assert index.search(torch.from_numpy(grouped(60, 8)), 1).row_QK[10:20, 0].tolist() == list(range(10, 20))
    assert _as_built(index.header) == _as_built(read_header(Address.parse(str(_GOLDEN / "learned-v2"))))


def test_an_index_that_does_not_say_how_it_was_built():
    header = read_header(Address.parse(str(_GOLDEN / "learned-v2"))).model_copy(update={"spec": {}})
    given, sought = _as_built(header), dict(header.structure) | {"recall": 0.9, "copies": None}
    assert isinstance(given, LearnedIndex) and (given.nprobe, given.refine, given.copies.budget) == (4, 50, 0.5)
    found = _as_built(header.model_copy(update={"structure": sought}))
    assert isinstance(found, LearnedIndex) and (found.recall, found.nprobe, found.copies.budget) == (0.9, None, 0)


def test_a_rule_without_copies_that_was_the_default_once():
    header = read_header(Address.parse(str(_GOLDEN / "learned-v2")))
    spec = {"index": header.spec["index"] | {"copies": {"rule": "misses", "budget": 0.0}}}
    found = _as_built(header.model_copy(update={"spec": spec}))
    assert isinstance(found, LearnedIndex) and found.copies.budget == 0
