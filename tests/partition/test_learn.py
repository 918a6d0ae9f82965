"""The job: from a file of vectors to a partition, stopped and gone on with, on right and wrong input."""

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinsight.errors import DataError, KinsightError, SpecError, StorageError
from kinsight.partition import Partition, learn
from kinsight.partition import learn as learn_function
from kinsight.partition.learn import Learning
from kinsight.specs.load import of
from kinsight.specs.partition import PartitionSpec


def vectors(number: int = 3000, dim: int = 16, seed: int = 0) -> np.ndarray:
    """A mixture whose parts are long in different directions."""
    random = np.random.default_rng(seed)
    centre, stretch = random.normal(size=(30, dim)) * 2, random.gamma(1.0, 1.0, (30, dim))
    which = random.integers(30, size=number)
    return (centre[which] + random.normal(size=(number, dim)) * stretch[which]).astype(np.float32)


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    np.save(tmp_path / "learn.npy", vectors())
    return {
        "vectors": str(tmp_path / "learn.npy"), "output": str(tmp_path / "out"), "metric": "l2", "lists": 32,
        "held_out": 500, "fit": {"epochs": 4}, "cluster": {"iterations": 8}, "device": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"components": 8},
        {"router": {"kind": "mlp", "hidden": [32]}},
        {"router": {"kind": "mlp", "hidden": [32, 16], "dropout": 0.05}},
    ],
    ids=str,
)
def test_it_scans_less_than_k_means(metric: str, more: dict[str, Any], spec: dict[str, Any]) -> None:
    header = learn(spec | {"metric": metric} | more)
    learned, start = header.measured["learned"], header.measured["k-means"]
    assert len(learned["scanned"]) == len(header.measured["probes"])
    assert (
        np.interp(0.2, learned["scanned"], learned["recall@10"])
        > np.interp(0.2, start["scanned"], start["recall@10"]) - 0.02
    )
    found = Partition.load(spec["output"])
    assert found.size_L.sum() == 3000 and found.header == header
    assert not Path(spec["output"], "work").exists()
    plain = np.load(Path(spec["output"], "ivfast.npy"), allow_pickle=False)
    assert plain.shape == (32, 16) and plain.dtype == np.float32


