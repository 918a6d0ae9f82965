"""All that was found, as rows that the table, the files and the page are made from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinsight.checking.copies import Copies, Copy
from kinsight.checking.joint import SETS, Joint
from kinsight.checking.look import BIT
from kinsight.checking.reading import Looked
from kinsight.checking.wrong_labels import WrongLabels
from kinsight.specs.check import FINDINGS, CheckSpec, Finding

MEANING: dict[Finding, str] = {
    "missing": "nothing is at the address",
    "broken": "the file cannot be decoded",
    "tiny": "the shorter side is below {tiny} pixels",
    "huge": "more than {huge:g} million pixels",
    "blank": "all pixels have the same colour",
    "aspect": "one side is more than {aspect:g} times as long as the other",
    "deep": "16 bits a channel; training scales them to 8",
    "cmyk": "colours of print; training converts them",
    "rotated": "turned by an EXIF tag; training turns them upright, other tools may not",
    "animated": "several frames; training takes the first",
    "transparent": "see-through pixels; training puts white behind them",
    "suffix": "the name says another format than the content",
    "unlabelled": "no label",
    "singletons": "the only image of its class in the data to train on",
    "repeats": "the list names the same image again, with the same labels",
    "duplicates": "a copy of an earlier image of the same set, with the same labels",
    "conflicts": "a copy of an earlier image of the same set, with other labels",
    "leaks": "an image to train on that is also, or has a copy, among the validation images",
    "mislabelled": "the nearest images by the bundle carry another label, those of its own are far",
}


def meaning(finding: Finding, spec: CheckSpec) -> str:
    """What a finding means, with the limits it was found by."""
    return MEANING[finding].format(tiny=spec.tiny, huge=spec.huge, aspect=spec.aspect)


@dataclass(frozen=True)
class Found:
    """One image with something to say about it. other: the image it is a copy of, -1: none. value: alikeness of the
    copies, or lead of the other labels; 1 for plain facts.
    """

    image: int
    other: int = -1
    detail: str = ""
    value: float = 1.0


@dataclass(frozen=True)
class Findings:
    """rows: by finding, in the order of FINDINGS. not_looked: findings that were not looked for, and why."""

    joint: Joint
    looked: Looked
    rows: dict[Finding, list[Found]]
    not_looked: dict[Finding, str]

    def count(self, finding: Finding, part: int | None = None) -> int:
        """Images with this finding, in all or in one part."""
        rows = self.rows[finding]
        return len(rows) if part is None else sum(int(self.joint.set_N[row.image]) == part for row in rows)

    def flat(self) -> Iterator[tuple[Finding, Found]]:
        """Every row, finding by finding."""
        for finding, rows in self.rows.items():
            for row in rows:
                yield finding, row


def collect(
    joint: Joint,
    looked: Looked,
    copies: Copies,
    wrong: WrongLabels | None,
    not_looked: dict[Finding, str],
) -> Findings:
    """Put together what the parts of the check found."""
    rows: dict[Finding, list[Found]] = {finding: [] for finding in FINDINGS}
    for finding, bit in BIT.items():
        for image in np.flatnonzero(looked.fact_N["flags"] & bit).tolist():
            rows[finding].append(Found(image, detail=_detail(looked, finding, image)))  # type: ignore[index]
    rows["unlabelled"] = [Found(image) for image in np.flatnonzero(joint.key_N == -1).tolist()]
    rows["singletons"] = [Found(image) for image in _singletons(joint).tolist()]
    for name in ("repeats", "duplicates", "conflicts", "leaks"):
        rows[name] = [_found(copy) for copy in getattr(copies, name)]
    if wrong is not None:
        names = joint.records.class_names
        rows["mislabelled"] = [
            Found(image, detail=f"looks like {names[label]}", value=round(lead, 4))
            for image, label, lead in zip(
                wrong.image_P.tolist(), wrong.label_P.tolist(), wrong.lead_P.tolist(), strict=True
            )
        ]
    return Findings(joint, looked, rows, not_looked)


def _detail(looked: Looked, finding: str, image: int) -> str:
    fact = looked.fact_N[image]
    if finding in ("tiny", "huge", "aspect"):
        return f"{fact['width']} x {fact['height']}"
    return looked.reason.get(image, "") if finding != "blank" else ""


def _singletons(joint: Joint) -> npt.NDArray[np.int64]:
    lonely_C = joint.count_C(0) == 1
    key_N = joint.key_N[: joint.start]
    return np.flatnonzero((key_N >= 0) & lonely_C[np.maximum(key_N, 0)]) if len(lonely_C) else np.zeros(0, np.int64)


def _found(copy: Copy) -> Found:
    words = {
        "listed": "same address",
        "bytes": "same file",
        "pixels": "same pixels",
        "near": "encoded anew, resized, brightened or cropped",
    }
    return Found(copy.image, copy.original, words[copy.how], round(copy.alike, 4))


def part_name(joint: Joint, image: int) -> str:
    """Which set an image belongs to."""
    return SETS[int(joint.set_N[image])]
