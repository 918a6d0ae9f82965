"""Search results as a page with pictures."""

from typing import Any

import pyarrow as pa

from kinsight.reports import html
from kinsight.reports.images import Images
from kinsight.serving.limits import Limit
from kinsight.serving.queries import Queries

_SIDE = 224  # pixels, twice what is shown
_NEIGHBOURS = 50


def results_page(results: pa.Table, queries: Queries, title: str, limit: Limit, most: int) -> str:
    """HTML of the first `most` queries, each with its picture and its nearest items."""
    images, parts, start = Images(), [], 0
    names, ranks = results["query"].to_pylist(), results["rank"].to_pylist()
    for number in range(min(most, len(queries))):
        stop = start
        while stop < len(names) and (stop == start or ranks[stop] > 1):
            stop += 1
        rows = results.slice(start, min(stop - start, _NEIGHBOURS)).to_pylist() if stop > start else []
        parts.append(_query(queries, number, rows, images))
        start = stop
    return html.document(title, [*parts, _broken(queries)], note=_note(results, queries, limit, most))


def _query(queries: Queries, number: int, rows: list[dict[str, Any]], images: Images) -> str:
    uri = queries.uris[number]
    pictures = [html.picture(images.get(uri, _SIDE), caption="query", note=uri.rpartition("/")[2])] if uri else []
    pictures += [_neighbour(row, images) for row in rows]
    body = html.gallery(pictures) if rows else html.gallery(pictures) + html.paragraph("nothing found")
    columns = ["rank", "similarity", *[name for name in rows[0] if name not in _SHOWN]] if rows else []
    table = html.table(columns, ([_cell(row[name]) for name in columns] for row in rows), numbers=(0, 1))
    return html.section(queries.names[number], body, html.details("as a table", table) if rows else "")


_SHOWN = ("query", "rank", "similarity")


def _neighbour(row: dict[str, Any], images: Images) -> str:
    caption = row["label"] or str(row["id"])
    note = f"{row['rank']} · {row['similarity']:.4f}"
    return html.picture(
        images.get(row["uri"], _SIDE), caption=caption, note=note, kind="right" if row["accepted"] else ""
    )


def _note(results: pa.Table, queries: Queries, limit: Limit, most: int) -> str:
    words = [f"{len(queries):,} queries, {len(results):,} results"]
    if len(queries) > most:
        words.append(f"the first {most:,} queries are shown")
    if limit.threshold is None:
        words.append(f"nothing is marked as accepted: {limit.source}")
    else:
        rate = f", measured for a false-match rate of {limit.fmr:g}" if limit.fmr is not None else ""
        words.append(f"green: accepted, similarity {limit.threshold:.4f} or more{rate}")
    return "; ".join(words)


def _broken(queries: Queries) -> str:
    if not queries.broken:
        return ""
    rows = html.table(["image", "reason"], queries.broken)
    return html.section("Images that could not be read", rows)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4f}"
        case _:
            return str(value)
