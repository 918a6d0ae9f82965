"""The report: one HTML file with everything that an evaluation or a training has to show."""

import torch

from kinsight import progress, storage
from kinsight.reports.class_headline import class_headline
from kinsight.reports.class_sections import class_sections
from kinsight.reports.evaluated import Report
from kinsight.reports.example_sections import example_sections
from kinsight.reports.headline import headline_section
from kinsight.reports.html import asset, document, escape, paragraph, preformatted, section
from kinsight.reports.images import Images
from kinsight.reports.improvement_section import improvement_section, size_section
from kinsight.reports.level_section import level_section
from kinsight.reports.map_section import map_section
from kinsight.reports.pair_section import pair_section
from kinsight.reports.run_section import run_section
from kinsight.reports.training_section import training_cards, training_section
from kinsight.specs.report import ReportSpec

FOLDER, PAGE = "report", "index.html"


def write_report(
    output: storage.AddressLike,
    report: Report,
    settings: ReportSpec,
    *,
    device: torch.device | None = None,
    told: storage.AddressLike | None = None,
) -> storage.Address:
    """Write `report/index.html` below `output`, whole or not at all; returns its address.

    device: where neighbours are searched; default: the CPU. told: the address people will find `output` at, where that
    is another. Raises StorageError.
    """
    place = storage.Address.parse(output).child(f"{FOLDER}/{PAGE}")
    storage.write_text(place, report_page(report, settings, device=device or torch.device("cpu")))
    progress.say(f"report      {storage.Address.parse(told or output).child(f'{FOLDER}/{PAGE}')}")
    return place


def report_page(report: Report, settings: ReportSpec, *, device: torch.device) -> str:
    """The page as text. What cannot be shown is said in its place."""
    parts = {}
    found = report.evaluated
    if found is not None:
        parts["In short"] = ("short", headline_section(found))
    elif report.classified is not None:
        parts["In short"] = ("short", class_headline(report.classified))
    elif report.missing:
        parts["In short"] = ("short", _unmeasured(report))
    if report.trained is not None:
        parts["Training"] = ("training", training_section(report.trained))
    if found is not None:
        if levels := level_section(found):
            parts["Other levels"] = ("levels", levels)
        if improved := improvement_section(found):
            parts["Improved search"] = ("improved", improved)
        if sizes := size_section(found):
            parts["Fewer dimensions"] = ("sizes", sizes)
        images = _images(report)
        wrong, right, hard, confused = example_sections(found, images, device)
        parts["Mistakes"], parts["Hits"] = ("wrong", wrong), ("right", right)
        parts["Hardest labels" if found.several else "Hardest classes"] = ("hard", hard)
        parts["Confused classes"] = ("confused", confused)
        parts["Same or different"] = ("pairs", pair_section(found))
        if drawn := map_section(found, settings, images, device):
            parts["Map"] = ("map", drawn)
    if report.classified is not None:
        parts |= class_sections(report.classified)
    parts["What was run"] = ("run", run_section(report))
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, (anchor, _) in parts.items())
    style = f"<style>{asset('report.css')}</style><nav>{links}</nav>"
    return document(
        report.title,
        [style, *(html for _, html in parts.values())],
        note=report.lead,
        scripts=(asset("charts.js"), asset("map.js")),
    )


def _unmeasured(report: Report) -> str:
    words, _, command = report.missing.partition("\n")
    cards = training_cards(report.trained) if report.trained is not None else ""
    return section("In short", cards, paragraph(words), preformatted(command) if command else "", anchor="short")


def _images(report: Report) -> Images:
    """Pictures, once it is known whether any can be read."""
    found, images = report.evaluated, Images()
    assert found is not None
    count = len(found.query)
    images.probe([found.query.uri(row) for row in range(0, count, max(1, count // 24))])
    return images
