"""Ranks of positives by counting: which negatives lie between which two positives of a query.

1. Each query's positives get exact scores. 2. A sample of the gallery tells about how deep each query must look, hence
a floor below which nothing matters. 3. The scan finds the pairs that may lie above it. 4. Their float32 scores place
them among the positives; those within rounding of a positive are scored exactly. 5. A query whose floor was guessed
too high is handed back unsettled: the guess decides about speed, never about the result.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kinsight.neighbors.coarse import CoarseRows, encode
from kinsight.neighbors.floors import guess_floors
from kinsight.neighbors.pairs import float32_error, float32_pairs, hear_warning
from kinsight.neighbors.positives import Positives, find_positives
from kinsight.neighbors.scan import TILE_COLUMNS, Hits, Scan
from kinsight.neighbors.sides import Sides
from kinsight.neighbors.threads import over_cores
from kinsight.neighbors.vectors import exact_pairs

_BLOCK = 2**18  # positives turned into ranks at a time


def count_ranks(sides: Sides, depth_Q: Tensor, first_depth_Q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(query, rank) of the listed positives of the settled queries, and the unsettled queries; all by position."""
    gallery = encode(sides.gallery.row_ND, TILE_COLUMNS)
    rows, found = [], []
    rest_R = torch.arange(len(sides.query), device=depth_Q.device)
    for cautious in (False, True):
        part = sides if len(rest_R) == len(sides.query) else sides.with_queries(rest_R)
        query = gallery if part.symmetric else encode(part.query.row_ND, 32)
        row_P, rank_P, open_R = _count(part, query, gallery, depth_Q[rest_R], first_depth_Q[rest_R], cautious)
        rows.append(rest_R[row_P])
        found.append(rank_P)
        rest_R = rest_R[open_R]
        if len(rest_R) == 0:
            break
    return torch.cat(rows), torch.cat(found), rest_R


def _count(
    sides: Sides, query: CoarseRows, gallery: CoarseRows, depth_Q: Tensor, first_depth_Q: Tensor, cautious: bool
) -> tuple[Tensor, Tensor, Tensor]:
    positives = find_positives(sides)
    floor_Q = guess_floors(sides, positives, query, gallery, depth_Q, first_depth_Q, cautious)
    scan = Scan(query, gallery, floor_Q, len(sides.gallery), symmetric=sides.symmetric)
    low_Q = (floor_Q - float32_error(sides.query.row_ND.shape[1]) - 2.0**-22).float()
    # one counter before each positive and one behind the last
    slot_Q = positives.start_Q[:-1] + torch.arange(len(floor_Q), device=floor_Q.device)
    counter_S = torch.zeros(len(positives.score_P) + len(floor_Q), dtype=torch.int32, device=floor_Q.device)
    hear_warning()

    def look(tile: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
        return _place(sides, positives, low_Q, scan.hits(*tile))

    for query_P, place_P in over_cores(look, scan.tiles(), floor_Q.device):
        counter_S.index_add_(0, slot_Q.index_select(0, query_P) + place_P, torch.ones_like(query_P, dtype=torch.int32))
    return settle(positives, slot_Q, counter_S, floor_Q, depth_Q, first_depth_Q, scan.given_up_Q[: len(floor_Q)])


def _place(sides: Sides, positives: Positives, low_Q: Tensor, hits: Hits) -> tuple[Tensor, Tensor]:
    """Among the candidate pairs the negatives that matter: (query, how many positives come before).

    low_Q: float32, no more than the floors by the error of float32 scores.
    """
    rows, columns = hits.rows, hits.columns
    gallery_CD = sides.gallery.row_ND[columns]
    score_P = float32_pairs(sides.query.row_ND[rows], gallery_CD, hits.row_P, hits.column_P)
    row_P, column_P = hits.row_P + rows.start, hits.column_P + columns.start
    chosen = [_pick((score_P >= low_Q.index_select(0, row_P)), row_P, column_P, score_P)]
    if sides.symmetric:
        chosen.append(_pick((score_P >= low_Q.index_select(0, column_P)), column_P, row_P, score_P))
    query_P, gallery_P, score = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    keep_P = sides.query_label_Q.index_select(0, query_P) != sides.gallery_label_N.index_select(0, gallery_P)
    if sides.exclude_Q is not None and not sides.symmetric:
        keep_P &= sides.exclude_Q.index_select(0, query_P) != gallery_P
    query_P, gallery_P, score = _pick(keep_P, query_P, gallery_P, score)
    score = score.double()
    place_P, close = positives.place_within(query_P, score, float32_error(gallery_CD.shape[1]))
    if len(close):
        exact_E = exact_pairs(sides.query, sides.gallery, query_P[close], gallery_P[close])
        place_P[close] = positives.place(query_P[close], exact_E, sides.gallery_id_N[gallery_P[close]])
    return query_P, place_P


def _pick(keep_P: Tensor, *value_P: Tensor) -> list[Tensor]:
    """Entries where keep_P holds (index_select is several times quicker than a mask)."""
    index = keep_P.nonzero().squeeze(1)
    return [value.index_select(0, index) for value in value_P]


def settle(
    positives: Positives,
    slot_Q: Tensor,
    counter_S: Tensor,
    floor_Q: Tensor,
    depth_Q: Tensor,
    first_depth_Q: Tensor,
    given_up_Q: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the negatives counted before each positive (from slot_Q on) to ranks, as `count_ranks` returns them."""
    open_Q = given_up_Q & (positives.count_Q > 0)
    queries, found = [], []
    for here in _query_blocks(positives):
        start, stop = int(positives.start_Q[here.start]), int(positives.start_Q[here.stop])
        query_P = positives.query_P(here)
        place_P = torch.arange(start, stop, device=query_P.device) - positives.start_Q.index_select(0, query_P)
        above_S = counter_S[start + here.start : stop + here.stop].cumsum(0)
        first_Q = slot_Q[here] - (start + here.start)
        before_Q = above_S[first_Q] - counter_S[slot_Q[here]]
        local_P = query_P - here.start
        slot_P = (first_Q.index_select(0, local_P)).add_(place_P)
        # exact where the positive stands at or above the floor, else a lower bound
        rank_P = 1 + place_P + above_S.index_select(0, slot_P) - before_Q.index_select(0, local_P)
        wanted_P = rank_P <= depth_Q.index_select(0, query_P)
        wanted_P |= (place_P == 0) & (rank_P <= first_depth_Q.index_select(0, query_P))
        query_P, rank_P, score_P = _pick(wanted_P, query_P, rank_P, positives.score_P[start:stop])
        open_Q[query_P[score_P < floor_Q[query_P]]] = True
        query_P, rank_P = _pick(~open_Q[query_P], query_P, rank_P)
        queries.append(query_P)
        found.append(rank_P)
    return torch.cat(queries), torch.cat(found), open_Q.nonzero().squeeze(1)


def _query_blocks(positives: Positives) -> Iterator[slice]:
    """Queries with about _BLOCK positives together."""
    queries = len(positives.count_Q)
    step = max(1, _BLOCK * queries // max(1, len(positives.score_P)))
    for start in range(0, max(1, queries), step):
        yield slice(start, min(start + step, queries))
