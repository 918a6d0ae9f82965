"""Name -> system."""

from kinsight.bench.index.faiss_systems import Hnsw, IvfFastScan, IvfFlat, IvfHnsw
from kinsight.bench.index.ours import Kinsight, KinsightFlat
from kinsight.bench.index.peers import HnswLib, Scann, Usearch
from kinsight.bench.index.system import System

SYSTEMS: dict[str, type[System]] = {
    "kinsight": Kinsight,
    "kinsight-flat": KinsightFlat,
    "faiss-ivf-flat": IvfFlat,
    "faiss-ivf-hnsw": IvfHnsw,
    "faiss-ivf-fastscan": IvfFastScan,
    "faiss-hnsw": Hnsw,
    "hnswlib": HnswLib,
    "scann": Scann,
    "usearch": Usearch,
}
