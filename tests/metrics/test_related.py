"""Retrieval metrics over relations: those of equal labels where labels are single, brute force elsewhere."""

import pytest
import torch

from kinsight.errors import DataError
from kinsight.metrics import AlikeAt, retrieval_metrics
from kinsight.relations import Hierarchy, SameLabel, SharedLabels

LABELS = torch.randint(6, (60,), generator=torch.Generator().manual_seed(0))
SEVERAL = torch.randint(-1, 8, (60, 3), generator=torch.Generator().manual_seed(1))


def _rows(number: int = 60) -> torch.Tensor:
    return torch.randn(number, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("with_gallery", [False, True])
def test_equal_labels_are_the_usual_metrics(with_gallery: bool) -> None:
    query = (_rows()[:20], LABELS[:20]) if with_gallery else None
    gallery, label_N = (_rows()[20:], LABELS[20:]) if with_gallery else (_rows(), LABELS)
    relation = AlikeAt(SameLabel(), LABELS[:20], LABELS[20:]) if with_gallery else AlikeAt(SameLabel(), LABELS)
    settings = {"query": query, "precision_ks": (5,), "whole": True}
    usual, related = retrieval_metrics(gallery, label_N, **settings), retrieval_metrics(gallery, relation, **settings)
    assert related.means == pytest.approx(usual.means, rel=1e-12)
    assert related.num_queries == usual.num_queries and related.num_skipped == usual.num_skipped


def test_shared_labels_by_hand() -> None:
    rows = torch.nn.functional.normalize(_rows(), dim=1).double()
    score = rows @ rows.T
    held = [{label for label in row if label >= 0} for row in SEVERAL.tolist()]
    first, precision = [], []
    for query in range(60):
        order = [item for item in score[query].argsort(descending=True).tolist() if item != query]
        right = [bool(held[query] & held[item]) for item in order]
        if any(right):
            number = sum(right)
            first.append(float(right[0]))
            hits = [sum(right[: place + 1]) / (place + 1) for place in range(number) if right[place]]
            precision.append(sum(hits) / number)
    found = retrieval_metrics(_rows(), AlikeAt(SharedLabels(), SEVERAL))
    assert found.means["recall@1"] == pytest.approx(sum(first) / len(first))
    assert found.means["map@r"] == pytest.approx(sum(precision) / len(precision))


def test_levels_of_a_hierarchy() -> None:
    target = torch.stack([LABELS, LABELS // 2], 1)
    fine, coarse = (retrieval_metrics(_rows(), AlikeAt(Hierarchy(), target, level=level)).means for level in (0, 1))
    assert fine == pytest.approx(retrieval_metrics(_rows(), LABELS).means)
    assert coarse == pytest.approx(retrieval_metrics(_rows(), LABELS // 2).means)


def test_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="expected int64"):
        retrieval_metrics(_rows(), AlikeAt(SharedLabels(), LABELS))
    with pytest.raises(DataError, match="none of the 60 queries has a match"):
        retrieval_metrics(_rows(), AlikeAt(SharedLabels(), torch.arange(60)[:, None]))
