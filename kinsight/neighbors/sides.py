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

    def reordered(self, order_N: Tensor) -> "Sides":
        """The gallery (and with it symmetric queries) stored as order_N says."""
        gallery, label_N, id_N = self.gallery.take(order_N), self.gallery_label_N[order_N], self.gallery_id_N[order_N]
        if self.symmetric:
            own_N = torch.arange(len(order_N), device=order_N.device)
            return Sides(gallery, gallery, label_N, label_N, own_N, id_N, id_N, True)
        exclude_Q = self.exclude_Q
        if exclude_Q is not None:
            place_N = torch.empty_like(order_N)
            place_N[order_N] = torch.arange(len(order_N), device=order_N.device)
            exclude_Q = torch.where(exclude_Q >= 0, place_N[exclude_Q.clamp(min=0)], -1)
        return replace(self, gallery=gallery, gallery_label_N=label_N, gallery_id_N=id_N, exclude_Q=exclude_Q)

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
