"""Queries and gallery of one ranking problem, with what decides who is a positive and who takes no part."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kinsight.neighbors.vectors import GridVectors


@dataclass(frozen=True)
class Sides:
    """All tensors speak of positions in `query` and `gallery`, which may be stored in any order.

    exclude_Q: gallery position to leave out per query, -1 for none. gallery_id_N: what ties are broken by (the
    caller's gallery index); query_id_Q: the caller's query index. symmetric: queries are the gallery, each leaving
    itself out.
    """

    query: GridVectors
    gallery: GridVectors
    query_label_Q: Tensor
    gallery_label_N: Tensor
    exclude_Q: Tensor | None
    query_id_Q: Tensor
    gallery_id_N: Tensor
    symmetric: bool

    def with_queries(self, index_R: Tensor) -> "Sides":
        """Only the queries at these positions."""
        return replace(
            self,
            query=self.query.take(index_R),
            query_label_Q=self.query_label_Q[index_R],
            exclude_Q=None if self.exclude_Q is None else self.exclude_Q[index_R],
            query_id_Q=self.query_id_Q[index_R],
            symmetric=False,
        )


def make_sides(
    query: GridVectors,
    gallery: GridVectors,
    query_label_Q: Tensor,
    gallery_label_N: Tensor,
    exclude_Q: Tensor | None,
    order_N: Tensor | None,
    *,
    leave_one_out: bool,
) -> Sides:
    """Sides whose vectors are stored already (the gallery in order_N); labels and exclude_Q in the caller's order.

    leave_one_out: the queries are the gallery (stored in order_N as well), whatever they exclude.
    """
    own_N = torch.arange(len(gallery), device=gallery_label_N.device)
    id_N = own_N if order_N is None else order_N
    query_id_Q = id_N if leave_one_out else torch.arange(len(query), device=id_N.device)
    symmetric = leave_one_out and exclude_Q is not None and torch.equal(exclude_Q, own_N)
    if exclude_Q is not None:
        place_N = torch.empty_like(id_N)
        place_N[id_N] = own_N
        exclude_Q = exclude_Q[query_id_Q]
        if len(place_N):
            exclude_Q = torch.where(exclude_Q >= 0, place_N[exclude_Q.clamp(min=0)], -1)
    return Sides(
        query, gallery, query_label_Q[query_id_Q], gallery_label_N[id_N], exclude_Q, query_id_Q, id_N, symmetric
    )
