"""Name -> system, imported when asked for: a process loads one, and nothing of the others."""

from importlib import import_module

from kinsight.bench.index.system import System

_OURS, _FAISS, _PEERS = (f"kinsight.bench.index.{name}" for name in ("ours", "faiss_systems", "peers"))
_WHERE = {
    "kinsight": (_OURS, "Kinsight"),
    "kinsight-flat": (_OURS, "KinsightFlat"),
    "faiss-ivf-flat": (_FAISS, "IvfFlat"),
    "faiss-ivf-hnsw": (_FAISS, "IvfHnsw"),
    "faiss-ivf-fastscan": (_FAISS, "IvfFastScan"),
    "faiss-hnsw": (_FAISS, "Hnsw"),
    "hnswlib": (_PEERS, "HnswLib"),
    "scann": (_PEERS, "Scann"),
    "usearch": (_PEERS, "Usearch"),
}


def system(name: str) -> type[System]:
    """The class of a system."""
    module, title = _WHERE[name]
    return getattr(import_module(module), title)
