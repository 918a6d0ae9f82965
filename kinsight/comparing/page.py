"""The page of a comparison: `report/index.html`, one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinsight import progress, storage
from kinsight.comparing.results import BEST, SAME, UNKNOWN, WORSE, Comparison, Result, held_equal
from kinsight.comparing.runs import METRICS
from kinsight.comparing.statistics import Mean
from kinsight.comparing.table import (
    around,
    budget_words,
    caption,
    conclusions,
    design_words,
    difference,
    p_value,
)
from kinsight.evaluation.settings import printed_yaml
from kinsight.reports.charts import Line, charts, line_chart
from kinsight.reports.html import asset, details, document, escape, numbers, paragraph, preformatted, section, table
from kinsight.reports.intervals import Row, interval_chart
from kinsight.reports.page import FOLDER, PAGE
from kinsight.reports.words import display_name, percent

_WORDS = {SAME: "not significantly different", WORSE: "significantly worse"}
_COLOURS = {BEST: 2, SAME: 0, UNKNOWN: 0}
_WORSE = 1
_BUDGET_AXES = {"steps": "optimizer steps", "epochs": "epochs", "seconds": "seconds of training"}


def write_page(comparison: Comparison, output: Path, *, told: str) -> None:
    """Write the page below `output`; told: the address people will find `output` at. Raises StorageError."""
    storage.write_text(output / FOLDER / PAGE, page(comparison))
    progress.say(f"report      {storage.Address.parse(told).child(f'{FOLDER}/{PAGE}')}")


def page(comparison: Comparison) -> str:
    """The page as text."""
    parts = {
        "In short": ("short", _short(comparison)),
        "Candidates": ("candidates", _candidates(comparison)),
        "Tuning": ("tuning", _tuning(comparison)),
        "Test": ("test", _test(comparison)),
        "Learning curves": ("curves", _curves(comparison)),
        "Held equal": ("equal", _equal(comparison)),
        "Runs": ("runs", _runs(comparison)),
    }
    parts = {name: (anchor, text) for name, (anchor, text) in parts.items() if text}
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, (anchor, _) in parts.items())
    style = f"<style>{asset('report.css')}</style><nav>{links}</nav>"
    names = len(comparison.results)
    lead = f"{names} candidates, {design_words(comparison)}, {budget_words(comparison)} a run."
    lead += f" Losses, miners and samplers of {comparison.made_of}." if comparison.made_of else ""
    return document(
        "Comparison",
        [style, *(text for _, text in parts.values())],
        note=lead,
        scripts=(asset("charts.js"),),
    )


def _short(comparison: Comparison) -> str:
    best, metric = comparison.results[0], comparison.spec.metric
    mean = best.means[metric]
    if mean is None:
        return section("In short", *(paragraph(line) for line in conclusions(comparison)), anchor="short")
    alike = sum(other.verdict == SAME for other in comparison.results)
    low, high = _within(mean)
    bounds = f"{percent(low)} to {percent(high)}" if low is not None else "one run"
    cards = [
        ("highest mean", best.name, f"{display_name(metric)} of classes held out"),
        (display_name(metric), percent(mean.mean), bounds),
        ("not significantly different", str(alike), "other candidates"),
    ]
    return section("In short", numbers(cards), *(paragraph(line) for line in conclusions(comparison)), anchor="short")


def _candidates(comparison: Comparison) -> str:
    metric = comparison.spec.metric
    names = [metric, *(name for name in METRICS if name != metric)]
    differing = any(found.candidate.differs for found in comparison.results)
    columns = ["Candidate", *map(display_name, names), "To the best", "p (Holm)", "Verdict"]
    rows = [_row(found, names, differing) for found in comparison.results]
    columns += ["Not held equal"] if differing else []
    if comparison.failed:
        columns.append("Runs")
        rows = [
            [*row, f"{len(found.done)} of {len(found.runs)}"]
            for row, found in zip(rows, comparison.results, strict=True)
        ]
    drawn = [_interval(found, metric) for found in comparison.results if found.done]
    legend = [(2, "best"), (0, "not significantly different"), (_WORSE, "significantly worse")]
    label = f"{display_name(metric)} on classes held out; faint: single runs"
    chart = interval_chart("Means, intervals, runs", drawn, x_label=label, legend=legend) if drawn else ""
    note = f"{caption(comparison)}. {_model_words(comparison)}"
    return section(
        "Candidates",
        table(columns, rows, numbers=range(1, len(names) + 3)),
        f'<div class="charts">{chart}</div>' if chart else "",
        note=note[:1].upper() + note[1:],
        anchor="candidates",
    )


def _model_words(comparison: Comparison) -> str:
    if comparison.spec.keep == "last":
        return "Measured is the model at the end of the budget: nothing was chosen by the classes it is measured on."
    return (
        "Measured is each run's best model by the classes held out, so that the numbers are somewhat too high, for all "
        "candidates alike; those on test images are not."
    )


def _row(found: Result, names: list[str], differing: bool) -> list[str]:
    cells = [around(found.means[name]) for name in names]
    verdict = _WORDS.get(found.verdict, found.verdict)
    row = [found.name, *cells, difference(found), p_value(found).removesuffix(", not sig."), verdict]
    if differing:
        row.append("; ".join(f"{path} {new}, not {old}" for path, old, new in found.candidate.differs))
    return row


def _interval(found: Result, metric: str) -> Row:
    mean = found.means[metric]
    assert mean is not None, "a candidate with runs has a mean"
    values = list(found.values(metric).values())
    return Row(found.name, values, mean.mean, *_within(mean), _COLOURS.get(found.verdict, _WORSE))


def _within(mean: Mean) -> tuple[float | None, float | None]:
    """Bounds as far as shares go: Student's interval over few runs may reach beyond."""
    if mean.low is None or mean.high is None:
        return None, None
    return max(mean.low, 0.0), min(mean.high, 1.0)


