"""Labelled images from one form into another: TFRecords, lists, Parquet, packed shards."""

from kinsight.converting.job import convert

__all__ = ["convert"]
