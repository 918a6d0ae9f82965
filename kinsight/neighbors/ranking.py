"""At which ranks a query's positives stand among all others, exactly, without sorting the others.

Every score above a query's lowest needed positive is counted into the interval between two positives; nothing else is
kept. Ties: equal score, lower gallery index first, as in `topk`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import binned, dense, whole
from kinsight.neighbors.coarse import mixing_order
from kinsight.neighbors.counting import count_ranks
from kinsight.neighbors.positives import count_positives
from kinsight.neighbors.scan import TILE_COLUMNS
from kinsight.neighbors.sides import Sides, make_sides
from kinsight.neighbors.vectors import Metric, check_metric, grid

WHOLE = 2**62  # a depth no gallery reaches
_SMALL = 4096  # galleries up to here: the plain way is as fast
_SMALL_WHOLE = 512  # the same where all ranks are wanted
_MAX_POSITIVES = 2**24  # float64 scores of positives held at once (128 MiB)


@dataclass(frozen=True)
class PositiveRanks:
    """Ragged ranks. start_Q: int64 (Q + 1,); rank_P: int64, 1 is the best; query q owns start_Q[q] : start_Q[q + 1].

    positives_Q: how many positives each query has in all, listed or not; depth_Q: every positive at a rank up to it is
    listed; first_depth_Q: the best positive is listed if its rank is up to it. num_gallery: size of the gallery.
    """

    start_Q: Tensor
    rank_P: Tensor
    positives_Q: Tensor
    depth_Q: Tensor
    first_depth_Q: Tensor
    num_gallery: int

    def query_P(self) -> Tensor:
        """The query each listed rank belongs to."""
        query_Q = torch.arange(len(self.positives_Q), device=self.start_Q.device)
        return torch.repeat_interleave(query_Q, self.start_Q.diff())

    def first_Q(self) -> Tensor:
        """Rank of each query's best positive; 0 where it has none or it lies beyond the depth."""
        listed_Q = self.start_Q.diff() > 0
        first_Q = torch.zeros_like(self.positives_Q)
        first_Q[listed_Q] = self.rank_P[self.start_Q[:-1][listed_Q]]
        return first_Q


def ranks(
    query_QD: Tensor,
    query_label_Q: Tensor,
    gallery_ND: Tensor | None = None,
    gallery_label_N: Tensor | None = None,
    *,
    metric: Metric = "cosine",
    exclude: Tensor | None = None,
    max_rank: int | Tensor | None = None,
    first_max_rank: int | None = None,
    device: torch.device | str | None = None,
    memory_bytes: int = 2**27,
) -> PositiveRanks:
    """Ranks of every query's positives (same label) in the gallery; without a gallery, leave-one-out in the queries.

    query_QD, gallery_ND: floating-point rows; labels: int64. exclude: int64 (Q,), a gallery index to leave out per
    query, -1 for none. max_rank: list positives up to this rank only (int, or int64 (Q,)); None: all of them, which
    costs much more. first_max_rank: additionally list the best positive up to this rank. memory_bytes bounds the
    blocks; beside them stand a float32 and an int8 copy of the vectors and the listed ranks.
    The result is the same bit for bit on any device, for any block size and number of threads.
    Raises DataError for vectors as `topk` does, and where labels and vectors differ in number.
    """
    check_metric(metric)
    if (gallery_ND is None) != (gallery_label_N is None):
        raise DataError(
            "neighbors.labels", "gallery vectors and gallery labels come together", remedy="pass both or neither"
        )
    place = torch.device(device) if device is not None else query_QD.device
    query_label_Q = _labels(query_label_Q, query_QD, "query", place)
    if gallery_ND is None or gallery_label_N is None:
        label_N = query_label_Q
        if exclude is None:
            exclude = torch.arange(len(query_QD), device=place)
    else:
        label_N = _labels(gallery_label_N, gallery_ND, "gallery", place)
    exclude_Q = None if exclude is None else exclude.to(place)
    positives_Q = count_positives(query_label_Q, label_N, exclude_Q)
    depth_Q = _depth(max_rank, positives_Q)
    first_Q = depth_Q.clamp(min=first_max_rank or 0)
    fast = max_rank is not None and metric != "l2" and _holdable(positives_Q, len(label_N), _SMALL)
    order_N = None
    if fast:
        stored_ND = query_QD if gallery_ND is None else gallery_ND
        order_N = mixing_order(stored_ND, TILE_COLUMNS, unit=metric == "cosine").to(place)
    query, gallery = grid(query_QD, gallery_ND, metric, place, order_N)
    sides = make_sides(query, gallery, query_label_Q, label_N, exclude_Q, order_N, leave_one_out=gallery_ND is None)
    if max_rank is None and _holdable(positives_Q, len(label_N), _SMALL_WHOLE):
        query_P, rank_P = (whole if whole.suits(sides, positives_Q) else binned).all_ranks(sides)
    else:
        query_P, rank_P = (_counted if fast else _plain)(sides, depth_Q, first_Q, memory_bytes)
    start_Q, rank_P = _assemble(query_P, rank_P, len(positives_Q))
    return PositiveRanks(start_Q, rank_P, positives_Q, depth_Q, first_Q, len(label_N))


