"""The page of a check: counts first, then each finding with pictures, then the classes."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from kinsight.checking.findings import Findings, Found, meaning
from kinsight.checking.joint import SETS, Joint
from kinsight.checking.summary import not_compared
from kinsight.data.decode import BrokenImage
from kinsight.data.reading import shown
from kinsight.data.thumbnails import thumbnail
from kinsight.errors import StorageError
from kinsight.reports import html
from kinsight.specs.check import FINDINGS, CheckSpec, Finding

_SIDE = 112
_GRAVE: tuple[Finding, ...] = ("broken", "missing", "leaks", "conflicts", "mislabelled", "duplicates", "blank")
_ORDER: tuple[Finding, ...] = (*_GRAVE, *(finding for finding in FINDINGS if finding not in _GRAVE))
_PLAIN: tuple[Finding, ...] = ("missing", "broken")
_BINS = 12
_NAMED = 20  # classes listed at either end


def page(spec: CheckSpec, findings: Findings, numbers: dict[str, Any]) -> str:
    """The whole page as HTML."""
    joint = findings.joint
    bad: list[Finding] = [finding for finding in _ORDER if findings.rows[finding]]
    parts = [html.numbers(_cards(joint, numbers)), _overview(spec, findings, numbers)]
    pictures = _Pictures(joint)
    parts += [_section(finding, findings, pictures, spec) for finding in bad]
    parts += [_classes(findings, part) for part in range(len(joint.parts)) if joint.count_C(part).any()]
    note = " and ".join(records.source for records in joint.parts)
    return html.document("Data check", parts, note=note)


def _cards(joint: Joint, numbers: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in SETS[: len(joint.parts)]:
        yield (f"images in {name}", f"{numbers[f'{name}.images']:,}", f"{numbers[f'{name}.classes']:,} classes")
    if len(joint.parts) > 1:
        yield ("classes in both", f"{numbers['classes_shared']:,}", "zero where unseen classes are to be retrieved")
    yield ("unreadable", f"{numbers['broken'] + numbers['missing']:,}", "broken or missing")
    copies = numbers["duplicates"] + numbers["repeats"]
    yield ("copies", f"{copies:,}", f"and {numbers['conflicts']:,} with other labels")
    if numbers["leaks"] is not None:
        yield ("leaks", f"{numbers['leaks']:,}", "shared by data and validation")
    if numbers["mislabelled"] is not None:
        yield ("wrong labels?", f"{numbers['mislabelled']:,}", "candidates to look at")


def _overview(spec: CheckSpec, findings: Findings, numbers: dict[str, Any]) -> str:
    sets = SETS[: len(findings.joint.parts)]
    rows = [
        (
            finding,
            *("–" if finding in findings.not_looked else f"{numbers[f'{name}.{finding}']:,}" for name in sets),
            f"not looked for: {findings.not_looked[finding]}"
            if finding in findings.not_looked
            else meaning(finding, spec),
        )
        for finding in FINDINGS
    ]
    columns = ("finding", *sets, "what it means")
    table = html.table(columns, rows, numbers=range(1, len(sets) + 1))
    kept = [f"{numbers[name]:,} {finding}" for finding in FINDINGS if (name := f"cleaned.kept.{finding}") in numbers]
    more = f" The cleaned list keeps, although found: {', '.join(kept)}." if kept else ""
    return html.section("What was found", table, note=f"{not_compared(spec)}{more}")


def _section(finding: Finding, findings: Findings, pictures: "_Pictures", spec: CheckSpec) -> str:
    rows, joint = findings.rows[finding], findings.joint
    shown_rows = rows[: spec.pictures]
    cut = len(rows) > len(shown_rows)
    more = f" The first {len(shown_rows):,} are shown; all are in findings.csv." if cut else ""
    note = f"{'1 image' if len(rows) == 1 else f'{len(rows):,} images'}: {meaning(finding, spec)}.{more}"
    if finding in _PLAIN:
        cells = [(shown(joint.records.uri(row.image)), joint.place(row.image), row.detail) for row in shown_rows]
        return html.section(finding, html.table(("image", "place", "why"), cells), note=note, anchor=finding)
    if rows[0].other >= 0:
        kind = "right" if finding in ("duplicates", "repeats") else "wrong"
        groups = (html.group([pictures.of(row.other, ""), pictures.copy(row, kind)]) for row in shown_rows)
        return html.section(finding, html.gallery(groups), note=note, anchor=finding)
    tiles = (pictures.single(row) for row in shown_rows)
    return html.section(finding, html.gallery(tiles), note=note, anchor=finding)


class _Pictures:
    """Images as figures."""

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        self.small = lru_cache(64)(_thumbnail)

    def of(self, image: int, kind: str, note: str = "") -> str:
        name = SETS[int(self.joint.set_N[image])]
        words = note or (f"{name}: " if len(self.joint.parts) > 1 else "") + _tail(self.joint.records.uri(image))
        return html.picture(
            self.small(self.joint.records.uri(image)),
            caption=self.joint.label_text(image) or "no label",
            note=words,
            kind=kind,
        )

    def copy(self, row: Found, kind: str) -> str:
        alike = f"{row.value:.3f} alike" if row.detail.startswith("encoded") else row.detail
        return self.of(row.image, kind, f"{alike}: {_tail(self.joint.records.uri(row.image))}")

    def single(self, row: Found) -> str:
        lead = f" ({row.value:.2f})" if row.detail.startswith("looks like") else ""
        return self.of(row.image, "", f"{row.detail}{lead}" if row.detail else "")


def _thumbnail(uri: str) -> np.ndarray | None:
    try:
        return thumbnail(uri, _SIDE)
    except (BrokenImage, StorageError):
        return None


def _tail(uri: str) -> str:
    return shown(uri).rstrip("/").rpartition("/")[2]


def _classes(findings: Findings, part: int) -> str:
    joint = findings.joint
    count_C = joint.count_C(part)
    used = np.flatnonzero(count_C)
    order = used[np.argsort(count_C[used], kind="stable")]
    names = joint.records.class_names
    smallest = [(names[c], f"{count_C[c]:,}") for c in order[:_NAMED].tolist()]
    largest = [(names[c], f"{count_C[c]:,}") for c in order[::-1][:_NAMED].tolist()]
    sizes = count_C[used]
    note = f"{len(used):,} classes of {sizes.min():,} to {sizes.max():,} images, median {np.median(sizes):g}."
    return html.section(
        f"Classes of {SETS[part]}",
        html.bars(histogram(sizes)),
        html.details("Largest classes", html.table(("class", "images"), largest, numbers=(1,))),
        html.details("Smallest classes", html.table(("class", "images"), smallest, numbers=(1,))),
        note=note,
    )


def histogram(size_C: np.ndarray) -> list[tuple[str, int]]:
    """Classes by their number of images, in at most a dozen bins, growing like powers where sizes differ much."""
    low, high = int(size_C.min()), int(size_C.max())
    if high - low < _BINS:
        edges = np.arange(low, high + 2)
    elif high < 8 * low:
        edges = np.unique(np.linspace(low, high + 1, _BINS + 1).astype(int))
    else:
        edges = np.unique(np.geomspace(low, high + 1, _BINS + 1).round().astype(int))
        edges[-1] = high + 1
    counts = np.histogram(size_C, edges)[0]
    ranges = zip(edges[:-1].tolist(), (edges[1:] - 1).tolist(), strict=True)
    return [(f"{a:,}" if a == b else f"{a:,}–{b:,}", int(n)) for (a, b), n in zip(ranges, counts.tolist(), strict=True)]
