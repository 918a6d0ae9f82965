"""Vectors found again: indexes of stored embeddings on disk, and the search in them."""

from kinsight.indexing.compacting import compact as compact
from kinsight.indexing.filters import parse_where as parse_where
from kinsight.indexing.index import Hits as Hits
from kinsight.indexing.index import Index as Index
from kinsight.indexing.jobs import add as add
from kinsight.indexing.jobs import build as build
from kinsight.indexing.jobs import delete as delete
from kinsight.indexing.merging import merge as merge
from kinsight.indexing.summary import info as info
