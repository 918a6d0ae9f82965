"""The search for neighbours, stopped in the midst of it and gone on with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinsight import storage
from kinsight.data.vector_files import VectorFile, open_vector_file
from kinsight.partition import learn, truth
from kinsight.partition.exact import nearest_rows
from kinsight.partition.space import Space
from kinsight.partition.work import Work


def vectors(number: int, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(number, dim)).astype(np.float32)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of 500 rows, of which those that were read are told, each of them kept."""
    told: list[int] = []
    whole = VectorFile.blocks

    def small(self: VectorFile, rows: int = 500, *, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        for first, row_BD in whole(self, rows, start=start):
            told.append(first)
            yield first, row_BD

    monkeypatch.setattr(VectorFile, "blocks", small)
    monkeypatch.setattr(truth, "_KEEP_S", 0.0)
    return told


@pytest.mark.parametrize("devices", [1, 3])
def test_it_goes_on_behind_the_last_block(devices: int, blocks: list[int], tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors(3000))
    source, space = open_vector_file(tmp_path / "v.npy"), Space("l2", 8, 0.0, None)
    query_QR, own_Q = torch.from_numpy(vectors(40)), torch.arange(40)
    places = (torch.device("cpu"),) * devices

    def sought(work: Work) -> torch.Tensor:
        return nearest_rows(work, "truth", source, space, query_QR, 7, own_Q=own_Q, devices=places)

    with storage.OutputDir(tmp_path / "out") as output:
        expected = sought(Work(output, {}, overwrite=False, folder="whole"))
        work = Work(output, {}, overwrite=False)
        keep, kept = Work.keep_begun, []

        def stop(self: Work, stage: str, tensors: dict[str, Any]) -> None:
            keep(self, stage, tensors)
            kept.append(int(tensors["rows"]))
            if len(kept) == 3:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Work, "keep_begun", stop)
            sought(work)
        blocks.clear()
        assert torch.equal(sought(work), expected)
        assert kept == [500, 1000, 1500] and blocks == [1500, 2000, 2500]
    distance = torch.cdist(query_QR.double(), torch.from_numpy(vectors(3000)).double())
    distance[torch.arange(40), own_Q] = torch.inf
    assert torch.equal(expected, distance.topk(7, largest=False).indices)


def test_a_learning_stopped_in_it_is_the_same(blocks: list[int], tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", vectors(3000))
    spec = {"vectors": str(tmp_path / "v.npy"), "metric": "l2", "lists": 16, "held_out": 200, "device": "cpu"}
    whole = learn(spec | {"output": str(tmp_path / "whole")})
    read, keep = len(blocks), Work.keep_begun
    stops = ["truth", "held"]

    def stop(self: Work, stage: str, tensors: dict[str, Any]) -> None:
        keep(self, stage, tensors)
        if stops and stage == stops[-1] and int(tensors["rows"]) == 2000:
            stops.pop()
            raise KeyboardInterrupt

    while stops:
        with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Work, "keep_begun", stop)
            learn(spec | {"output": str(tmp_path / "out")})
    blocks.clear()
    assert learn(spec | {"output": str(tmp_path / "out")}).measured == whole.measured
    assert blocks == [2000, 2500] and read == 18  # lists, held, neighbours
    assert (tmp_path / "out/ivfast.safetensors").read_bytes() == (tmp_path / "whole/ivfast.safetensors").read_bytes()
