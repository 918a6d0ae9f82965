"""Indexes written by version 1 of the format still open, and find what they found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from index_cases import KINDS, grouped

from kinsight.indexing import Index
from kinsight.neighbors import topk

_GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", KINDS)
def test_version_1_opens_and_searches(kind):
    index = Index.open(_GOLDEN / f"{kind}-v1")
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
