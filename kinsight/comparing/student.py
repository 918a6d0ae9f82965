"""Student's t distribution: tail probabilities and quantiles, from the incomplete beta function."""

import math

_TINY = 1e-300


def two_sided_p(t: float, df: float) -> float:
    """Chance of a |t| at least this large with `df` degrees of freedom."""
    if math.isinf(t):
        return 0.0
    return _beta_share(df / 2, 0.5, df / (df + t * t))


def quantile(coverage: float, df: float) -> float:
    """The t within whose bounds, -t to t, the share `coverage` lies; 0 < coverage < 1."""
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - coverage:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - coverage else (low, middle)
    return (low + high) / 2


def _beta_share(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b). Abramowitz & Stegun 26.5.8, 26.5.2."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction, by Lentz's method."""
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for part in (even, odd):
            d = 1 / _off_zero(1 + part * d)
            c = _off_zero(1 + part / c)
            total *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return total


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
