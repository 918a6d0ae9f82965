"""Exact blockwise neighbours, and ranks of positives, in bounded memory.

`topk` returns neighbours; `ranks` tells where each query's positives stand without finding anyone else. Both compare
the same exact similarities and break ties alike: lower gallery index first.
"""

from kinsight.neighbors.ranking import PositiveRanks, ranks
from kinsight.neighbors.search import pair_similarity, topk
from kinsight.neighbors.vectors import Metric

__all__ = ["Metric", "PositiveRanks", "pair_similarity", "ranks", "topk"]
