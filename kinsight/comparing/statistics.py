"""What repeated runs say about candidates: intervals, paired tests, corrections."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinsight.comparing.student import quantile, two_sided_p


@dataclass(frozen=True)
class Mean:
    """mean of `runs` values; low, high: bounds, None for fewer than two values; deviation: between the values."""

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    runs: int


@dataclass(frozen=True)
class Paired:
    """difference: mean over pairs of (other - best), with bounds; p: chance of one as large without any true one;
    adjusted: p corrected for the number of comparisons.
    """

    difference: float
    low: float
    high: float
    p: float
    pairs: int
    adjusted: float = math.nan


def mean_interval(values: Sequence[float], *, alpha: float) -> Mean | None:
    """Mean and Student's t interval over runs, taken as independent; None for none.

    It says how far the mean would move with other seeds, and hardly how far with other classes: runs of a
    cross-validation share training images. Whether candidates differ is `corrected_test`'s to say.
    """
    if not values:
        return None
    mean, runs = statistics.fmean(values), len(values)
    if runs < 2:
        return Mean(mean, None, None, None, runs)
    deviation = statistics.stdev(values)
    reach = quantile(1 - alpha, runs - 1) * deviation / math.sqrt(runs)
    return Mean(mean, mean - reach, mean + reach, deviation, runs)


def corrected_test(differences: Sequence[float], *, folds: int, alpha: float) -> Paired | None:
    """The corrected resampled t-test on paired differences of a cross-validation; None for fewer than two.

    differences: one for each fold and seed. The variance of their mean is s^2 (1/n + n_test/n_train), with n - 1
    degrees of freedom: training sets overlap, so that runs are not independent, and the plain test finds differences
    where there are none. n_test/n_train is 1/(folds - 1). Nadeau & Bengio 2003, Inference for the Generalization Error;
    for repeated cross-validation Bouckaert & Frank 2004.
    """
    pairs = len(differences)
    if pairs < 2:
        return None
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    error = deviation * math.sqrt(1 / pairs + 1 / (folds - 1))
    if error == 0:
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, pairs)
    reach = quantile(1 - alpha, pairs - 1) * error
    return Paired(mean, mean - reach, mean + reach, two_sided_p(mean / error, pairs - 1), pairs)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for their number, such that the chance of any false finding stays below the level.

    Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return adjusted
