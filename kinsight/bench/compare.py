"""The best of a comparison's candidates against the best of the same made of pytorch-metric-learning's parts.

Both sides go through `kinsight compare`: the same training loop, network, images, augmentation, batch, optimizer,
budget, folds, seeds and threads. The peer's side has its own losses, miners and M-per-class sampler. Candidates without
a counterpart are left out there and named.
"""

from typing import Any

from kinsight import progress, storage
from kinsight.comparing import compare
from kinsight.comparing.candidates import read_protocol
from kinsight.comparing.results import Comparison
from kinsight.comparing.statistics import corrected_test
from kinsight.comparing.table import print_table
from kinsight.errors import RunError
from kinsight.specs.bench_compare import BenchCompare
from kinsight.specs.compare import CompareSpec
from kinsight.specs.flags import check, load_yaml
from kinsight.specs.load import of
from kinsight.specs.train import TrainSpec


def run(spec: BenchCompare) -> dict[str, Any]:
    """Carry out both sides, print their tables and what lies between their best; the figures."""
    try:
        import pytorch_metric_learning

        from kinsight.bench.peer_losses import has_counterpart, train_peer
    except ImportError:
        raise RunError(
            "bench.peer", "pytorch-metric-learning is not installed", remedy="install it: uv sync --extra bench"
        ) from None
    spec = of(BenchCompare, spec)
    tree = load_yaml(storage.read_text(spec.comparison), spec.comparison)
    output = storage.Address.parse(spec.output)
    whole = of(CompareSpec, tree | {"output": spec.ours or str(output.child("ours"))})
    candidates = dict(whole.candidates)
    for candidate in read_protocol(whole).candidates:
        resolved = check(TrainSpec, candidate.tree)
        assert isinstance(resolved, TrainSpec)
        if lacking := has_counterpart(resolved):
            progress.say(f"left out    {candidate.name} on the peer's side: it has no {lacking}")
            del candidates[candidate.name]
    if len(candidates) < 2:
        raise RunError("bench.no-counterpart", "the peer has fewer than two of these candidates")
    peer = of(CompareSpec, tree | {"output": str(output.child("peer")), "candidates": candidates})
    library = f"pytorch-metric-learning {pytorch_metric_learning.__version__}"
    sides = {"ours": compare(whole), "peer": compare(peer, trainer=train_peer, made_of=library)}
    for name, side in sides.items():
        print(f"\n{name}")
        print_table(side)
    return _between(sides["ours"], sides["peer"])


def _between(ours: Comparison, peer: Comparison) -> dict[str, Any]:
    """The best of each, paired over fold and seed."""
    metric, best, other = ours.spec.metric, ours.results[0], peer.results[0]
    mine, theirs = best.values(metric), other.values(metric)
    differences = [mine[key] - theirs[key] for key in mine if key in theirs]
    paired = corrected_test(differences, folds=ours.spec.folds.number, alpha=ours.spec.alpha)
    if paired is None:
        raise RunError("bench.too-few", "too few runs of both sides came to their end")
    first, second = best.means[metric], other.means[metric]
    assert first is not None and second is not None, "pairs have means"
    sure = "significant" if paired.p < ours.spec.alpha else "not significant"
    print(
        f"\n{metric}: our best, {best.name}, {first.mean:.4f}; the peer's best, {other.name}, {second.mean:.4f}; "
        f"difference {paired.difference:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}], p {paired.p:.3f}, {sure}"
    )
    conditions = [*ours.conditions, *(one for one in peer.conditions if one not in ours.conditions)]
    if len(conditions) > 1:
        print(f"note: the sides were carried out under {len(conditions)} different conditions")
    return {
        "metric": metric,
        "ours": {"candidate": best.name, "mean": first.mean},
        "peer": {"candidate": other.name, "mean": second.mean},
        "difference": paired.difference,
        "p": paired.p,
        "conditions": conditions,
    }
