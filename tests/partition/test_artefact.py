"""A partition on disk: whatever stops a save, the old one or the new one can be opened."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from kinsight import storage
from kinsight.errors import DataError, StorageError
from kinsight.partition import Partition, PartitionHeader
from kinsight.partition.clusters import Clusters
from kinsight.partition.routers import from_clusters
from kinsight.partition.space import Space

FILES = ["ivfast.npy", "ivfast.safetensors", "partition.json"]


def partition(lists: int) -> Partition:
    clusters = Clusters(torch.randn(lists, 4, generator=torch.Generator().manual_seed(lists)), torch.zeros(lists))
    header = PartitionHeader(metric="l2", dim=4, lists=lists)
    router = from_clusters(clusters, 1.0).requires_grad_(False)
    return Partition(header, Space("l2", 4, 0.0, None), clusters, router, torch.ones(lists), torch.zeros(2, 4))


def lists_at(folder: Path) -> int:
    found = Partition.load(folder)
    assert torch.equal(found.clusters.centre_LD, partition(found.header.lists).clusters.centre_LD)
    return found.header.lists


def stopped_at(number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """From now on the write or rename of that number fails; gives how many there were."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done > number:
                raise error
            return call(*arguments)

        return instead

    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(storage, name, counted(getattr(storage, name)))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    return lambda: done


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("storage.full", "no space left")], ids=repr)
def test_a_save_that_is_stopped_leaves_the_old_one_or_the_new_one(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    whole = False
    for number in range(20):
        partition(3).save(tmp_path)
        with monkeypatch.context() as patched:
            calls = stopped_at(number, error, patched)
            try:
                partition(5).save(tmp_path)
            except BaseException as raised:
                assert raised is error
            whole = calls() <= number
        seen.append(lists_at(tmp_path))
        for again in range(8):  # stopped in the midst of the next one, too
            with monkeypatch.context() as patched:
                stopped_at(again, error, patched)
                with suppress(type(error)):
                    partition(7).save(tmp_path)
            assert lists_at(tmp_path) in (seen[-1], 7)
        partition(9).save(tmp_path)
        assert lists_at(tmp_path) == 9 and sorted(each.name for each in tmp_path.iterdir()) == FILES
        if whole:
            break
    assert whole and seen[0] == 3 and seen[-1] == 5 and seen == sorted(seen) and seen.count(5) >= 3


def test_weights_that_the_header_does_not_name(tmp_path: Path) -> None:
    partition(3).save(tmp_path)
    partition(5).save(tmp_path / "other")
    (tmp_path / "other/ivfast.safetensors").replace(tmp_path / "ivfast.safetensors")
    with pytest.raises(DataError, match=r"not the file that partition\.json names"):
        Partition.load(tmp_path)
    (tmp_path / "ivfast.safetensors").unlink()
    with pytest.raises(DataError, match=r"ivfast\.safetensors is missing"):
        Partition.load(tmp_path)
