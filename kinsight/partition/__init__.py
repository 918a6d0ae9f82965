"""Learned partitions: how vectors are spread over lists, and which lists a query looks into."""

from kinsight.partition.artefact import Partition, PartitionHeader
from kinsight.partition.learn import learn, run

__all__ = ["Partition", "PartitionHeader", "learn", "run"]