def _tuning(comparison: Comparison) -> str:
    if not comparison.spec.trials:
        note = "Nothing was tuned: every candidate has the settings that the comparison was given."
        return section("Tuning", note=note, anchor="tuning")
    rows = []
    for found in comparison.results:
        chosen = found.chosen
        values = ", ".join(f"{name} {_value(value)}" for name, value in chosen.values.items()) if chosen else "declared"
        ranges = ", ".join(f"{name} {_range(found, name)}" for name in found.candidate.ranges)
        failed = sum(trial.score is None for trial in found.trials)
        rows.append((found.name, values, ranges, f"{len(found.trials)}" + (f", {failed} failed" if failed else "")))
    note = (
        f"Each candidate had {comparison.spec.trials} trials, each on all folds, with a seed that no run above has. "
        "The values were chosen on a split of their own of the same classes that the table measures on, so that its "
        "numbers may be somewhat too high, for all alike; those on test images are not."
    )
    return section("Tuning", table(("Candidate", "Chosen", "Ranges", "Trials"), rows), note=note, anchor="tuning")


def _range(found: Result, name: str) -> str:
    given: Any = found.candidate.ranges[name]
    if hasattr(given, "values"):
        return "one of " + ", ".join(map(str, given.values))
    return f"{given.low:g} to {given.high:g}" + (", log" if given.log else "")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _test(comparison: Comparison) -> str:
    spec = comparison.spec
    tested = [found for found in comparison.results if found.tests]
    if not tested:
        return ""
    names = dict.fromkeys((spec.metric, "recall@1"))
    kinds = {"separate": "one model", "concatenated": "all folds' models"}
    columns = ["Candidate", *(f"{display_name(name)}, {words}" for words in kinds.values() for name in names)]
    rows = [
        [found.name, *(around(found.test_mean(name, kind, spec.alpha)) for kind in kinds for name in names)]
        for found in tested
    ]
    note = (
        f"{_test_words(comparison)}, used once, after all runs. One model: the mean over the models of all folds and "
        "seeds, bounds by how these differ on the same test images. All folds' models: their unit vectors joined, for "
        "each seed; bounds from two seeds on."
    )
    return section("Test", table(columns, rows, numbers=range(1, len(columns))), note=note, anchor="test")


