"""Drawings: bars and dots on the right side of the threshold, lines where their points are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anoframe.report.charts import Line, curve_chart, nice_ticks, score_chart
from anoframe.report.folder import Category, Scored


def category(good, defects, threshold):
    images = [Scored(f"good/{i}", "good", score) for i, score in enumerate(good)]
    images += [Scored(f"cut/{i}", "cut", score) for i, score in enumerate(defects)]
    return Category("felt", images=images, threshold=None if threshold is None else {"image": threshold})


def drawn(chart, wrong):
    """How many images the bars stand for."""
    titles = re.findall(r"<title>(\d+) (?:good|defect), ([^<]*)</title>", chart)
    return sum(int(count) for count, rest in titles if ("wrongly" in rest) is wrong)


@pytest.mark.parametrize("seed", range(20))
def test_bars_count_the_wrong_decisions_exactly(seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 6)
    good, defects = (rng.normal(mean, 1, 200) * scale for mean in (0, 2))
    threshold = float(good[0])  # a score on the threshold is a defect
    chart = score_chart(category(good.tolist(), defects.tolist(), threshold))
    wrong = int((good >= threshold).sum() + (defects < threshold).sum())
    assert (drawn(chart, True), drawn(chart, False)) == (wrong, 400 - wrong)


@pytest.mark.parametrize("threshold", [None, 5.0, -100.0, 100.0])
def test_any_scores_can_be_drawn(threshold):
    for good, defects in (([5.0], [5.0]), ([1.0, 2.0], []), ([], [0.0]), ([-1e30, 1e30], [float("inf"), float("nan")])):
        chart = score_chart(category(good, defects, threshold))
        assert "nan" not in chart
        assert "inf" not in chart


def test_a_row_of_dots_a_defect_type():
    chart = score_chart(category([1.0, 2.0], [3.0], 2.5))
    assert [row for row in re.findall(r'title="(\w+)"', chart)] == ["good", "cut"]
    assert chart.count("h0") == 3


def test_without_scores_there_is_no_chart():
    assert score_chart(Category("felt")) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (1e-9, 2e-9), (299.9, 300.1), (1e12, 3e12)])
def test_ticks_are_few_and_inside(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 6
    assert low <= min(ticks) <= max(ticks) <= high


def test_a_curve_goes_straight_to_the_limit():
    line = Line("AUPRO", "pixel", {"x": [0.0, 0.1, 0.5, 1.0], "y": [0.0, 0.5, 0.9, 1.0]}, "50.00")
    chart = curve_chart("PRO", ("fpr", "overlap"), [line], limit=0.3)
    end = re.search(r'class="line pixel" d="[^"]*L([\d.]+) ([\d.]+)"', chart)
    assert (float(end[1]), float(end[2])) == (286.0, pytest.approx(8 + 240 * 0.3))


def test_a_chart_says_its_values_to_those_who_cannot_see_it():
    line = Line("AUROC", "image", {"x": [0.0, 1.0], "y": [0.0, 1.0]}, "50.00")
    assert 'aria-label="ROC: AUROC 50.00"' in curve_chart("ROC", ("fpr", "tpr"), [line])


def test_lines_that_are_not_there_are_not_drawn():
    assert curve_chart("ROC", ("fpr", "tpr"), [Line("AUROC", "image", None, "n/a")]) == ""
