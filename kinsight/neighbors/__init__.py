"""Exact blockwise neighbours, and ranks of positives, in bounded memory.

`topk` returns neighbours; `ranks` tells where each query's positives stand without finding anyone else. Both compare
the same exact similarities and break ties alike: lower gallery index first.

What may improve a search: `fit_projection` and `shortened` (other dimensions), `augment_gallery` and `AugmentedSet`,
`expand_queries`, `k_reciprocal`; `reordered` gives the ranks after the last of them.
"""

from kinsight.neighbors.augmented import AugmentedSet
from kinsight.neighbors.expansion import augment_gallery, expand_queries
from kinsight.neighbors.nearest_rows import Nearest, nearest
from kinsight.neighbors.projection import Projection, fit_projection, shortened
from kinsight.neighbors.ranking import PositiveRanks, ranks
from kinsight.neighbors.reciprocal import Reranked, k_reciprocal
from kinsight.neighbors.reorder import reordered
from kinsight.neighbors.search import pair_similarity, topk
from kinsight.neighbors.vectors import Metric

__all__ = [
    "AugmentedSet",
    "Metric",
    "Nearest",
    "PositiveRanks",
    "Projection",
    "Reranked",
    "augment_gallery",
    "expand_queries",
    "fit_projection",
    "k_reciprocal",
    "nearest",
    "pair_similarity",
    "ranks",
    "reordered",
    "shortened",
    "topk",
]
