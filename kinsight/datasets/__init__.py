"""Public data sets: fetched, checked, unpacked, listed."""

from kinsight.datasets.job import get

__all__ = ["get"]
