"""The losses over pairs as loops in float64, from the papers; autograd follows the loops for gradients."""

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from kinsight import losses

_SCALE = math.exp(float(torch.tensor(math.log(5.0))))
"""5, as far as the logarithm a loss keeps in float32 says."""
Alike = Callable[[int, int], bool]


class Case(NamedTuple):
    """A loss, its oracle (rows, who is alike, who is different), and whether rows are normalised first."""

    loss: losses.PairLoss | losses.BatchLoss
    oracle: Callable[[Tensor, Alike, Alike], Tensor]
    unit: bool = True


def _mean(values: Sequence[Tensor], rows: Tensor) -> Tensor:
    return torch.stack(list(values)).mean() if values else rows.sum() * 0


def _active(values: Sequence[Tensor], rows: Tensor) -> Tensor:
    return _mean([value for value in values if value.item() > 0], rows)


def _pairs(rows: Tensor, mask: Alike) -> list[tuple[int, int]]:
    return [(a, b) for a, b in permutations(range(len(rows)), 2) if mask(a, b)]


def _sides(rows: Tensor, alike: Alike, different: Alike) -> list[tuple[int, list[int], list[int]]]:
    """Every anchor with its positives and negatives."""
    return [
        (a, [p for p in range(len(rows)) if p != a and alike(a, p)], [n for n in range(len(rows)) if different(a, n)])
        for a in range(len(rows))
    ]


def _euclidean(rows: Tensor, a: int, b: int) -> Tensor:
    return (rows[a] - rows[b]).square().sum().sqrt()


def _squared(rows: Tensor, a: int, b: int) -> Tensor:
    return (rows[a] - rows[b]).square().sum()


def _cosine(rows: Tensor, a: int, b: int) -> Tensor:
    return (rows[a] * rows[b]).sum()


