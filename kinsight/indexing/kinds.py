"""The structure of each kind of index."""

from pathlib import Path
from typing import assert_never

from kinsight.indexing.files import open_structure
from kinsight.indexing.learned import Learned
from kinsight.indexing.settings import Settings, Tuned
from kinsight.indexing.structures import Hnsw, Ivf, Structure
from kinsight.neighbors import Metric
from kinsight.partition import Partition
from kinsight.specs.index import FlatIndex, HnswIndex, IvfIndex, IvfPqIndex


def build_structure(
    settings: Settings,
    dim: int,
    metric: Metric,
    partition: Partition | None = None,
    *,
    stored: Path | None = None,
    rows: int = 0,
    mapped: bool = False,
) -> Structure | None:
    """The structure for decided settings, empty or as stored; None for kind flat, which needs none.

    partition: of kind learned. rows: that the stored one holds. mapped: lists stay on disk until they are looked into.
    """
    loaded = open_structure(stored, mapped=mapped) if stored is not None else None
    match settings:
        case FlatIndex():
            return None
        case HnswIndex():
            return Hnsw(settings, dim, metric, loaded)
        case IvfIndex() | IvfPqIndex():
            return Ivf(settings, dim, metric, loaded)
        case Tuned():
            assert partition is not None
            return Learned(settings, partition, loaded, rows)
        case _:
            assert_never(settings)