def _test_words(comparison: Comparison) -> str:
    return "Images of other classes" if comparison.test_remark is None else f"Other images ({comparison.test_remark})"


def _curves(comparison: Comparison) -> str:
    metric = comparison.spec.metric
    curves = [(found.name, _mean_curve(found)) for found in comparison.results]
    curves = [(name, curve) for name, curve in curves if curve is not None and len(curve) > 1]
    if not curves:
        return ""
    every = [Line(name, curve[:, 0], curve[:, 1]) for name, curve in curves]
    label = _BUDGET_AXES[comparison.protocol.budget[0]]
    drawn = []
    for place, line in enumerate(every):
        lines = [line, every[0]] if place else [line]
        name = f"curve-{place}"
        drawn.append(line_chart(name, line.name, lines, x_label=label, share=True, dots=True, beside=every))
    note = (
        f"{display_name(metric)} on the classes held out, mean over folds and seeds, beside that of the best. All have "
        "the same axes."
    )
    return section("Learning curves", charts(*drawn), note=note, anchor="curves")


def _mean_curve(found: Result) -> np.ndarray | None:
    """(points, 2): budget used and metric, means over the runs, which validate equally often."""
    curves = [outcome.curve for _, outcome in found.done]
    if not curves:
        return None
    points = min(len(curve) for curve in curves)
    return np.array([curve[:points] for curve in curves], np.float64).reshape(len(curves), points, 2).mean(0)


def _equal(comparison: Comparison) -> str:
    folds = ", ".join(f"{fold.classes:,}" for fold in comparison.folds)
    images = ", ".join(f"{fold.images:,}" for fold in comparison.folds)
    rows: list[Sequence[object]] = [
        ("budget of a run", budget_words(comparison)),
        ("classes held out, by fold (another split for each seed)", folds),
        ("images held out, by fold", images),
        ("seeds", ", ".join(map(str, comparison.spec.seed_list()))),
    ]
    conditions = ["; ".join(f"{name} {value}" for name, value in found.items()) for found in comparison.conditions]
    rows += [("carried out on", text) for text in conditions]
    if comparison.protocol.ignored:
        rows.append(("settings of the base that do not apply", ", ".join(comparison.protocol.ignored)))
    equal = [(name, "null" if value is None else value) for name, value in held_equal(comparison).items()]
    return section(
        "What was held equal",
        table(("What", "Value"), rows),
        details(f"All {len(equal)} settings that every candidate shares", table(("Setting", "Value"), equal)),
        details("The comparison's settings", preformatted(printed_yaml(comparison.spec))),
        anchor="equal",
    )


def _runs(comparison: Comparison) -> str:
    rows = []
    for found in comparison.results:
        for run, outcome in found.runs:
            if outcome.failed is not None:
                rows.append((found.name, run.fold, run.seed, *[""] * (len(METRICS) + 3), f"failed: {outcome.failed}"))
                continue
            values = [f"{outcome.metrics[name]:.4f}" for name in METRICS]
            spent = (f"{outcome.steps:,}", f"{outcome.images:,}", f"{outcome.seconds:.1f}")
            rows.append((found.name, run.fold, run.seed, *values, *spent, outcome.remark or ""))
    columns = ("Candidate", "Fold", "Seed", *map(display_name, METRICS), "Steps", "Images", "Seconds", "Remark")
    listed = table(columns, rows, numbers=range(1, len(columns) - 1))
    return section("Runs", details(f"All {len(rows)} runs", listed), anchor="runs")
