"""Searching works in a process where another library has let faiss take torch tensors."""

import subprocess
import sys

SCRIPT = """
import sys, numpy as np, faiss, faiss.contrib.torch_utils, torch
from kinsight.indexing import Index, build
place = sys.argv[1]
np.save(f"{place}/x.npy", np.random.default_rng(0).standard_normal((500, 16), dtype=np.float32))
for kind in ("hnsw", "ivf", "ivf-pq"):
    bits = {"bits": 4} if kind == "ivf-pq" else {}
    build({"embeddings": f"{place}/x.npy", "output": f"{place}/{kind}", "index": {"kind": kind, **bits}})
    index = Index.open(f"{place}/{kind}")
    assert (index.search(index.vectors(range(20)), 1).row_QK[:, 0] == torch.arange(20)).float().mean() > 0.9, kind
"""


def test_indexes_beside_faiss_torch_utils(tmp_path):
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
