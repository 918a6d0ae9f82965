"""Partitions written by versions 1 and 2 of the format still open, and route as they did."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kinsight.errors import DataError
from kinsight.partition import Partition
from kinsight.partition.evaluate import evaluate

_GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("name", "metric", "hidden", "likeness"), [("l2-v1", "l2", (), False), ("cosine-v2", "cosine", (4,), True)]
)
def test_what_was_written_once_opens_and_routes(
    name: str, metric: str, hidden: tuple[int, ...], likeness: bool
) -> None:
    """scores.npy: the router's, of twenty queries, as the version that wrote it computed them."""
    found = Partition.load(_GOLDEN / name)
    assert (found.header.metric, found.header.hidden, found.header.lists, found.header.dim) == (metric, hidden, 6, 8)
    assert found.space.routed_dim == 5 and (found.space.likeness is not None) == likeness
    query_QD = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32))
    with torch.inference_mode():
        score_QL = found.router(found.space.queries(query_QD))
    np.testing.assert_allclose(score_QL.numpy(), np.load(_GOLDEN / name / "scores.npy"), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.plain_centres(), np.load(_GOLDEN / name / "ivfast.npy"), rtol=1e-5, atol=1e-5)


def test_settings_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    folder = shutil.copytree(_GOLDEN / "cosine-v2", tmp_path / "part")
    header = json.loads((folder / "partition.json").read_text())
    header["spec"] |= {"later": 1}
    for name in ("cluster", "router", "fit"):
        header["spec"][name] |= {"later": {"kind": "x"}}
    (folder / "partition.json").write_text(json.dumps(header))
    vector_ND = np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)
    np.save(tmp_path / "v.npy", vector_ND)
    np.save(tmp_path / "q.npy", vector_ND[:40] + np.float32(0.1))
    spec = {"partition": str(folder), "base": str(tmp_path / "v.npy"), "queries": str(tmp_path / "q.npy")}
    told = evaluate(spec | {"vectors": str(tmp_path / "v.npy"), "budgets": [0, 1], "device": "cpu"})
    assert [row["lists"] for row in told["variants"]] == [6, 6, 6, 12]
    header["spec"]["cluster"]["per_list"] = "many"
    (folder / "partition.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"does not say how it was learned: cluster\.per_list"):
        evaluate(spec | {"device": "cpu"}, overwrite=True)
