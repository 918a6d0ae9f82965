"""Charts: scales, ticks, thinning, and what they tell on hover."""

import json
import re

import numpy as np
import pytest

from kinsight.reports.axes import across, decade_ticks, number, ticks, upwards
from kinsight.reports.charts import MOST_POINTS, Line, Mark, line_chart
from kinsight.reports.evaluated import Trained
from kinsight.reports.training_section import training_section
from kinsight.reports.words import in_sentence


def line(y: list[float], name: str = "y") -> Line:
    return Line(name, np.arange(1.0, len(y) + 1), np.array(y, np.float64))


def points(html: str) -> list[tuple[float, list[str]]]:
    found = re.search(r'<script type="application/json" id="c">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (1e-9, 3e-9), (0, 123456), (-1, -0.99)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * abs(high - low) <= value <= high + 1e-9 * abs(high - low) for value in found)
    assert np.allclose(np.diff(found), np.diff(found)[0])
    mantissa = np.diff(found)[0] / 10 ** np.floor(np.log10(np.diff(found)[0]) + 1e-9)
    assert min(abs(mantissa - step) for step in (1, 2, 2.5, 5)) < 1e-6


def test_scales_map_ends_to_ends() -> None:
    scale = across(0.001, 1, decades=True)
    assert scale.place(0.001) == scale.start and scale.place(1) == scale.stop
    assert scale.place(0.0316227766) == pytest.approx((scale.start + scale.stop) / 2, abs=0.01)
    assert scale.place(7) == scale.stop, "outside is drawn at the edge"
    assert decade_ticks(0.002, 1) == pytest.approx([0.01, 0.1, 1])
    flat = upwards([np.array([3.0, 3.0])])
    assert flat.low < 3 < flat.high
    assert upwards([np.array([0.2, 0.9])], from_zero=True).low == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (1e-5, "1e-5"),
        (2500, "2,500"),
        (1.5e-4, "1.5e-4"),
        (-2.5e6, "-2.5e6"),
        (0.30000000000000004, "0.3"),
    ],
)
def test_numbers_on_axes(value: float, shown: str) -> None:
    assert number(value) == shown


def test_hover_tells_the_values() -> None:
    html = line_chart("c", "t<b>", [line([1.0, 2.0, 4.0]), line([3.0, 2.0, 1.0], "z<i>")], x_label="step")
    told = points(html)
    assert [lines for _, lines in told] == [
        ["step 1", "y 1", "z<i> 3"], ["step 2", "y 2", "z<i> 2"], ["step 3", "y 4", "z<i> 1"],
    ]  # fmt: skip
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    assert "<b>t&lt;b&gt;" in html and "<i>" not in html


def test_histograms_tell_ranges() -> None:
    edges = Line("same", np.array([0.0, 0.5, 1.0]), np.array([0.25, 0.75, 0.0]))
    html = line_chart("c", "t", [edges], x_label="s", share=True, steps=True, marks=[Mark(0.7, "limit")])
    assert [lines for _, lines in points(html)] == [["s 0 to 0.5", "same 25 %"], ["s 0.5 to 1", "same 75 %"]]
    assert "limit" in html


def test_long_lines_keep_their_shape_and_end() -> None:
    y = np.sin(np.arange(50_000) / 5000)
    html = line_chart("c", "t", [line(y.tolist())], x_label="step")
    told = points(html)
    assert len(told) == MOST_POINTS and told[-1][1][0] == "step 50,000"
    assert len(html) < 60_000


def test_what_was_validated_is_named_once() -> None:
    rows = [{"kind": "validation", "step": step, "mean_average_precision": step / 100} for step in (20, 49)]
    drawn = training_section(Trained(rows, judged="mean_average_precision"))
    assert "<b>Validation: mean average precision</b>" in drawn and "by mean average precision 0.49" in drawn
    assert in_sentence("MAP@R") == "MAP@R" and in_sentence("R-precision") == "R-precision"


def test_nothing_to_draw() -> None:
    html = line_chart("c", "t", [line([])], x_label="step", empty="no <values>")
    assert "no &lt;values&gt;" in html and "<svg" not in html


def test_one_value_is_a_dot() -> None:
    assert "<circle" in line_chart("c", "t", [line([1.5])], x_label="step")
