"""The comparison as a table in a terminal, and its numbers as words."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kinsight.comparing.results import BEST, SAME, Comparison, Result
from kinsight.comparing.runs import METRICS
from kinsight.comparing.statistics import Mean
from kinsight.reports.words import display_name

_NARROW = 100  # columns of a table that is not shown on a terminal


def print_table(comparison: Comparison) -> None:
    """On standard output: a row per candidate, best first, then what must be known to read it."""
    spec = comparison.spec
    names = [spec.metric, *(name for name in METRICS if name != spec.metric)]
    columns = [*map(display_name, names), "to the best", "p (Holm)"]
    table = _table(f"{budget_words(comparison)} a run, {design_words(comparison)}", columns)
    table.caption = caption(comparison)
    for result in comparison.results:
        cells = [around(result.means[name]) for name in names]
        table.add_row(result.name, *cells, difference(result), p_value(result))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, _NARROW))
    console.print(table)
    if any(result.tests for result in comparison.results):
        console.print(_test_table(comparison))
    for line in conclusions(comparison):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("candidate", overflow="fold", min_width=9, max_width=28)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _test_table(comparison: Comparison) -> Table:
    """On the test images."""
    kinds = ("separate", "concatenated")
    names = (comparison.spec.metric, "recall@1")
    pairs = [(kind, name) for kind in kinds for name in dict.fromkeys(names)]
    words = {"separate": "one model", "concatenated": "all folds"}
    table = _table("test images", [f"{display_name(name)},\n{words[kind]}" for kind, name in pairs])
    for result in comparison.results:
        found = [result.test_mean(name, kind, comparison.spec.alpha) for kind, name in pairs]
        table.add_row(result.name, *map(around, found))
    return table


def around(mean: Mean | None) -> str:
    """`0.512 ± 0.014`."""
    if mean is None:
        return "-"
    if mean.high is None:
        return f"{mean.mean:.3f}"
    return f"{mean.mean:.3f} ± {mean.high - mean.mean:.3f}"


def budget_words(comparison: Comparison) -> str:
    """`120 seconds`."""
    name, number = comparison.protocol.budget
    return f"{number:,g} {name if number != 1 else name[:-1]}"


def design_words(comparison: Comparison) -> str:
    """`3 folds x 2 seeds, not tuned`."""
    spec = comparison.spec
    seeds = len(spec.seed_list())
    tuned = f"{spec.trials} trials of tuning each" if spec.trials else "not tuned"
    return f"{spec.folds.number} folds x {seeds} seed{'s' * (seeds != 1)}, {tuned}"


def caption(comparison: Comparison) -> str:
    """How to read the numbers."""
    sure = f"{100 * (1 - comparison.spec.alpha):g} %"
    return (
        f"on classes held out; {sure} intervals over runs; differences are paired by fold and seed, corrected for "
        "shared training images (Nadeau-Bengio) and for the number of candidates (Holm)"
    )


def conclusions(comparison: Comparison) -> list[str]:
    """Plain sentences: who is best, who is as good, what failed, what is odd."""
    best, *others = comparison.results
    if not best.done:
        lines = ["No run came to its end."]
    else:
        alike = [other.name for other in others if other.against is not None and other.verdict == SAME]
        lines = [f"{best.name} has the highest mean."]
        if alike:
            lines.append(f"Not significantly different from it: {', '.join(alike)}.")
        elif all(other.against is not None for other in others):
            lines.append("All others are significantly worse.")
        if vague := [other.name for other in others if other.against is None]:
            lines.append(f"Too few runs to tell: {', '.join(vague)}.")
    lines += [f"failed: {run.name}: {outcome.failed}" for run, outcome in comparison.failed]
    return lines + [f"note: {remark}" for remark in comparison.remarks]


def difference(result: Result) -> str:
    """`-0.021 ± 0.009`."""
    if result.verdict == BEST:
        return "best"
    paired = result.against
    return f"{paired.difference:+.3f} ± {(paired.high - paired.low) / 2:.3f}" if paired is not None else "-"


def p_value(result: Result) -> str:
    """Adjusted, with a word where nothing can be concluded."""
    if result.against is None:
        return ""
    p = result.against.adjusted
    text = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"{text}, not sig." if result.verdict == SAME else text
