"""The findings as CSV, and the list of what is left once the named findings are taken out."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from kinsight import storage
from kinsight.checking.findings import Findings, part_name
from kinsight.checking.joint import Joint
from kinsight.data.reading import shown
from kinsight.data.sources.image_list import format_line
from kinsight.errors import DataError
from kinsight.specs.check import FINDINGS, Finding

COLUMNS = ("finding", "set", "image", "place", "label", "other", "other_place", "other_label", "value", "detail")


def write_findings(findings: Findings, address: storage.AddressLike) -> None:
    """findings.csv: a row per image and finding, in the order of check.json; `other` is the image it is a copy of."""
    joint = findings.joint
    with _text_file(address) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for finding, row in findings.flat():
            other = ["", "", ""] if row.other < 0 else _cells(joint, row.other)
            cells = [finding, part_name(joint, row.image), *_cells(joint, row.image), *other, row.value, row.detail]
            writer.writerow(
                [cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell for cell in cells]
            )


@contextmanager
def _text_file(address: storage.AddressLike) -> Iterator[io.TextIOWrapper]:
    with storage.open_write(address) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="replace", newline="")
        yield text
        text.flush()
        text.detach()  # who opened the file closes it


def _cells(joint: Joint, image: int) -> list[str]:
    return [shown(joint.records.uri(image)), joint.place(image), joint.label_text(image)]


def kept_images(findings: Findings, drop: Sequence[Finding]) -> npt.NDArray[np.int64]:
    """Numbers of the images of the data that none of the findings `drop` is about.

    Of copies the first stays; of a conflict neither does, for nobody knows which label is right.
    """
    keep_N = np.ones(len(findings.joint), bool)
    for finding in drop:
        for row in findings.rows[finding]:
            keep_N[row.image] = False
            if finding == "conflicts":
                keep_N[row.other] = False
    return np.flatnonzero(keep_N[: findings.joint.start])


def kept_though_found(findings: Findings, kept_M: npt.NDArray[np.int64]) -> dict[Finding, int]:
    """How many of the kept images each finding is about; findings about none are left out."""
    keep_N = np.zeros(len(findings.joint), bool)
    keep_N[kept_M] = True
    counts = {finding: sum(bool(keep_N[row.image]) for row in findings.rows[finding]) for finding in FINDINGS}
    return {finding: counts[finding] for finding in FINDINGS if counts[finding]}


def write_cleaned(findings: Findings, kept_M: npt.NDArray[np.int64], address: str) -> None:
    """A list of the kept images: CSV where `address` ends in .csv, else an image list. Addresses are whole.

    Raises DataError where nothing is left, or a name cannot stand in such a list.
    """
    if not len(kept_M):
        raise DataError(
            "check.nothing-left", "no image is left for the cleaned list", field="drop", remedy="drop fewer findings"
        )
    is_csv = storage.Address.parse(address).name.lower().endswith(".csv")
    with _text_file(address) as text:
        (_as_csv if is_csv else _as_list)(findings.joint, kept_M, text)


def _as_csv(joint: Joint, kept_M: npt.NDArray[np.int64], text: io.TextIOWrapper) -> None:
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label"])
    for image in kept_M.tolist():
        names = [joint.records.class_names[label] for label in joint.records.labels(image)]
        writer.writerow([joint.records.uri(image), _cell(names)])


def _cell(names: list[str]) -> str:
    """Several labels, or one that would read like several, as a JSON list."""
    if len(names) == 1 and not (set(names[0]) & set("[],;|") or " " in names[0]):
        return names[0]
    return json.dumps(names, ensure_ascii=False) if names else ""


def _as_list(joint: Joint, kept_M: npt.NDArray[np.int64], text: io.TextIOWrapper) -> None:
    for image in kept_M.tolist():
        names = [joint.records.class_names[label] for label in joint.records.labels(image)]
        text.write(format_line(joint.records.uri(image), names) + "\n")
