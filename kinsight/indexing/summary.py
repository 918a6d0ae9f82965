"""What an index holds, in words."""

import sys
from collections.abc import Mapping
from typing import Any

from kinsight import progress, storage
from kinsight.indexing.header import IndexHeader
from kinsight.indexing.index import Index
from kinsight.indexing.settings import describe
from kinsight.specs.index import IndexInfo
from kinsight.specs.load import of


def info(spec: IndexInfo | Mapping[str, Any]) -> dict[str, Any]:
    """What an index holds, its files checked; the same as `kinsight index info`, which prints it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    index = Index.open(of(IndexInfo, spec).index)
    header = index.header
    found = {
        "address": str(index.address),
        "kind": describe(index.settings),
        "metric": header.metric,
        "items": len(index),
        "deleted": header.rows - header.live,
        "length": header.dim,
        "model": header.model,
        "model_hash": header.model_hash,
        "ids": header.id_column or "running numbers",
        "columns": list(header.columns),
        "generation": header.generation,
        "written": header.written,
        "megabytes": round(sum(mark.size for mark in header.files.values()) / 1e6, 3),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else value
        table.add_row(Text(name.replace("_", " ")), Text(str(shown) if shown not in (None, "") else "-"))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
    with console.capture() as shown:
        console.print(table)
    console.file.write("\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n")
    return found


def say_state(place: storage.Address, header: IndexHeader) -> None:
    deleted = header.rows - header.live
    size = sum(mark.size for mark in header.files.values()) / 1e6
    gone = f", {deleted:,} deleted" if deleted else ""
    progress.say(f"index       {header.live:,} items{gone}, {size:,.1f} MB in {place}; generation {header.generation}")
    if deleted > header.live:
        progress.warn("more items are deleted than left: `kinsight index compact` gets their room back")
