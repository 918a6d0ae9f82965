"""Defaults on real vectors: what they find of the exact answer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from index_cases import built

from kinsight.neighbors import topk

_FILE = Path(__file__).resolve().parents[2] / "../shared/data/vectors/bigann10k_u8.npy"


@pytest.mark.skipif(not _FILE.exists(), reason="the vectors are not there")
@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivf-pq"])
def test_defaults_find_95_of_100_neighbours(tmp_path, kind, metric):
    vector_ND = np.load(_FILE).astype(np.float32)
    base_ND, query_QD = vector_ND[:9000], torch.from_numpy(vector_ND[9000:9500])
    _, truth_QK = topk(query_QD, torch.from_numpy(base_ND), 10, metric=metric)
    found_QK = built(tmp_path, base_ND, metric=metric, index={"kind": kind}).search(query_QD, 10).row_QK
    found = [len(set(a) & set(b)) / 10 for a, b in zip(found_QK.tolist(), truth_QK.tolist(), strict=True)]
    assert np.mean(found) >= 0.95