def _holdable(positives_Q: Tensor, num_gallery: int, small: int) -> bool:
    """A gallery large enough to gain from other ways than the plain one, positives few enough to be held at once."""
    if len(positives_Q) == 0 or num_gallery <= small:
        return False
    return int(positives_Q.sum()) <= _MAX_POSITIVES and int(positives_Q.max()) <= num_gallery // 16


def _counted(sides: Sides, depth_Q: Tensor, first_Q: Tensor, memory_bytes: int) -> tuple[Tensor, Tensor]:
    depth_Q, first_Q = depth_Q[sides.query_id_Q], first_Q[sides.query_id_Q]
    query_P, rank_P, rest_R = count_ranks(sides, depth_Q, first_Q)
    query_D, rank_D = _plain(sides.with_queries(rest_R), depth_Q[rest_R], first_Q[rest_R], memory_bytes)
    return torch.cat([sides.query_id_Q[query_P], query_D]), torch.cat([rank_P, rank_D])


def _plain(sides: Sides, depth_Q: Tensor, first_Q: Tensor, memory_bytes: int) -> tuple[Tensor, Tensor]:
    """(query id, rank) of the listed positives, from every score."""
    queries, found = [depth_Q[:0]], [depth_Q[:0]]
    by_id_N = sides.gallery_id_N.argsort()
    label_N = sides.gallery_label_N[by_id_N]
    for here, score_BN in dense.score_blocks(sides.query, sides.gallery, sides.exclude_Q, memory_bytes // 6):
        row_P, rank_P = dense.positive_ranks(score_BN[:, by_id_N], sides.query_label_Q[here], label_N)
        first_P = torch.ones_like(row_P, dtype=torch.bool)
        first_P[1:] = row_P[1:] != row_P[:-1]
        row_P += here.start
        keep_P = (rank_P <= depth_Q[row_P]) | (first_P & (rank_P <= first_Q[row_P]))
        queries.append(sides.query_id_Q[row_P[keep_P]])
        found.append(rank_P[keep_P])
    return torch.cat(queries), torch.cat(found)


def _assemble(query_P: Tensor, rank_P: Tensor, num_queries: int) -> tuple[Tensor, Tensor]:
    """Starts and ranks with the queries in order; each query's ranks are in order already."""
    query_P, order_P = query_P.sort(stable=True)
    start_Q = torch.zeros(num_queries + 1, dtype=torch.int64, device=query_P.device)
    torch.cumsum(torch.bincount(query_P, minlength=num_queries), 0, out=start_Q[1:])
    return start_Q, rank_P[order_P]


def _depth(max_rank: int | Tensor | None, positives_Q: Tensor) -> Tensor:
    if max_rank is None:
        return torch.full_like(positives_Q, WHOLE)
    if isinstance(max_rank, Tensor):
        return max_rank.to(positives_Q)
    return torch.full_like(positives_Q, max_rank)


def _labels(label: Tensor, side_ND: Tensor, name: str, place: torch.device) -> Tensor:
    label = torch.as_tensor(label).to(place)
    if label.ndim != 1 or label.dtype.is_floating_point or len(label) != len(side_ND):
        raise DataError(
            "neighbors.labels",
            f"{name} labels: expected {len(side_ND)} integers, one per vector, got {tuple(label.shape)} {label.dtype}",
            remedy="pass one class id per row",
        )
    return label.long()
