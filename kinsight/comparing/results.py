"""From the outcomes of all runs to what can be said of the candidates."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kinsight import __version__
from kinsight.comparing.candidates import MAY_DIFFER, SET_BY_PROTOCOL, Candidate, Protocol, flattened
from kinsight.comparing.folds import Fold
from kinsight.comparing.runs import METRICS, Outcome, Run, as_row
from kinsight.comparing.statistics import Mean, Paired, corrected_test, holm, mean_interval
from kinsight.comparing.tuning import Trial
from kinsight.evaluation.settings import printed_tree
from kinsight.specs.compare import CompareSpec

FORMAT, VERSION = "kinsight-comparison", 1
BEST, SAME, WORSE, UNKNOWN = (
    "best", "not significantly different from the best", "significantly worse than the best", "too few runs to tell",
)  # fmt: skip


@dataclass
class Result:
    """What is known of one candidate.

    runs: of every fold and seed, failed ones too. trials: of its tuning; chosen: the one whose values its runs have.
    tests: of each seed, as `FinalTest.measure` gives them. means: by metric, None without a finished run. against: the
    best, paired. verdict: in words.
    """

    candidate: Candidate
    runs: list[tuple[Run, Outcome]] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    chosen: Trial | None = None
    tests: list[dict[str, Any]] = field(default_factory=list)
    means: dict[str, Mean | None] = field(default_factory=dict)
    against: Paired | None = None
    verdict: str = UNKNOWN

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name

    @property
    def done(self) -> list[tuple[Run, Outcome]]:
        """The runs that came to their end."""
        return [(run, outcome) for run, outcome in self.runs if outcome.failed is None]

    def values(self, metric: str) -> dict[tuple[int, int], float]:
        """A metric by fold and seed."""
        return {(run.fold, run.seed): outcome.metrics[metric] for run, outcome in self.done}

    def test_mean(self, metric: str, kind: str, alpha: float) -> Mean | None:
        """On the test images; kind: separate (over models) or concatenated (over seeds)."""
        if kind == "separate":
            return mean_interval([one[metric] for test in self.tests for one in test["separate"]], alpha=alpha)
        return mean_interval([test["concatenated"][metric] for test in self.tests], alpha=alpha)


@dataclass
class Comparison:
    """All there is to say. folds: of the first seed; the others' hold other classes. results: best first.

    made_of: whose losses, miners and samplers these are, where they are others than ours. test_remark: what is odd
    about the test images.
    """

    spec: CompareSpec
    protocol: Protocol
    folds: list[Fold]
    results: list[Result]
    made_of: str | None = None
    test_remark: str | None = None

    @property
    def failed(self) -> list[tuple[Run, Outcome]]:
        """Runs that failed."""
        return [(run, outcome) for result in self.results for run, outcome in result.runs if outcome.failed]

    @property
    def remarks(self) -> list[str]:
        """What stands against believing the numbers."""
        odd = [
            f"{run.name} {outcome.remark}" for found in self.results for run, outcome in found.done if outcome.remark
        ]
        if self.test_remark is not None:
            odd.append(f"test: {self.test_remark}")
        places = self.conditions
        if len(places) > 1:
            odd.append(f"runs were carried out under {len(places)} different conditions (threads, device, versions)")
        return odd

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """What the runs were carried out on, each once."""
        found = [one for result in self.results for _, outcome in result.done for one in outcome.conditions]
        return [one for place, one in enumerate(found) if one not in found[:place]]


def conclude(spec: CompareSpec, protocol: Protocol, folds: list[Fold], results: list[Result]) -> Comparison:
    """Means, ranks and tests filled in. A candidate with failed runs stands behind those without."""
    for result in results:
        result.means = {name: mean_interval(list(result.values(name).values()), alpha=spec.alpha) for name in METRICS}

    def rank(result: Result) -> tuple[int, float]:
        mean = result.means[spec.metric]
        return len(result.done), mean.mean if mean is not None else 0.0

    ordered = sorted(results, key=rank, reverse=True)
    _test_against(ordered[0], ordered[1:], spec)
    return Comparison(spec, protocol, folds, ordered)


def _test_against(best: Result, others: list[Result], spec: CompareSpec) -> None:
    """Paired over fold and seed; corrected for shared training images, and for the number of candidates."""
    if not best.done:
        return
    best.verdict, top = BEST, best.values(spec.metric)
    found = {}
    for other in others:
        values = other.values(spec.metric)
        shared = [key for key in top if key in values]
        differences = [values[key] - top[key] for key in shared]
        if (paired := corrected_test(differences, folds=spec.folds.number, alpha=spec.alpha)) is not None:
            found[other.name] = paired
    adjusted = holm({name: paired.p for name, paired in found.items()})
    for other in others:
        if other.name in found:
            other.against = replace(found[other.name], adjusted=adjusted[other.name])
            worse = adjusted[other.name] < spec.alpha and found[other.name].difference < 0
            other.verdict = WORSE if worse else SAME


def held_equal(comparison: Comparison) -> dict[str, Any]:
    """Settings that were the same for all, by dotted name."""
    differing = {path for found in comparison.results for path, _, _ in found.candidate.differs}
    differing |= {path for found in comparison.results for path in found.candidate.ranges}
    skipped = (*MAY_DIFFER, *SET_BY_PROTOCOL)
    flat = flattened(printed_tree(comparison.protocol.base))
    return {
        name: value
        for name, value in flat.items()
        if name not in differing and not any(f"{name}.".startswith(f"{other}.") for other in skipped)
    }


def as_json(comparison: Comparison) -> dict[str, Any]:
    """What compare.json holds."""
    spec, protocol = comparison.spec, comparison.protocol
    return {
        "format": FORMAT,
        "version": VERSION,
        "kinsight": __version__,
        "made_of": comparison.made_of,
        "metric": spec.metric,
        "budget": {protocol.budget[0]: protocol.budget[1]},
        "model": spec.keep,
        "alpha": spec.alpha,
        "folds": [{"classes": fold.classes, "images": fold.images} for fold in comparison.folds],
        "seeds": spec.seed_list(),
        "trials": spec.trials,
        "conditions": comparison.conditions,
        "remarks": comparison.remarks,
        "held_equal": held_equal(comparison),
        "ignored_settings_of_base": list(protocol.ignored),
        "best": comparison.results[0].name if comparison.results[0].done else None,
        "candidates": {result.name: _result(result, spec) for result in comparison.results},
        "spec": printed_tree(spec),
    }


def _result(result: Result, spec: CompareSpec) -> dict[str, Any]:
    tested = {
        kind: {name: _plain(result.test_mean(name, kind, spec.alpha)) for name in METRICS}
        for kind in ("separate", "concatenated")
    }
    return {
        "verdict": result.verdict,
        "means": {name: _plain(mean) for name, mean in result.means.items()},
        "against_best": _plain(result.against),
        "tuned": result.chosen.values if result.chosen is not None else None,
        "trials": [{"number": one.number, "values": one.values, "score": one.score} for one in result.trials],
        "differs": [{"setting": path, "base": old, "here": new} for path, old, new in result.candidate.differs],
        "test": tested if result.tests else None,
        "runs": [as_row(run, outcome) for run, outcome in result.runs],
    }


def _plain(value: Mean | Paired | None) -> dict[str, Any] | None:
    return asdict(value) if value is not None else None
