"""What was run: versions, data, skipped images, and every setting."""

from kinsight.reports.evaluated import Report
from kinsight.reports.html import details, paragraph, preformatted, section, table

MOST_BROKEN = 200  # named on the page; all of them stand in the JSON header beside it


def run_section(report: Report) -> str:
    """The facts as a table, what could not be measured, the skipped images and the settings, folded."""
    parts = [table(("What", "Value"), report.facts)] if report.facts else []
    reasons = report.evaluated.reasons if report.evaluated is not None else {}
    if reasons:
        parts.append(details(f"Not measurable: {len(reasons)}", table(("Number", "Why"), list(reasons.items()))))
    if report.broken:
        shown = report.broken[:MOST_BROKEN]
        more = len(report.broken) - len(shown)
        parts.append(
            details(
                f"Images that could not be read: {len(report.broken):,}",
                table(("Image", "Why"), shown),
                paragraph(f"{more:,} more are named in the JSON header beside this page.") if more else "",
            )
        )
    else:
        parts.append(paragraph("Every image could be read."))
    if report.settings:
        parts.append(details("All settings", preformatted(report.settings)))
    return section("What was run", *parts, anchor="run")
