"""The `data check` job.

check.json           numbers, flat: see `summary.flat_numbers`; written last
findings.csv         a row per image and finding
report/index.html    the same with pictures
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from kinsight import progress, storage
from kinsight.checking.cleaned import kept_images, kept_though_found, write_cleaned, write_findings
from kinsight.checking.copies import Sameness, sort_copies
from kinsight.checking.findings import Findings, collect
from kinsight.checking.joint import Joint
from kinsight.checking.look import BIT, Limits
from kinsight.checking.near import NO_PAIRS, near_pairs
from kinsight.checking.page import page
from kinsight.checking.reading import Looked, looked_at
from kinsight.checking.summary import cleaned_words, flat_numbers, text_table
from kinsight.checking.wrong_labels import wrong_labels
from kinsight.data import Records, read_records
from kinsight.errors import DataError, SpecError
from kinsight.specs.check import CheckSpec, Finding
from kinsight.specs.data import Source
from kinsight.specs.load import of

HEADER, FINDINGS_FILE, PAGE = "check.json", "findings.csv", "report/index.html"
_OWN = {HEADER, FINDINGS_FILE, PAGE}


@dataclass(frozen=True)
class CheckResult:
    """numbers: the content of check.json. findings: every row. output: the folder's address."""

    numbers: dict[str, Any]
    findings: Findings
    output: str


def check(spec: CheckSpec | Mapping[str, Any]) -> CheckResult:
    """Look at every image and report what is wrong; the same as `kinsight data check`. Never changes an image.

    Replaces an earlier check at the output. Raises KinsightError: SpecError for an output that holds something else,
    DataError for a list that cannot be read or, once all is written, for findings named by `fail_on`.
    """
    spec = of(CheckSpec, spec)
    output = storage.OutputDir(spec.output)
    _refuse_other(output, spec.cleaned)
    output.check_writable()
    joint = Joint.of(*(_read(source) for source in (spec.data, spec.validation) if source is not None))
    limits = Limits(spec.tiny, spec.huge * 1e6, spec.aspect)
    with looked_at(joint.records, limits, workers=spec.workers) as looked:
        findings = _find(spec, joint, looked)
        numbers = flat_numbers(spec, findings)
        with output:
            _write(spec, findings, numbers, output)
    Console().print(text_table(spec, findings, numbers))
    progress.say(f"look at     {output.address.child(PAGE)}")
    _fail(spec, findings)
    return CheckResult(numbers, findings, spec.output)


def _read(source: Source) -> Records:
    records = read_records(source, labelled=False, remarks=False)
    for note in records.notes:
        progress.warn(note)
    return records


def _find(spec: CheckSpec, joint: Joint, looked: Looked) -> Findings:
    not_looked: dict[Finding, str] = {}
    if spec.validation is None:
        not_looked["leaks"] = "no validation set was given"
    if spec.bundle is None:
        not_looked["mislabelled"] = "no bundle was given, whose neighbours could tell"
    same = Sameness.of(joint, looked)
    near = NO_PAIRS
    if spec.near:
        plain_N = (looked.fact_N["flags"] & BIT["blank"]) > 0
        chosen_N = looked.usable_N & ~plain_N & (same.pixel_N == np.arange(len(joint)))
        near = near_pairs(joint.records, looked.small_NHW, np.flatnonzero(chosen_N), workers=spec.workers)
    wrong = wrong_labels(spec, joint, looked.usable_N, same.pixel_N) if spec.bundle is not None else None
    return collect(joint, looked, sort_copies(joint, same, near), wrong, not_looked)


def _refuse_other(output: storage.OutputDir, cleaned: str | None) -> None:
    """An earlier check is replaced; a folder of anything else is not ours to write into."""
    if not storage.is_directory(output.address):
        if output.exists():
            raise SpecError(
                "check.output", "is a file", field=f"output={output.address}", remedy="name a folder for the report"
            )
        return
    listed = storage.Address.parse(cleaned) if cleaned is not None else None
    strange = [
        entry.relative
        for entry in storage.list_files(output.address)
        if entry.relative not in _OWN and output.address.child(entry.relative) not in (listed, *_cleaned_before(output))
    ]
    if strange:
        raise SpecError(
            "check.output",
            f"holds {strange[0]}, which no check wrote",
            field=f"output={output.address}",
            remedy="choose a new folder, or that of an earlier check",
        )


def _cleaned_before(output: storage.OutputDir) -> list[storage.Address]:
    """The cleaned list that the check whose folder this is has written, wherever it lies."""
    header = output.address.child(HEADER)
    try:
        name = json.loads(storage.read_text(header)).get("cleaned.list") if storage.exists(header) else None
    except ValueError:
        name = None
    return [storage.Address.parse(name)] if isinstance(name, str) else []


def _write(spec: CheckSpec, findings: Findings, numbers: dict[str, Any], output: storage.OutputDir) -> None:
    storage.remove(output.address.child(HEADER))
    if spec.cleaned is not None:
        kept_M = kept_images(findings, spec.dropped)
        write_cleaned(findings, kept_M, spec.cleaned)
        numbers |= {"cleaned.images": len(kept_M), "cleaned.list": str(storage.Address.parse(spec.cleaned))}
        kept = kept_though_found(findings, kept_M)
        numbers |= {f"cleaned.kept.{finding}": count for finding, count in kept.items()}
        progress.say(cleaned_words(spec, findings, numbers))
    write_findings(findings, output.path / FINDINGS_FILE)
    storage.write_text(output.path / PAGE, page(spec, findings, numbers))
    text = json.dumps(progress.clean(numbers), indent=1, ensure_ascii=False)
    storage.write_text(output.path / HEADER, text.encode("utf-8", "replace").decode() + "\n")
    output.publish(HEADER)


def _fail(spec: CheckSpec, findings: Findings) -> None:
    found = [f"{findings.count(finding):,} {finding}" for finding in spec.fail_on if findings.count(finding)]
    if found:
        raise DataError(
            "check.found", f"found {', '.join(found)}", field="fail_on", remedy=f"see {PAGE} in {spec.output}"
        )
