"""Tables of a survey: means, missing values, the best encoder, and the files made of them."""

from __future__ import annotations

import csv
import io
from statistics import mean, stdev

import pytest

from anoframe.report.grid_table import Failure
from anoframe.report.survey_export import survey_csv, survey_json, survey_markdown
from anoframe.report.survey_page import survey_page
from anoframe.report.survey_table import FACTS, MEAN, EncoderRow, Value, build_survey

FIGURES = {  # encoder -> category -> seed -> image AUROC
    "random": {"felt": {0: 0.5, 1: 0.6}, "mesh": {0: 0.7, 1: 0.9}},
    "own": {"felt": {0: 0.8, 1: 0.7}, "mesh": {0: 0.6}},
    "natural": {"felt": {0: 1.0, 1: 1.0}},
}


def encoder(name, note=""):
    return EncoderRow(name, {key: f"{key} of {name}" for key in FACTS}, note)


@pytest.fixture
def table():
    values = [
        Value(name, "padim", category, "image_auroc", seed, value)
        for name, categories in FIGURES.items()
        for category, seeds in categories.items()
        for seed, value in seeds.items()
    ]
    values += [Value(name, "cifar", "knn", "top1", 0, 0.25) for name in ("random", "own")]
    encoders = [*map(encoder, FIGURES), encoder("absent", "not evaluated: no weights")]
    kinds = {"cifar": "classification", "padim": "detection"}
    return build_survey(encoders, kinds, values, (0, 1), [Failure("cell", "no <space>")], ["other data"])


def column(table, title):
    (match,) = [column for column in table.columns if column.title == title]
    return match


def test_overview_has_a_column_per_probe_and_per_metric_of_a_detector(table):
    assert [column.title for column in table.columns] == ["cifar knn, Top-1", "padim, Image AUROC"]


def test_mean_and_deviation_are_over_the_means_of_each_seed(table):
    figure = column(table, "padim, Image AUROC").figure("random")
    means = [mean([0.5, 0.7]), mean([0.6, 0.9])]
    assert figure.mean == pytest.approx(mean(means))
    assert figure.std == pytest.approx(stdev(means))
    assert figure.interval == pytest.approx((min(means), max(means)))


def test_a_mean_needs_every_category_of_a_seed(table):
    overview = column(table, "padim, Image AUROC")
    assert overview.figure("own").values == {0: pytest.approx(0.7)}
    assert overview.figure("natural") is None
    assert "70.00 (1 of 2 seeds)" in survey_markdown(table)


def test_every_encoder_has_a_row_in_every_section(table):
    for section in table.sections:
        for label in section.labels:
            assert [row.encoder for row in section.rows if row.label == label] == [*FIGURES, "absent"]
    assert table.sections[1].labels == ("felt", "mesh", MEAN)


def test_the_best_encoder_is_marked_unless_all_are_equal_or_one_is_missing(table):
    padim = table.sections[1]
    assert padim.best("felt", "image_auroc") == pytest.approx(1.0)
    assert padim.best("mesh", "image_auroc") is None  # natural lacks it, and has felt
    assert not any(column(table, "padim, Image AUROC").is_best(name) for name in FIGURES)
    assert not column(table, "cifar knn, Top-1").is_best("own")
    assert "**100.00 ± 0.00 [100.00, 100.00]**" in survey_markdown(table)


def test_a_single_category_has_no_mean():
    values = [Value("a", "padim", "felt", "aupro", seed, 0.5) for seed in (0, 1)]
    (section,) = build_survey([encoder("a")], {"padim": "detection"}, values, (0, 1)).sections
    assert section.labels == ("felt",)


def test_markdown_states_training_notes_and_failures(table):
    text = survey_markdown(table)
    for words in ("epochs of own", "images of own", "absent: not evaluated: no weights", "Failed: cell", "other data"):
        assert words in text
    rows = [line for line in text.splitlines() if line.startswith("| absent |")]
    assert rows[0].count("n/a") == 2


def test_csv_has_full_precision(table):
    rows = list(csv.DictReader(io.StringIO(survey_csv(table))))
    (row,) = [r for r in rows if (r["encoder"], r["category"], r["evaluation"]) == ("random", "felt", "padim")]
    assert (float(row["mean"]), float(row["std"]), row["seeds"]) == (0.55, stdev([0.5, 0.6]), "2")
    assert (row["epochs"], row["kind"]) == ("epochs of random", "detection")


def test_json_has_the_value_of_every_seed(table):
    tree = survey_json(table, {"seeds": [0, 1]})
    (row,) = [r for r in tree["evaluations"]["padim"]["rows"] if (r["encoder"], r["category"]) == ("own", "felt")]
    assert row["metrics"]["image_auroc"]["seeds"] == {"0": 0.8, "1": 0.7}
    assert tree["encoders"]["absent"]["note"] == "not evaluated: no weights"
    assert tree["config"] == {"seeds": [0, 1]}


def test_page_escapes_and_shows_everything(table):
    page = survey_page(table)
    assert "no &lt;space&gt;" in page
    assert page.count('class="dot-plot"') == 2
    for words in ("Survey of 4 encoders", "absent: not evaluated", "other data", "images of natural", "1 of 2 seeds"):
        assert words in page


def test_a_survey_without_any_result_is_a_page_too():
    table = build_survey([encoder("a")], {"padim": "detection"}, [], (0,), [Failure("x", "y")])
    assert table.columns == []
    assert "Failed: x: y" in survey_markdown(table)
    assert "Survey of 1 encoder" in survey_page(table)