def test_the_plain_centres_have_the_lists_centres_as_their_components(spec: dict[str, Any]) -> None:
    learn(spec | {"components": 6})
    found = Partition.load(spec["output"])
    routed_LR = found.space.rows(torch.from_numpy(found.plain_centres()))
    torch.testing.assert_close(routed_LR[:, :5], found.clusters.centre_LD[:, :5], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(routed_LR[:, 5], torch.zeros(32), rtol=0, atol=1e-1)  # nothing beside the components


@pytest.mark.parametrize("more", [{}, {"router": {"kind": "mlp", "hidden": [16], "dropout": 0.3}}], ids=str)
def test_stopped_and_gone_on_with_it_is_the_same(
    more: dict[str, Any], spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec |= more
    whole = learn(spec | {"output": spec["output"] + "-whole"})
    from kinsight.partition import work

    kept, calls = work.Work.keep_fit, []

    def stop_after_two(self: work.Work, state: Any) -> None:
        kept(self, state)
        calls.append(state.epoch)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(work.Work, "keep_fit", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        learn(spec)
    with pytest.raises(SpecError, match="other settings"):
        learn(spec | {"lists": 16})
    learn(spec)
    assert calls == [1, 2, 3, 4]
    for name in ("ivfast.npy", "ivfast.safetensors"):
        assert Path(spec["output"], name).read_bytes() == Path(spec["output"] + "-whole", name).read_bytes()
    assert json.loads(Path(spec["output"], "partition.json").read_text())["measured"] == whole.measured


def test_queries_of_the_past_teach_the_router(spec: dict[str, Any], tmp_path: Path) -> None:
    """Queries from elsewhere: other signs, other lengths, beside the vectors."""
    np.save(tmp_path / "log.npy", np.abs(vectors(4000)) * 2 + 3)
    found = learn(spec | {"queries": str(tmp_path / "log.npy"), "metric": "ip", "fit": {"epochs": 8}}).measured
    learned, start = (
        np.interp(0.1, found[each]["scanned"], found[each]["recall@10"]) for each in ("learned", "k-means")
    )
    assert learned > start + 0.02


@pytest.mark.parametrize(
    ("array", "metric", "error", "message"),
    [
        (np.full((400, 8), np.nan, np.float32), "l2", DataError, "NaN"),
        (np.zeros((400, 8), np.float32), "cosine", DataError, "zero"),
        (vectors(100), "l2", SpecError, "too few for 32 lists"),
        (np.zeros(300, np.float32), "l2", DataError, "expected numbers"),
        (np.array([{}] * 400), "l2", DataError, "not a plain npy"),
    ],
    ids=["nan", "zero", "few", "flat", "objects"],
)
def test_vectors_that_cannot_be_learned_from(
    array: np.ndarray, metric: str, error: type[KinsightError], message: str, spec: dict[str, Any]
) -> None:
    np.save(spec["vectors"], array, allow_pickle=True)
    with pytest.raises(error, match=message):
        learn(spec | {"metric": metric})
    assert not Path(spec["output"], "partition.json").exists()


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.float16])
def test_other_numbers_and_orders(dtype: type, spec: dict[str, Any]) -> None:
    np.save(spec["vectors"], np.asfortranarray(np.clip(vectors() * 10 + 100, 0, 255).astype(dtype)))
    assert learn(spec).lists == 32


def test_a_partition_is_not_replaced_unasked(spec: dict[str, Any]) -> None:
    learn(spec)
    with pytest.raises(SpecError, match="holds a partition"):
        learn(spec)
    learn_function(spec | {"lists": 16}, overwrite=True)
    assert Partition.load(spec["output"]).header.lists == 16


@pytest.mark.parametrize(
    ("change", "number", "error", "message"),
    [
        ({}, 1, DataError, r"queries\.npy: holds 1: 2 at least are needed"),
        ({"router": {"kind": "mlp"}}, 2, DataError, r"queries\.npy: holds 2: 3 at least are needed"),
        ({"router": {"kind": "mlp"}, "fit": {"batch_size": 1}}, 9, SpecError, "fit.batch_size=1: an mlp is normalised"),
        ({"router": {"kind": "mlp"}, "targets": {"sample": 1}}, 9, SpecError, "targets.sample=1: an mlp is normalised"),
        ({"fit": {"lr": 1e38}}, 9, SpecError, "fit.lr"),
    ],
    ids=["one", "two", "batch", "sample", "rate"],
)
def test_too_little_to_learn_routing_from(
    change: dict[str, Any], number: int, error: type[KinsightError], message: str, spec: dict[str, Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "queries.npy", vectors(number))
    with pytest.raises(error, match=message):
        learn(spec | {"queries": str(tmp_path / "queries.npy")} | change)
    assert not Path(spec["output"], "partition.json").exists()


@pytest.mark.parametrize("more", [{}, {"router": {"kind": "mlp", "hidden": [8]}}], ids=str)
def test_as_few_queries_as_will_do(more: dict[str, Any], spec: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "queries.npy", vectors(2 + bool(more)))
    assert learn(spec | {"queries": str(tmp_path / "queries.npy")} | more).measured["queries"] == 1


def test_one_vector(spec: dict[str, Any]) -> None:
    np.save(spec["vectors"], vectors(1))
    for lists in (None, 2):
        with pytest.raises(DataError, match="1 vector is too few: 16 at least are needed"):
            learn(spec | {"lists": lists})


@pytest.mark.parametrize("components", [None, 6])
def test_nothing_but_the_verdict_comes_from_vectors_held_out(components: int | None, spec: dict[str, Any]) -> None:
    """Where they lie changes neither components, centres nor prices."""
    made: list[Partition] = []
    for change in (0.0, 100.0):
        held_H = Learning.of(of(PartitionSpec, spec))._query_rows[0]
        vector_ND = vectors()
        vector_ND[held_H] += change
        np.save(spec["vectors"], vector_ND)
        learn(spec | {"components": components}, overwrite=True)
        made.append(Partition.load(spec["output"]))
    before, after = made
    assert len(held_H) == 500 and not torch.equal(before.held_HD, after.held_HD)
    assert torch.equal(before.clusters.centre_LD, after.clusters.centre_LD)
    assert torch.equal(before.clusters.price_L, after.clusters.price_L)
    assert all(torch.equal(each, after.space.tensors()[name]) for name, each in before.space.tensors().items())


def test_the_queries_that_settings_are_found_by_come_from_all_of_the_file(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    vector_ND = vectors()
    vector_ND[:, 0] = np.linspace(0, 100, len(vector_ND))  # as files are that were written class by class
    np.save(spec["vectors"], vector_ND)
    monkeypatch.setattr(sys.modules[Learning.__module__], "MOST_HELD", 60)
    learn(spec)
    place_H = Partition.load(spec["output"]).held_HD[:, 0]
    assert len(place_H) == 60 and place_H.min() < 20 and place_H.max() > 80 and 35 < place_H.mean() < 65


def test_what_was_learned_in_vain_is_said(spec: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    learn(spec | {"fit": {"epochs": 8}})
    assert "k-means scans" not in capsys.readouterr().err
    learn(spec | {"fit": {"epochs": 1, "lr": 1e6, "warmup_epochs": 0}}, overwrite=True)  # a network of noise
    assert "for a recall of 95 % on vectors held out k-means scans" in capsys.readouterr().err


def test_a_failed_save_leaves_the_old_partition(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    learn(spec)
    written = Partition.to_bytes

    def too_long(self: Partition) -> bytes:
        return written(self) + bytes(3_000_000)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(Partition, "to_bytes", too_long)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, limit[1]))  # as a full disk: small files can be written
    try:
        with pytest.raises(StorageError):
            learn(spec | {"lists": 16}, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert Partition.load(spec["output"]).header.lists == 32
    monkeypatch.undo()
    learn(spec | {"lists": 16}, overwrite=True)
    assert Partition.load(spec["output"]).header.lists == 16
    names = ["ivfast.npy", "ivfast.safetensors", "partition.json", "partition.png"]
    assert sorted(each.name for each in Path(spec["output"]).iterdir()) == names


def test_identical_vectors(spec: dict[str, Any]) -> None:
    np.save(spec["vectors"], np.ones((3000, 8), np.float32))
    with pytest.raises(DataError, match=r"none differs from the others: too few for 32 lists\n.*index of kind flat"):
        learn(spec)


@pytest.mark.parametrize(("distinct", "refused"), [(30, True), (100, False), (2600, None)])
def test_vectors_of_which_few_are_distinct(
    spec: dict[str, Any], capsys: pytest.CaptureFixture[str], distinct: int, refused: bool | None
) -> None:
    np.save(spec["vectors"], np.resize(vectors(seed=2)[:distinct], (3000, vectors().shape[1])))
    if refused:
        with pytest.raises(
            DataError, match=r"vectors drawn only 30 are distinct: too few for 32 lists\n.*set lists to 3"
        ):
            learn(spec)
        assert not Path(spec["output"]).exists()
        return
    assert learn(spec).lists == 32
    said = "vectors drawn only 100 are distinct, less than 8 for each of 32 lists: .* set lists to 12 at most"
    assert bool(re.search(said, capsys.readouterr().err.replace("\n", " "))) == (refused is False)


@pytest.mark.parametrize("row", [1234, 2999])  # one that is looked at first is the last
def test_vectors_that_are_refused_leave_nothing_behind(spec: dict[str, Any], tmp_path: Path, row: int) -> None:
    good_ND = vectors(seed=3)
    bad_ND = good_ND.copy()
    bad_ND[row, 1] = np.nan
    np.save(spec["vectors"], bad_ND)
    output = tmp_path / "new" / "partition"
    with pytest.raises(DataError, match=f"row {row} holds NaN"):
        learn(spec | {"output": str(output)})
    assert not output.parent.exists()
    np.save(spec["vectors"], good_ND)
    assert learn(spec | {"output": str(output)}).lists == 32


def test_work_on_other_vectors_is_not_gone_on_with(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from kinsight.partition import work

    def stop(self: work.Work, state: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work.Work, "keep_fit", stop)
    with pytest.raises(KeyboardInterrupt):
        learn(spec)
    np.save(spec["vectors"], vectors(seed=1))
    with pytest.raises(SpecError, match="other settings or vectors"):
        learn(spec)
