"""The other library's parts in our loop: every counterpart trains, and both sides are put beside each other."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from compared import base_tree, small

pytest.importorskip("pytorch_metric_learning")

from kinsight.bench.compare import run
from kinsight.bench.peer_losses import PeerBatches, PeerObjective, has_counterpart
from kinsight.data import read_records
from kinsight.specs.bench_compare import BenchCompare
from kinsight.specs.data import Csv
from kinsight.specs.load import of
from kinsight.specs.samplers import PerClassSampler
from kinsight.specs.train import TrainSpec


def _spec(images: Path, loss: dict, sampler: dict | None = None) -> TrainSpec:
    return of(TrainSpec, base_tree(images) | {"output": "x", "loss": loss, "sampler": sampler or {"kind": "shuffle"}})


LOSSES = [
    {"kind": kind}
    for kind in (
        *("normalized-softmax", "am-softmax", "cosface", "arcface", "sub-center-arcface", "sphereface", "proxy-nca"),
        *("proxy-anchor", "soft-triple", "contrastive", "triplet", "multi-similarity", "circle", "info-nce", "supcon"),
        *("smooth-ap", "fast-ap"),
    )
] + [
    {"kind": "triplet", "miner": {"kind": kind}}
    for kind in ("hard", "semi-hard", "distance-weighted", "multi-similarity", "angular")
] + [{"kind": "contrastive", "memory": {"size": 32}}]  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of the library with numpy 2
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: "-".join([loss["kind"], *list(loss)[1:]]))
def test_counterparts_have_gradients(loss: dict, images: Path) -> None:
    import torch

    spec = _spec(images, loss)
    assert has_counterpart(spec) is None
    torch.manual_seed(0)
    objective = PeerObjective(spec, num_classes=4)
    emb_BD = torch.randn(16, 8, requires_grad=True)
    value, stats = objective(emb_BD, torch.arange(16) // 4, global_batch=16)
    value.backward()
    assert emb_BD.grad is not None and emb_BD.grad.isfinite().all() and stats["loss"] == value.detach()


def test_what_has_none_is_named(images: Path) -> None:
    assert has_counterpart(_spec(images, {"kind": "recall-at-k"})) == "loss recall-at-k"
    assert has_counterpart(_spec(images, {"kind": "supcon"}, {"kind": "class-balanced"})) == "sampler class-balanced"


def test_batches_are_a_function_of_the_epoch(images: Path) -> None:
    records = read_records(Csv(path=str(images)))
    spec = _spec(images, {"kind": "supcon"}, {"kind": "per-class"})
    assert isinstance(spec.sampler, PerClassSampler)
    batches = PeerBatches(records, spec.sampler, 6, spec)
    first, second = batches.epoch(0), batches.epoch(1)
    assert len(first) == batches.num_batches == 6 and not np.array_equal(first, second)
    assert np.array_equal(first, batches.epoch(0))
    assert all(sorted(np.unique(records.label_N[batch], return_counts=True)[1]) == [4] * 4 for batch in first)


def test_both_sides(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = small(images, tmp_path / "unused", budget={"steps": 3}, curve=1)
    tree["candidates"]["recall"] = {"loss": {"kind": "recall-at-k"}, "sampler": {"kind": "per-class"}}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(tree))
    spec = BenchCompare(comparison=str(tmp_path / "compare.yaml"), output=str(tmp_path / "bench"))
    found = run(spec)
    printed = capsys.readouterr()
    assert "left out    recall on the peer's side: it has no loss recall-at-k" in printed.err
    assert "our best, " in printed.out and "the peer's best, " in printed.out
    assert found["difference"] == pytest.approx(found["ours"]["mean"] - found["peer"]["mean"])
    assert len(found["conditions"]) == 1
    assert "pytorch-metric-learning" in (tmp_path / "bench/peer/report/index.html").read_text()
    assert "pytorch-metric-learning" not in (tmp_path / "bench/ours/report/index.html").read_text()
