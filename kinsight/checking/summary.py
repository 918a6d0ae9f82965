"""The check in numbers: check.json, and the table on the terminal."""

from typing import Any

import numpy as np
from rich.table import Table

from kinsight import __version__
from kinsight.checking import near, wrong_labels
from kinsight.checking.findings import Findings, meaning
from kinsight.checking.joint import SETS
from kinsight.evaluation.settings import printed_tree
from kinsight.specs.check import FINDINGS, CheckSpec

FORMAT = "kinsight-check"
VERSION = 1


def flat_numbers(spec: CheckSpec, findings: Findings) -> dict[str, Any]:
    """The content of check.json: flat but for `not_looked` and `spec`.

    `data.images`, `data.classes`, `data.class_images.min|median|max`, `data.imbalance` (largest over smallest class),
    the same for `validation`; `classes_shared`; per finding `<finding>` and `<set>.<finding>`: numbers of images;
    `near.least_alike`, ...: the thresholds used. `cleaned.images`, `cleaned.kept.<finding>`: see `cleaned_words`;
    `cleaned.list`: its address.
    """
    joint = findings.joint
    numbers: dict[str, Any] = {"format": FORMAT, "version": VERSION, "kinsight": __version__}
    for part, records in enumerate(joint.parts):
        numbers |= {f"{SETS[part]}.{name}": value for name, value in _classes(findings, part).items()}
        numbers[f"{SETS[part]}.source"] = records.source
        numbers[f"{SETS[part]}.fingerprint"] = records.fingerprint
    if len(joint.parts) > 1:
        numbers["classes_shared"] = int(((joint.count_C(0) > 0) & (joint.count_C(1) > 0)).sum())
    for finding in FINDINGS:
        looked_for = finding not in findings.not_looked
        numbers[finding] = findings.count(finding) if looked_for else None
        for part in range(len(joint.parts)):
            numbers[f"{SETS[part]}.{finding}"] = findings.count(finding, part) if looked_for else None
    return numbers | {
        "near.least_alike": near.LEAST_ALIKE,
        "near.least_weakest": near.LEAST_WEAKEST,
        "near.most_reach": near.MOST_REACH,
        "mislabelled.least_lead": spec.mislabelled,
        "mislabelled.neighbours": wrong_labels.NEIGHBOURS,
        "not_looked": findings.not_looked,
        "spec": printed_tree(spec),
    }


def _classes(findings: Findings, part: int) -> dict[str, Any]:
    joint = findings.joint
    count_C = joint.count_C(part)
    count_C = count_C[count_C > 0]
    numbers: dict[str, Any] = {"images": len(joint.parts[part]), "classes": len(count_C)}
    if len(count_C):
        numbers |= {
            "class_images.min": int(count_C.min()),
            "class_images.median": float(np.median(count_C)),
            "class_images.max": int(count_C.max()),
            "imbalance": round(float(count_C.max() / count_C.min()), 2),
        }
    return numbers


def text_table(spec: CheckSpec, findings: Findings, numbers: dict[str, Any]) -> Table:
    """What people see when the job is done."""
    parts = SETS[: len(findings.joint.parts)]
    table = Table(title=_title(findings, numbers), title_justify="left", caption_justify="left")
    table.caption = not_compared(spec)
    table.add_column("finding", no_wrap=True)
    for name in parts:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what it means", style="dim")
    for finding in FINDINGS:
        why = findings.not_looked.get(finding)
        counts = ["" if why else f"{numbers[f'{name}.{finding}']:,}" for name in parts]
        bad = not why and numbers[finding] > 0
        table.add_row(finding, *counts, f"not looked for: {why}" if why else meaning(finding, spec), style=_style(bad))
    return table


def not_compared(spec: CheckSpec) -> str:
    """Which copies nobody looked for."""
    if not spec.near:
        return "Copies: only of the same file or the same pixels; others were not looked for."
    return "Copies: mirrored and turned ones, and small parts of an image, are not looked for."


def cleaned_words(spec: CheckSpec, findings: Findings, numbers: dict[str, Any]) -> str:
    """What the cleaned list leaves out, and what it keeps although it was found."""
    head = f"cleaned     {numbers['cleaned.images']:,} of {findings.joint.start:,} images are listed in {spec.cleaned}"
    text = f"{head}; left out: {', '.join(spec.dropped)}"
    counts = [(finding, numbers.get(f"cleaned.kept.{finding}")) for finding in FINDINGS]
    kept = ", ".join(f"{count:,} {finding}" for finding, count in counts if count)
    return f"{text}\ncleaned     kept although found: {kept}; --drop leaves them out by name" if kept else text


def _style(bad: bool) -> str:
    return "bold" if bad else ""


def _title(findings: Findings, numbers: dict[str, Any]) -> str:
    lines = []
    for name in SETS[: len(findings.joint.parts)]:
        line = f"{name}: {numbers[f'{name}.images']:,} images, {numbers[f'{name}.classes']:,} classes"
        if numbers[f"{name}.classes"]:
            line += (
                f" of {numbers[f'{name}.class_images.min']:,} to {numbers[f'{name}.class_images.max']:,} images "
                f"(median {numbers[f'{name}.class_images.median']:g})"
            )
        lines.append(line)
    if "classes_shared" in numbers:
        lines.append(f"{numbers['classes_shared']:,} classes are in both sets")
    return "\n".join(lines)
