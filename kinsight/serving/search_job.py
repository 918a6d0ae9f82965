"""The `search` job: queries in, the nearest items of an index out, as a table, JSON lines, Parquet, or a page."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import progress, storage
from kinsight.errors import SpecError
from kinsight.indexing import Hits, Index, parse_where
from kinsight.serving.limits import Limit, find_limit
from kinsight.serving.queries import Queries, find_queries
from kinsight.serving.results_page import results_page
from kinsight.serving.results_table import print_table
from kinsight.specs.load import of
from kinsight.specs.search import SearchSpec

_LINES = 10_000  # results turned into text at once


def search(spec: SearchSpec | Mapping[str, Any]) -> pa.Table:
    """Find the nearest items; the same as `kinsight search`, but that a result without `output` is only returned.

    Columns: query, rank (from 1), id, label, similarity, accepted (null where no threshold is known), uri, then the
    index's further columns. Raises SpecError, DataError for queries of another model than the index's, StorageError.
    """
    return _search(of(SearchSpec, spec))[0]


def run(spec: SearchSpec) -> None:
    """`search`, its result printed where no output is given."""
    table, _ = _search(spec)
    if spec.format == "table":
        print_table(table)
    elif spec.output is None:
        for line in _lines(table):
            sys.stdout.write(line)


def _search(spec: SearchSpec) -> tuple[pa.Table, Queries]:
    index = Index.open(spec.index, mapped=spec.mapped)
    limit = find_limit(spec.bundle, spec.fmr, spec.threshold, index.metric, index.header.normalized)
    queries = find_queries(spec, index)
    index = index if spec.recall is None else index.at(spec.recall)
    index = index.where(parse_where(spec.where)) if spec.where else index
    hits = index.search(queries.vector_QD, spec.k, exclude_Q=queries.exclude_Q)
    table = _results(index, queries, hits, limit)
    _say(index, spec, limit)
    if spec.output is not None:
        _write(spec, table, queries, _title(index), limit)
        progress.say(f"results     {len(table):,} for {len(queries):,} queries in {storage.Address.parse(spec.output)}")
    return table, queries


def _results(index: Index, queries: Queries, hits: Hits, limit: Limit) -> pa.Table:
    found_QK = hits.row_QK.numpy() >= 0
    query_R, rank_R = np.nonzero(found_QK)
    items = index.items(hits.row_QK.numpy()[found_QK])
    similarity_R = hits.similarity_QK.numpy()[found_QK]
    if limit.threshold is None:
        accepted: pa.Array = pa.nulls(len(items), pa.bool_())
    else:
        accepted = pa.array(similarity_R.astype(np.float64) >= limit.threshold)
    names = pa.array(queries.names, pa.string())
    columns = {
        "query": names.take(pa.array(query_R)),
        "rank": pa.array(rank_R + 1, pa.int32()),
        "id": items["id"],
        "label": items["label"],
        "similarity": pa.array(similarity_R),
        "accepted": accepted,
        "uri": items["uri"],
    }
    return pa.table(columns | {name: items[name] for name in index.columns})


def _say(index: Index, spec: SearchSpec, limit: Limit) -> None:
    if not len(index):
        progress.warn(f"{'no item fits where' if spec.where else 'the index is empty'}: nothing can be found")
    elif spec.k > len(index):
        fitting = " that fit where" if spec.where else ""
        progress.warn(f"k={spec.k}: the index holds {len(index):,} items{fitting}; each query gets those")
    if limit.threshold is None:
        if spec.bundle is None and index.model_hash is None:
            return  # of vectors that no bundle made there is none to give
        progress.say(f"threshold   none ({limit.source}): nothing is marked as accepted")
        return
    rate = f", the bundle's for a false-match rate of {limit.fmr:g}" if limit.fmr is not None else ""
    progress.say(f"threshold   {limit.threshold:.4f}{rate}")


def _write(spec: SearchSpec, table: pa.Table, queries: Queries, title: str, limit: Limit) -> None:
    assert spec.output is not None
    match spec.format:
        case "jsonl":
            with storage.open_write(spec.output) as file:
                for line in _lines(table):
                    file.write(line.encode())
        case "parquet":
            with storage.open_write(spec.output) as file:
                pq.write_table(table, file)
        case "page":
            storage.write_text(spec.output, results_page(table, queries, title, limit, spec.page_queries))
        case "table":
            raise SpecError("spec.output", "has no effect with format table", field="output")
        case _:
            assert_never(spec.format)


def _lines(table: pa.Table) -> Iterator[str]:
    for start in range(0, len(table), _LINES):
        for row in table.slice(start, _LINES).to_pylist():
            yield json.dumps(progress.clean(row), ensure_ascii=False, default=str) + "\n"


def _title(index: Index) -> str:
    return f"Search in {index.address.name}"