def contrastive(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    near = [torch.relu(_euclidean(rows, a, p) - 0.3) for a, p in _pairs(rows, alike)]
    far = [torch.relu(1.4 - _euclidean(rows, a, n)) for a, n in _pairs(rows, different)]
    return _active(near, rows) + _active(far, rows)


def _triplets(distance: Callable[[Tensor, int, int], Tensor], margin: float, *, active: bool) -> Callable[..., Tensor]:
    def oracle(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
        found = [
            torch.relu(distance(rows, a, p) - distance(rows, a, n) + margin)
            for a, positives, negatives in _sides(rows, alike, different)
            for p in positives
            for n in negatives
        ]
        return (_active if active else _mean)(found, rows)

    return oracle


def multi_similarity(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        near = sum((torch.exp(-2 * (_cosine(rows, a, p) - 0.5)) for p in positives), torch.zeros(()))
        far = sum((torch.exp(50 * (_cosine(rows, a, n) - 0.5)) for n in negatives), torch.zeros(()))
        found.append(torch.log(1 + near) / 2 + torch.log(1 + far) / 50)
    return _mean(found, rows)


def circle(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    margin, scale, found = 0.25, 16.0, []
    for a, positives, negatives in _sides(rows, alike, different):
        if positives and negatives:
            s_p = [_cosine(rows, a, p) for p in positives]
            s_n = [_cosine(rows, a, n) for n in negatives]
            near = sum(torch.exp(-scale * torch.relu(1 + margin - s.detach()) * (s - 1 + margin)) for s in s_p)
            far = sum(torch.exp(scale * torch.relu(s.detach() + margin) * (s - margin)) for s in s_n)
            found.append(torch.log(1 + near * far))
    return _mean(found, rows)


def info_nce(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        far = sum((torch.exp(_cosine(rows, a, n) / 0.2) for n in negatives), torch.zeros(()))
        for p in positives:
            near = torch.exp(_cosine(rows, a, p) / 0.2)
            found.append(-torch.log(near / (near + far)))
    return _mean(found, rows)


def supcon(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        total = sum((torch.exp(_cosine(rows, a, b) / 0.1) for b in [*positives, *negatives]), torch.zeros(()))
        terms = [-torch.log(torch.exp(_cosine(rows, a, p) / 0.1) / total) for p in positives]
        if terms:
            found.append(torch.stack(terms).mean())
    return _mean(found, rows)


def sigmoid_pairs(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        terms = [-torch.log(torch.sigmoid(_SCALE * _cosine(rows, a, p) - 3)) for p in positives]
        terms += [-torch.log(torch.sigmoid(-(_SCALE * _cosine(rows, a, n) - 3))) for n in negatives]
        if terms:
            found.append(torch.stack(terms).sum())
    return _mean(found, rows)


def _ranks(rows: Tensor, a: int, p: int, others: list[int], temperature: float) -> Tensor:
    own = _cosine(rows, a, p)
    beaten = [torch.sigmoid((_cosine(rows, a, b) - own) / temperature) for b in others if b != p]
    return 1 + sum(beaten, torch.zeros(()))


def smooth_ap(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        everyone = positives + negatives
        terms = [_ranks(rows, a, p, positives, 0.05) / _ranks(rows, a, p, everyone, 0.05) for p in positives]
        if terms:
            found.append(1 - torch.stack(terms).mean())
    return _mean(found, rows)


def recall_at_k(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    found = []
    for a, positives, negatives in _sides(rows, alike, different):
        if positives:
            ranks = [_ranks(rows, a, p, positives + negatives, 0.05) for p in positives]
            recalls = [sum(torch.sigmoid((k - r) / 0.7) for r in ranks) / min(k, len(positives)) for k in (1, 2, 4)]
            found.append(1 - torch.stack([torch.as_tensor(recall) for recall in recalls]).mean())
    return _mean(found, rows)


def fast_ap(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    bins, found = 5, []
    width = 4 / bins

    def histogram(a: int, others: list[int]) -> list[Tensor]:
        edges = [edge * width for edge in range(bins + 1)]
        return [
            sum((torch.relu(1 - (_squared(rows, a, b) - edge).abs() / width) for b in others), torch.zeros(()))
            for edge in edges
        ]

    for a, positives, negatives in _sides(rows, alike, different):
        if positives:
            near, far = histogram(a, positives), histogram(a, negatives)
            precision = torch.zeros(())
            for b in range(bins + 1):
                if near[b].item() > 0:
                    precision = precision + near[b] * sum(near[: b + 1]) / (sum(near[: b + 1]) + sum(far[: b + 1]))
            found.append(1 - precision / len(positives))
    return _mean(found, rows)


def eml(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    beta, found = 1e5, []
    for a, positives, negatives in _sides(rows, alike, different):
        if positives and negatives:
            near = torch.stack([torch.exp(_squared(rows, a, p)) for p in positives]).mean()
            far = torch.stack([torch.exp(-_squared(rows, a, n)) for n in negatives]).mean()
            found.append(torch.log(1 + beta * near * far) / math.log(1 + beta))
    return _mean(found, rows)


def quadruplet(rows: Tensor, alike: Alike, different: Alike) -> Tensor:
    near = [_squared(rows, a, p) for a, p in _pairs(rows, alike)]
    far = [_squared(rows, a, n) for a, n in _pairs(rows, different)]
    if not near or not far:
        return rows.sum() * 0
    return torch.relu(torch.stack(near).max() - torch.stack(far).min() + 0.1)


CASES: dict[str, Case] = {
    "contrastive": Case(losses.Contrastive(0.3, 1.4), contrastive),
    "triplet": Case(losses.Triplet(0.2), _triplets(_squared, 0.2, active=True)),
    "triplet-all": Case(losses.Triplet(0.1, mean_over="all"), _triplets(_squared, 0.1, active=False)),
    "triplet-euclidean": Case(losses.Triplet(0.5, "euclidean"), _triplets(_euclidean, 0.5, active=True)),
    "triplet-cosine": Case(
        losses.Triplet(0.05, "cosine"), _triplets(lambda r, a, b: 1 - _cosine(r, a, b), 0.05, active=True)
    ),
    "multi-similarity": Case(losses.MultiSimilarity(), multi_similarity),
    "circle": Case(losses.Circle(0.25, 16), circle),
    "info-nce": Case(losses.InfoNCE(0.2), info_nce),
    "supcon": Case(losses.SupCon(), supcon),
    "sigmoid-pairs": Case(losses.SigmoidPairs(5, -3), sigmoid_pairs),
    "smooth-ap": Case(losses.SmoothAP(0.05), smooth_ap),
    "recall-at-k": Case(losses.RecallAtK((1, 2, 4), 0.05, 0.7), recall_at_k),
    "fast-ap": Case(losses.FastAP(5), fast_ap),
    "eml": Case(losses.Eml(), eml, unit=False),
    "quadruplet": Case(losses.Quadruplet(), quadruplet),
}
