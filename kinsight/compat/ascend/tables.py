"""What run_dcnet.py measures: a table on standard output, as JSON, as CSV and as a picture."""

import csv
import io
import json
from typing import Any

from kinsight import storage
from kinsight.partition.plots import Series, pareto

_COLUMNS = ("percent", "nprobe", "in_lists", "top1", "scanned", "scanned_p95")


def text(told: dict[str, Any]) -> str:
    """Both recalls against nprobe and percent, the share of the base that is scanned beside each."""
    routing = told["routing"]
    percents = [each["percent"] for each in told["lists"]]
    head = [
        f"{told['data_name']}: {told['base']:,} base vectors, {told['queries']:,} queries, "
        f"{told['nlist']:,} lists, {told['metric']}, {told['ranked_by']}",
        "percent: copies per base vector, on average. scanned: entries in the lists looked into, copies counted, over",
        f"  base vectors; choosing lists costs {routing['multiply_adds']:,} multiply-adds a query more, as much as "
        f"scanning {100 * routing['of_full_scan']:.3g} % of the base.",
    ]
    parts = ["\n".join(head)]
    for name, what in (
        (
            "in_lists",
            "recall of identities: share of a query's rows in gt.npy that the lists looked into hold; scanned",
        ),
        ("top1", "top-1: share of queries whose nearest vector in the lists looked into is in gt.npy; scanned"),
    ):
        cells = {(row["nprobe"], row["percent"]): f"{row[name]:.4f} {_share(row['scanned'])}" for row in told["rows"]}
        probes = list(dict.fromkeys(row["nprobe"] for row in told["rows"]))
        lines = [what, f"{'nprobe':<12}" + "".join(f"{f'percent {percent:g}':>17}" for percent in percents)]
        lines += [f"{probe:<12}" + "".join(f"{cells[probe, percent]:>17}" for percent in percents) for probe in probes]
        parts.append("\n".join(lines))
    shown = [("stored/base", "stored", ".4g"), ("imbalance", "imbalance", ".3g"), ("longest list", "longest", ",")]
    lines = [f"{label:<12}" + "".join(f"{each[key]:>17{form}}" for each in told["lists"]) for label, key, form in shown]
    return "\n\n".join([*parts, "\n".join(lines)])


def write(told: dict[str, Any], folder: storage.Address) -> list[str]:
    """`recall-NAME.json`, `.csv` and `.png`; their names."""
    stem = f"recall-{told['data_name']}"
    out = io.StringIO()
    rows = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(told["rows"])
    storage.write_text(folder.child(f"{stem}.csv"), out.getvalue())
    pareto(_panels(told), folder.child(f"{stem}.png"), title=f"{told['data_name']}: {told['nlist']:,} lists")
    storage.write_text(folder.child(f"{stem}.json"), json.dumps(told, indent=1) + "\n")
    return [f"{stem}.{ending}" for ending in ("json", "csv", "png")]


def _panels(told: dict[str, Any]) -> list[tuple[str, list[Series]]]:
    panels = []
    for name, what in (("in_lists", "true rows in the lists looked into"), ("top1", "top-1 is a true row")):
        series = []
        for percent in (each["percent"] for each in told["lists"]):
            rows = [row for row in told["rows"] if row["percent"] == percent]
            series.append(Series(f"percent {percent:g}", [row["scanned"] for row in rows], [row[name] for row in rows]))
        panels.append((what, series))
    return panels


def _share(scanned: float) -> str:
    return f"{100 * scanned:.3g} %" if scanned >= 1e-4 else f"{100 * scanned:.1e} %"
