"""Charts: counts on the right side of the threshold, lines at the right positions, and no invalid numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anoframe.report.category_record import Category, Scored
from anoframe.report.charts import Line, Series, curve_chart, nice_ticks, score_chart, series_chart

# ------------------------------------------------------------------------------------------------ scores


def category(good, defects, threshold):
    images = [Scored(f"good/{i}", "good", score) for i, score in enumerate(good)]
    images += [Scored(f"cut/{i}", "cut", score) for i, score in enumerate(defects)]
    return Category("felt", images=images, threshold=None if threshold is None else {"image": threshold})


def count_images(chart, wrong):
    """Number of images of the bars with wrong, or right, decisions."""
    titles = re.findall(r"<title>(\d+) (?:good|defect), ([^<]*)</title>", chart)
    return sum(int(count) for count, text in titles if ("wrong decision" in text) is wrong)


@pytest.mark.parametrize("seed", range(20))
def test_bars_count_wrong_decisions_exactly(seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-6, 6)
    good, defects = (rng.normal(mean, 1, 200) * scale for mean in (0, 2))
    threshold = float(good[0])  # a score equal to the threshold is a defect
    chart = score_chart(category(good.tolist(), defects.tolist(), threshold))
    wrong = int((good >= threshold).sum() + (defects < threshold).sum())
    assert (count_images(chart, True), count_images(chart, False)) == (wrong, 400 - wrong)


@pytest.mark.parametrize("threshold", [None, 5.0, -100.0, 100.0])
def test_extreme_scores_give_no_invalid_numbers(threshold):
    for good, defects in (([5.0], [5.0]), ([1.0, 2.0], []), ([], [0.0]), ([-1e30, 1e30], [float("inf"), float("nan")])):
        chart = score_chart(category(good, defects, threshold))
        assert "nan" not in chart
        assert "inf" not in chart


def test_each_defect_type_has_a_row_of_dots():
    chart = score_chart(category([1.0, 2.0], [3.0], 2.5))
    assert [row for row in re.findall(r'title="(\w+)"', chart)] == ["good", "cut"]
    assert chart.count("h0") == 3


def test_without_scores_there_is_no_chart():
    assert score_chart(Category("felt")) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (1e-9, 2e-9), (299.9, 300.1), (1e12, 3e12)])
def test_ticks_are_few_and_inside_the_range(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 6
    assert low <= min(ticks) <= max(ticks) <= high


# ------------------------------------------------------------------------------------------------ curves


def test_curve_is_interpolated_to_the_limit():
    line = Line("AUPRO", "pixel", {"x": [0.0, 0.1, 0.5, 1.0], "y": [0.0, 0.5, 0.9, 1.0]}, "50.00")
    chart = curve_chart("PRO", ("fpr", "overlap"), [line], limit=0.3)
    end = re.search(r'class="line pixel" d="[^"]*L([\d.]+) ([\d.]+)"', chart)
    assert (float(end[1]), float(end[2])) == (286.0, pytest.approx(8 + 240 * 0.3))


def test_curve_chart_describes_its_values_for_screen_readers():
    line = Line("AUROC", "image", {"x": [0.0, 1.0], "y": [0.0, 1.0]}, "50.00")
    assert 'aria-label="ROC: AUROC 50.00"' in curve_chart("ROC", ("fpr", "tpr"), [line])


def test_without_available_curves_there_is_no_chart():
    assert curve_chart("ROC", ("fpr", "tpr"), [Line("AUROC", "image", None, "n/a")]) == ""


# ------------------------------------------------------------------------------------------------ values over epochs


def heights(chart, style):
    """Distances of the points of a line from the top, in the order of the epochs."""
    path = re.search(rf'class="line s{style}" d="M([^"]*)"', chart)[1]
    return [float(point.split()[1]) for point in path.split("L")]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_larger_values_are_drawn_higher(seed, spread):
    values = np.exp(np.random.default_rng(seed).normal(0, spread, 50))
    drawn = heights(series_chart("loss", [Series("mse", list(enumerate(values.tolist(), 1)))]), 0)
    assert np.all(np.diff(np.array(drawn)[np.argsort(values)]) <= 0)
    assert 8 <= min(drawn) < max(drawn) <= 178


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [([1.0, 0.0099], True), ([1.0, 0.01], False), ([1.0, 0.0], False), ([1.0, -0.001], False)],
)
def test_more_than_two_decades_are_logarithmic(values, logarithmic):
    chart = series_chart("loss", [Series("mse", list(enumerate(values, 1)))])
    assert ("logarithmic scale" in chart) is logarithmic


def test_equal_ratios_have_equal_distances_on_a_logarithmic_scale():
    drawn = heights(series_chart("loss", [Series("mse", [(1, 1.0), (2, 0.1), (3, 0.01), (4, 0.001)])]), 0)
    assert np.diff(drawn) == pytest.approx([np.diff(drawn).mean()] * 3, abs=0.11)


@pytest.mark.parametrize(
    "points", [[(1, 0.0)], [(7, -3.0), (8, -3.0)], [(1, 1e-30), (2, 1e30)], [(1, -1e30), (9, 1e30)]]
)
@pytest.mark.parametrize("shares", [False, True])
def test_extreme_values_give_no_invalid_numbers(points, shares):
    if shares:
        points = [(epoch, float(np.clip(value, 0, 1))) for epoch, value in points]
    chart = series_chart("loss", [Series("mse", points)], shares)
    assert not re.search(r"\b(nan|inf)\b", chart)


def test_tooltip_of_an_epoch_has_its_values_and_note():
    series = [Series("mse", [(1, 0.5), (2, 0.25)]), Series("late", [(2, 3.0)])]
    chart = series_chart("loss", series, notes={2: "lr 0.1"})
    assert re.findall("<title>([^<]*)</title>", chart) == ["epoch 1: mse 0.5", "epoch 2: mse 0.25, late 3, lr 0.1"]


def test_long_training_has_all_points_and_a_limited_number_of_tooltips():
    chart = series_chart("loss", [Series("mse", [(epoch, 1 / epoch) for epoch in range(1, 1001)])])
    assert (len(heights(chart, 0)), chart.count("<title>")) == (1000, 200)


def test_ticks_of_epochs_are_whole_numbers():
    chart = series_chart("loss", [Series("mse", [(1, 1.0), (2, 2.0)])])
    assert re.findall(r'y="194" text-anchor="middle">([^<]*)<', chart) == ["1", "2"]


def test_without_values_there_is_no_series_chart():
    assert series_chart("loss", [Series("mse", [])]) == ""


def test_chart_over_tasks_names_tasks():
    chart = series_chart("ACC", [Series("AUROC", [(0, 0.9), (1, 0.8)])], shares=True, x_label="task")
    assert 'aria-label="ACC over tasks 0 to 1, at the end: AUROC 80.00"' in chart
    assert "<title>task 1: AUROC 80.00</title>" in chart
    assert ">task</text>" in chart


def test_x_may_be_a_fraction():
    chart = series_chart("loss", [Series("mse", [(0.5, 1.0), (12345.0, 2.0)])], x_label="step")
    assert 'aria-label="loss over steps 0.5 to 12345, at the end: mse 2"' in chart


def test_heights_from_zero_are_in_proportion():
    chart = series_chart("parameters", [Series("all", [(0, 10.0), (1, 20.0), (2, 40.0)])], from_zero=True)
    tops = [8 + 170 - height for height in heights(chart, 0)]
    assert tops[2] / tops[0] == pytest.approx(4, rel=0.01)


def test_text_is_escaped():
    nasty = '<b>"&'
    charts = [
        series_chart(nasty, [Series(nasty, [(1, 1.0)])], notes={1: nasty}, x_label=nasty),
        curve_chart(nasty, (nasty, nasty), [Line(nasty, "image", {"x": [0.0], "y": [0.0]}, "1")], point=(0.0, 0.0)),
        score_chart(Category("felt", images=[Scored("x", nasty, 1.0)])),
    ]
    assert all("<b>&" not in chart and nasty not in chart and "&lt;b&gt;" in chart for chart in charts)
