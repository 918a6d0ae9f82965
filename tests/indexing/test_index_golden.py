"""Indexes written by versions 1 and 2 of the format still open, and find what they found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from index_cases import KINDS, grouped

from kinsight.indexing import Index, delete
from kinsight.neighbors import topk

_GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", [*(f"{kind}-v1" for kind in KINDS), "flat-v2"])
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
    assert torch.equal(hits.similarity_QK, similarity_QK)
    assert not (hits.row_QK == 7).any()


def test_a_write_brings_version_1_up_to_date(tmp_path):
    folder = shutil.copytree(_GOLDEN / "flat-v1", tmp_path / "index")
    assert "digest" not in json.loads((folder / "index.json").read_text())
    delete({"index": str(folder), "ids": ["s3"]})
    written = json.loads((folder / "index.json").read_text())
    assert (written["version"], len(written["digest"]), len(Index.open(folder))) == (2, 64, 58)
