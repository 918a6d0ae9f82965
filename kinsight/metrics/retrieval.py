"""All retrieval metrics of a set of embeddings in one call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.metrics import ranking
from kinsight.metrics.relation import PairRelation, SameLabel
from kinsight.neighbors import Metric, PositiveRanks


@dataclass(frozen=True)
class RetrievalResult:
    """means: metric name -> mean over the queries that have a positive. per_query: name -> float64 (Q,), NaN without.

    num_queries: those averaged; num_skipped: those without any positive. ranks: what everything was computed from.
    class_Q: int64 (Q,), for `class_table` and `bootstrap_intervals`.
    """

    means: dict[str, float]
    per_query: dict[str, Tensor]
    num_queries: int
    num_skipped: int
    class_Q: Tensor
    ranks: PositiveRanks


def retrieval_metrics(
    emb_ND: Tensor | np.ndarray,
    label_N: Tensor | np.ndarray | PairRelation,
    *,
    query: tuple[Tensor | np.ndarray, Tensor | np.ndarray] | None = None,
    ks: Sequence[int] = (1, 2, 4, 8, 10, 100),
    precision_ks: Sequence[int] = (),
    whole: bool = False,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
) -> RetrievalResult:
    """How well embeddings retrieve; exact, deterministic, in bounded memory.

    emb_ND: floating-point rows (any length under "cosine"); label_N: int64 (N,). Without `query` every item searches
    all others (leave-one-out); with query=(emb_QD, label_Q) those search in emb_ND. A `PairRelation` in place of the
    labels says by itself who matches whom (then query=(emb_QD, anything)).
    Names in the result: `recall@k` and `cmc@k` for each of ks, `r_precision`, `map@r`, `precision@k` for each of
    precision_ks; with whole=True also `map` and `mrr`, which need every rank and cost much more on large sets.
    Queries without a positive are left out and counted. Equal similarity: lower gallery index first.
    Raises DataError: no query has a positive; vectors not finite or zero (row named); SpecError: a k below 1.

        result = retrieval_metrics(model(images), labels)
        print(result.means["recall@1"], result.means["map@r"])
    """
    if any(k < 1 for k in (*ks, *precision_ks)):
        raise SpecError("metrics.ks", f"ks={[*ks, *precision_ks]}: every k must be at least 1", field="ks")
    emb_ND = torch.as_tensor(emb_ND)
    given = None if query is None else (torch.as_tensor(query[0]), torch.as_tensor(query[1]))
    query_QD, gallery_ND = (emb_ND, None) if given is None else (given[0], emb_ND)
    if isinstance(label_N, Tensor | np.ndarray):
        relation = _same_label(torch.as_tensor(label_N), given)
    else:
        relation = label_N
    ranks = relation.positive_ranks(
        query_QD,
        gallery_ND,
        metric=metric,
        first_max_rank=max(ks, default=0),
        whole=whole,
        positives_max_rank=max(precision_ks, default=0),
        device=device,
    )
    matched_Q = ranks.positives_Q > 0
    if not bool(matched_Q.any()):
        raise DataError(
            "metrics.no-positives",
            f"none of the {len(matched_Q)} queries has a match: every class has a single item or is absent",
            remedy="evaluate on classes with two items or more, or give a gallery that holds the queries' classes",
        )
    per_query = _per_query(ranks, ks, precision_ks, whole)
    means = {name: float(value_Q[matched_Q].mean()) for name, value_Q in per_query.items()}
    number = int(matched_Q.sum())
    return RetrievalResult(means, per_query, number, len(matched_Q) - number, relation.query_class_Q, ranks)


def _same_label(label_N: Tensor, query: tuple[Tensor, Tensor] | None) -> SameLabel:
    return SameLabel(label_N) if query is None else SameLabel(query[1], label_N)


def _per_query(ranks: PositiveRanks, ks: Sequence[int], precision_ks: Sequence[int], whole: bool) -> dict[str, Tensor]:
    value = {f"recall@{k}": ranking.recall_at(ranks, k) for k in ks}
    value["r_precision"] = ranking.r_precision(ranks)
    value["map@r"] = ranking.map_at_r(ranks)
    value |= {f"precision@{k}": ranking.precision_at(ranks, k) for k in precision_ks}
    value |= {f"cmc@{k}": value[f"recall@{k}"] for k in ks}
    if whole:
        value["map"] = ranking.average_precision(ranks)
        value["mrr"] = ranking.reciprocal_rank(ranks)
    return value
