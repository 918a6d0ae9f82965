"""From which score on a query's negatives matter, guessed from a sample of the gallery.

A guess too high leaves a query unsettled, one too low costs time; neither changes a result.
"""

import torch
from torch import Tensor

from kinsight.neighbors.coarse import CoarseRows, product
from kinsight.neighbors.positives import Positives
from kinsight.neighbors.sides import Sides
from kinsight.neighbors.threads import over_cores

_SAMPLE = 4096  # gallery items, at most
_GROUPS = 128
_ROWS = 512  # queries at a time
_LEVELS = 64
_FIT = 32
_MARGIN = 1.6
_INF = float("inf")


def guess_floors(
    sides: Sides,
    positives: Positives,
    query: CoarseRows,
    gallery: CoarseRows,
    depth_Q: Tensor,
    first_depth_Q: Tensor,
    cautious: bool,
) -> Tensor:
    """float64 (Q,): score at and above which everything has to be counted; +inf: nothing has.

    The tight guess smooths each query's tail of sampled scores; the cautious one trusts plain counts only, and those
    within five standard deviations.
    """
    size = _sample_size(len(sides.gallery), int(torch.maximum(depth_Q, first_depth_Q).max()))
    sample = _Sample(sides, gallery, size)
    ratio = len(sides.gallery) / size
    lowest_Q = positives.score_at(positives.count_Q - 1)
    best_Q = positives.score_at(torch.zeros_like(positives.count_Q))
    floor_Q = torch.full((len(sides.query),), _INF, dtype=torch.float64, device=depth_Q.device)

    def guess(here: slice) -> None:
        level_RL = sample.best(query, here)
        row_RL = torch.arange(here.start, here.stop, device=depth_Q.device)[:, None].expand_as(level_RL)
        above_RL = positives.place(row_RL.reshape(-1), level_RL.reshape(-1)).view_as(level_RL)
        # how many of the whole gallery lie above each level
        surely_RL = ratio * (_plain_count(level_RL) if cautious else _smooth_count(level_RL) / _MARGIN)
        deep_R = _first_level(level_RL, surely_RL + above_RL >= depth_Q[here, None])
        first_R = _first_level(level_RL, surely_RL >= first_depth_Q[here, None])
        deep_R = torch.maximum(lowest_Q[here], deep_R).masked_fill_(depth_Q[here] <= 0, _INF)
        floor_Q[here] = torch.minimum(deep_R, torch.maximum(best_Q[here], first_R))

    tops = range(0, len(sides.query), _ROWS)
    for _ in over_cores(guess, (slice(top, min(top + _ROWS, len(sides.query))) for top in tops), depth_Q.device):
        pass
    return floor_Q.masked_fill_(positives.count_Q == 0, _INF)


def _plain_count(level_RL: Tensor) -> Tensor:
    """Sampled items above each level, less five standard deviations."""
    count_L = torch.arange(1, level_RL.shape[1] + 1, dtype=torch.float64, device=level_RL.device)
    return (count_L - 5 * count_L.sqrt()).expand_as(level_RL)


def _smooth_count(level_RL: Tensor) -> Tensor:
    """Sampled items above each level from a line through (level, log count), which wavers less than the count."""
    count_L = torch.arange(1, level_RL.shape[1] + 1, dtype=torch.float64, device=level_RL.device)
    weight_L = count_L * (count_L <= _FIT)  # the variance of a log count is about 1 / count
    weight_L /= weight_L.sum()
    log_L = (count_L - 0.5).log()
    mean_log = (weight_L * log_L).sum()
    off_RL = level_RL - (weight_L * level_RL).sum(1, keepdim=True)
    spread_R1 = (weight_L * off_RL.square()).sum(1, keepdim=True)
    slope_R1 = (weight_L * off_RL * (log_L - mean_log)).sum(1, keepdim=True) / spread_R1.clamp(min=1e-18)
    return (mean_log + slope_R1 * off_RL).exp()


def _sample_size(num_gallery: int, depth: int) -> int:
    """So many that the depth wanted falls among the middle levels: neither beyond them nor among the first few."""
    wanted = 7 * num_gallery // max(1, depth)
    return max(_GROUPS, min(wanted, _SAMPLE, num_gallery) // _GROUPS * _GROUPS)


class _Sample:
    """Gallery items drawn by a fixed seed, on one common scale, and which queries share their labels."""

    def __init__(self, sides: Sides, gallery: CoarseRows, size: int) -> None:
        generator = torch.Generator().manual_seed(1)
        item_S = torch.randperm(len(sides.gallery), generator=generator)[:size].to(sides.gallery_label_N.device)
        self.row_P, self.column_P = _own_pairs(sides.query_label_Q, sides.gallery_label_N[item_S])
        self.code_SD, self.scale = gallery.code_ND[item_S], 1.0
        if gallery.is_integer:
            scale_S = gallery.scale_N[item_S]
            self.scale = float(scale_S.max())
            self.code_SD = (self.code_SD * (scale_S / self.scale).float()[:, None]).round_().to(torch.int8)

    def best(self, query: CoarseRows, here: slice) -> Tensor:
        """The best scores (real units, approximate) of each query with its negatives, one per group, descending."""
        rows = here.stop - here.start
        padded = slice(here.start, max(here.stop, min(here.start + 32, len(query.code_ND))))
        shape = (padded.stop - padded.start, len(self.code_SD))
        score_RS = torch.empty(shape, dtype=query.score_dtype, device=query.code_ND.device)
        product(query.code_ND[padded], self.code_SD, score_RS)
        bounds = torch.searchsorted(self.row_P, torch.tensor([here.start, here.stop], device=self.row_P.device))
        own = slice(*bounds.tolist())
        lowest = -(2**31) + 1 if query.is_integer else -_INF
        score_RS[self.row_P[own] - here.start, self.column_P[own]] = lowest
        best_RG = score_RS[:rows].unflatten(1, (_GROUPS, -1)).amax(2)
        return best_RG.topk(_LEVELS, dim=1).values * (query.scale_N[here] * self.scale)[:, None]


def _own_pairs(query_label_Q: Tensor, sample_label_S: Tensor) -> tuple[Tensor, Tensor]:
    """(query position, sample position) of pairs with equal labels, sorted by query."""
    order = query_label_Q.sort(stable=True)
    low_S = torch.searchsorted(order.values, sample_label_S)
    count_S = torch.searchsorted(order.values, sample_label_S, right=True) - low_S
    column_P = torch.repeat_interleave(torch.arange(len(low_S), device=low_S.device), count_S)
    within_P = torch.arange(len(column_P), device=low_S.device) - (count_S.cumsum(0) - count_S)[column_P]
    row_P, by_row = order.indices[low_S[column_P] + within_P].sort(stable=True)
    return row_P, column_P[by_row]


def _first_level(level_RL: Tensor, enough_RL: Tensor) -> Tensor:
    """The first (highest) level that is enough; -inf where none is."""
    place_R = enough_RL.int().argmax(1)
    found_R = level_RL.gather(1, place_R[:, None]).squeeze(1)
    return torch.where(enough_RL.any(1), found_R, -_INF)
