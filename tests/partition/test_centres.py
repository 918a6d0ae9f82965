"""`ivfast.npy`: the lists' centres among users' vectors, whatever metric and components the lists were found with."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinsight.partition import Partition, learn


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("components", [None, 6])
def test_the_file_holds_centres_in_users_dimensions(metric: str, components: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vector_ND = (random.normal(size=(3000, 8)) @ random.normal(size=(8, 12)) + 2).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vector_ND)
    learn(
        {
            "vectors": str(tmp_path / "vectors.npy"),
            "output": str(tmp_path / "partition"),
            "metric": metric,
            "lists": 20,
            "components": components,
            "held_out": 200,
            "fit": {"epochs": 1, "warmup_epochs": 0},
            "device": "cpu",
        }
    )
    found = Partition.load(tmp_path / "partition")
    centre_LD = np.load(tmp_path / "partition" / "ivfast.npy", allow_pickle=False)
    assert centre_LD.shape == (20, 12) and centre_LD.dtype == np.float32
    if metric == "cosine":
        vector_ND = vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)
    routed_NR, centre_LR = found.space.rows(torch.from_numpy(vector_ND)), found.clusters.centre_LD
    nearest_N = torch.cdist(torch.from_numpy(vector_ND), torch.from_numpy(centre_LD)).argmin(1)
    if metric != "ip":  # without the coordinate that makes rows equally long
        kept = 12 if components is None else components - 1  # the last is the length of what the others leave out
        same_N = nearest_N == torch.cdist(routed_NR[:, :kept], centre_LR[:, :kept]).argmin(1)
        assert same_N.float().mean() > 0.999
    list_N = found.clusters.assign(routed_NR)[0]
    for number in range(20):
        mean_D = vector_ND[(list_N == number).numpy()].mean(0)
        near = np.linalg.norm(centre_LD - mean_D, axis=1).argmin()
        assert near == number
