"""At which ranks a query's positives stand among all others, exactly, without sorting the others.

Every score above a query's lowest needed positive is counted into the interval between two positives; nothing else is
kept. Ties: equal score, lower gallery index first, as in `topk`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import dense
from kinsight.neighbors.counting import count_ranks
from kinsight.neighbors.positives import count_positives
from kinsight.neighbors.vectors import GridVectors, Metric, check_metric, grid

WHOLE = 2**62  # a depth no gallery reaches
_SMALL = 4096  # galleries up to here: the plain way is as fast
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
            "neighbors.labels", "gallery vectors and gallery labels come together", remedy="Pass both or neither."
        )
    place = torch.device(device) if device is not None else query_QD.device
    query_label_Q = _labels(query_label_Q, query_QD, "query", place)
    if gallery_ND is None or gallery_label_N is None:
        label_N = query_label_Q
        if exclude is None:
            exclude = torch.arange(len(query_QD), device=place)
    else:
        label_N = _labels(gallery_label_N, gallery_ND, "gallery", place)
    symmetric = gallery_ND is None and exclude is not None and _is_identity(exclude)
    query, gallery = grid(query_QD, gallery_ND, metric, place)
    exclude_Q = None if exclude is None else exclude.to(place)
    positives_Q = count_positives(query_label_Q, label_N, exclude_Q)
    depth_Q = _depth(max_rank, positives_Q)
    first_Q = depth_Q.clamp(min=first_max_rank or 0)
    result = PositiveRanks(torch.zeros(0), torch.zeros(0), positives_Q, depth_Q, first_Q, len(gallery))
    fast = (
        metric != "l2"
        and len(gallery) > _SMALL
        and max_rank is not None
        and int(positives_Q.sum()) <= _MAX_POSITIVES
        and int(positives_Q.max()) <= len(gallery) // 16
    )
    rows_P = torch.empty(0, dtype=torch.int64, device=place)
    rank_P = rows_P
    rest_Q = (positives_Q > 0).nonzero().squeeze(1)
    if fast:
        rows_P, rank_P, rest_Q = count_ranks(
            query, gallery, query_label_Q, label_N, exclude_Q, depth_Q, first_Q, symmetric=symmetric
        )
    row_D, rank_D = _plain(query, gallery, query_label_Q, label_N, exclude_Q, rest_Q, depth_Q, first_Q, memory_bytes)
    return _assemble(result, torch.cat([rows_P, row_D]), torch.cat([rank_P, rank_D]))


def _plain(
    query: GridVectors,
    gallery: GridVectors,
    query_label_Q: Tensor,
    label_N: Tensor,
    exclude_Q: Tensor | None,
    rest_Q: Tensor,
    depth_Q: Tensor,
    first_Q: Tensor,
    memory_bytes: int,
) -> tuple[Tensor, Tensor]:
    """(query, rank) of the listed positives of the queries rest_Q."""
    rows, found = [rest_Q[:0]], [rest_Q[:0]]
    exclude_R = None if exclude_Q is None else exclude_Q[rest_Q]
    for start, stop, score_BN in dense.score_blocks(query.take(rest_Q), gallery, exclude_R, memory_bytes // 4):
        here_B = rest_Q[start:stop]
        row_P, rank_P = dense.positive_ranks(score_BN, query_label_Q[here_B], label_N)
        first_P = torch.ones_like(row_P, dtype=torch.bool)
        first_P[1:] = row_P[1:] != row_P[:-1]
        row_P = here_B[row_P]
        keep_P = (rank_P <= depth_Q[row_P]) | (first_P & (rank_P <= first_Q[row_P]))
        rows.append(row_P[keep_P])
        found.append(rank_P[keep_P])
    return torch.cat(rows), torch.cat(found)


def _assemble(empty: PositiveRanks, row_P: Tensor, rank_P: Tensor) -> PositiveRanks:
    row_P, order_P = row_P.sort(stable=True)
    count_Q = torch.bincount(row_P, minlength=len(empty.positives_Q))
    start_Q = torch.zeros(len(count_Q) + 1, dtype=torch.int64, device=row_P.device)
    torch.cumsum(count_Q, 0, out=start_Q[1:])
    return PositiveRanks(
        start_Q, rank_P[order_P], empty.positives_Q, empty.depth_Q, empty.first_depth_Q, empty.num_gallery
    )


def _depth(max_rank: int | Tensor | None, positives_Q: Tensor) -> Tensor:
    if max_rank is None:
        return torch.full_like(positives_Q, WHOLE)
    if isinstance(max_rank, Tensor):
        return max_rank.to(positives_Q)
    return torch.full_like(positives_Q, max_rank)


def _is_identity(index_N: Tensor) -> bool:
    return torch.equal(index_N, torch.arange(len(index_N), device=index_N.device))


def _labels(label: Tensor, side_ND: Tensor, name: str, place: torch.device) -> Tensor:
    label = torch.as_tensor(label).to(place)
    if label.ndim != 1 or label.dtype.is_floating_point or len(label) != len(side_ND):
        raise DataError(
            "neighbors.labels",
            f"{name} labels: expected {len(side_ND)} integers, one per vector, got {tuple(label.shape)} {label.dtype}",
            remedy="Pass one class id per row.",
        )
    return label.long()
