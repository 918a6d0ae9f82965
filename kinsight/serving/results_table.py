"""Search results on the terminal."""

import sys

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kinsight import progress
from kinsight.reports.captions import printable

_WIDE = 10_000  # columns of a line that no terminal cuts: files and pipes get whole lines
_MORE = 3  # further columns that a terminal has room for
_OWN = 7
_ROWS = 2_000  # shown; for more there are files


def print_table(results: pa.Table) -> None:
    """Print results on standard output, the query's name once."""
    terminal = sys.stdout.isatty()
    total, results = len(results), results.slice(0, _ROWS)
    console = Console(highlight=False, width=None if terminal else _WIDE)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    further = results.column_names[_OWN:][: _MORE if terminal else None]
    table.add_column("query", overflow="fold")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("similarity", justify="right", no_wrap=True)
    marked = results["accepted"].null_count < len(results)
    if marked:
        table.add_column("accepted", no_wrap=True)
    shown = ["id", "label", *([] if len(results) and results["id"].equals(results["uri"]) else ["uri"]), *further]
    for name in shown:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in results.to_pylist():
        first = row["rank"] == 1
        if first and table.row_count:
            table.add_row()
        cells = [row["query"] if first else "", row["rank"], f"{row['similarity']:.4f}"]
        cells += [_mark(row["accepted"])] if marked else []
        cells += [row[name] for name in shown]
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in cells))
    with console.capture() as shown_lines:
        console.print(table)
    # trailing blanks would make every line as long as the longest
    console.file.write("\n".join(line.rstrip() for line in shown_lines.get().splitlines()) + "\n")
    if total > _ROWS:
        progress.say(f"... and {total - _ROWS:,} results more: --format jsonl or parquet writes all")


def _mark(accepted: bool | None) -> str:
    return "" if accepted is None else "yes" if accepted else "no"
