"""Tables of a grid: rows, separate tables, means, deviations, intervals, and the files and page made of them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest

from anoframe.continual.results import stream_results
from anoframe.metrics.auroc import auroc
from anoframe.report.compare import read_finished
from anoframe.report.dot_plot import Axis, round_ticks
from anoframe.report.grid_export import csv_text, grid_json, markdown
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import IMAGES, SEEDS, Failure, Figure, describe_missing, summarise
from anoframe.utils.files import write_json


@pytest.fixture
def run_like(full_run, change, tmp_path):
    """Copy and read the finished run: `run_like(name, seed, only=None, config=None, edit=None, **metrics of felt)`."""

    def make(name, seed=0, only=None, config=None, edit=None, **metrics):
        folder = Path(shutil.copytree(full_run, tmp_path / name / (only or "all") / str(seed)))

        def apply(tree):
            tree["provenance"]["seed"] = seed
            tree["categories"]["felt"].update(metrics)
            for category in [c for c in tree["categories"] if only and c != only]:
                del tree["categories"][category], tree["provenance"]["counts"][category]
                (folder / f"results/{category}.json").unlink()
            if edit:
                edit(tree)

        change(folder / "metrics.json", apply)
        text = re.sub(r"(?m)^seed: .*", f"seed: {seed}", (folder / "config.yaml").read_text())
        text = text.replace("config_name: tiny", f"config_name: {name}")
        (folder / "config.yaml").write_text(re.sub(*config, text) if config else text)
        return read_finished(folder)

    return make


def find_row(summary, category, config="a"):
    (table,) = summary.tables
    (match,) = [row for row in table.rows if (row.category, row.config) == (category, config)]
    return match


def test_seeds_share_a_row_with_mean_and_sample_deviation(run_like):
    values = {0: 0.9, 1: 0.8, 5: 0.95}
    summary = summarise([run_like("a", seed, aupro=value) for seed, value in values.items()], (0, 1, 5))
    figure = find_row(summary, "felt").figures["aupro"]
    assert figure.values == values
    assert figure.mean == pytest.approx(mean(values.values()))
    assert figure.std == pytest.approx(stdev(values.values()))


def test_single_seed_has_no_deviation_and_no_interval_over_seeds(run_like):
    figure = find_row(summarise([run_like("a", aupro=0.9)], (0,)), "felt").figures["aupro"]
    assert (figure.std, figure.interval, figure.drawn) == (None, None, None)


def test_interval_of_a_pixel_metric_lies_within_its_seeds(run_like):
    runs = [run_like("a", seed, aupro=value) for seed, value in enumerate([0.9, 0.8, 0.95])]
    figure = find_row(summarise(runs, (0, 1, 2)), "felt").figures["aupro"]
    assert figure.drawn == SEEDS
    assert 0.8 <= figure.interval[0] < figure.mean < figure.interval[1] <= 0.95


def test_interval_of_an_image_metric_resamples_the_test_images(run_like):
    run = run_like("a")
    figure = find_row(summarise([run], (0,)), "felt").figures["image_auroc"]
    (felt,) = [category for category in run.categories if category.name == "felt"]
    good, defects = (np.array([i.score for i in felt.images if i.is_defect is side]) for side in (False, True))
    rng, values = np.random.default_rng(0), []
    for _ in range(2000):
        drawn = [*rng.choice(good, len(good)), *rng.choice(defects, len(defects))]
        values.append(auroc([0] * len(good) + [1] * len(defects), drawn))
    assert figure.drawn == IMAGES
    assert figure.interval == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.05)


def test_test_images_of_each_category_are_drawn_independently(run_like):
    folder = run_like("a").folder
    shutil.copy(folder / "results/felt.json", folder / "results/mesh.json")
    summary = summarise([read_finished(folder)], (0,))
    widths = [np.ptp(find_row(summary, name).figures["image_auroc"].interval) for name in ("felt", "mesh", None)]
    assert 0 < widths[2] < 0.9 * min(widths[:2]), "the mean of two independent values varies less than each"


def test_row_does_not_depend_on_other_runs_of_the_grid(run_like):
    run = run_like("a", only="felt")
    alone = find_row(summarise([run], (0,)), "felt")
    among = find_row(summarise([run_like("b"), run, run_like("a", 1, only="mesh")], (0,)), "felt")
    assert among == alone


def test_runs_of_single_categories_share_a_row_of_means(run_like):
    runs = [run_like("a", seed, only=name) for name in ("felt", "mesh") for seed in (0, 1)]
    summary = summarise(runs, (0, 1))
    for seed in (0, 1):
        values = [find_row(summary, name).figures["aupro"].values[seed] for name in ("felt", "mesh")]
        assert find_row(summary, None).figures["aupro"].values[seed] == pytest.approx(mean(values))
    assert find_row(summary, None).figures["aupro"].categories == ("felt", "mesh")


def test_mean_is_over_the_categories_that_every_config_has(run_like):
    summary = summarise([run_like("a"), run_like("b", only="felt")], (0,))
    for config in ("a", "b"):
        figures = find_row(summary, None, config).figures
        assert figures["aupro"].categories == ("felt",)
        assert figures["aupro"].mean == find_row(summary, "felt", config).figures["aupro"].mean
    assert describe_missing(find_row(summary, None).figures["aupro"], summary.tables[0], (0,)) == "1 of 2 categories"


def test_mean_is_over_the_seeds_that_have_every_category(run_like):
    summary = summarise([run_like("a"), run_like("a", 1, only="felt")], (0, 1))
    assert list(find_row(summary, None).figures["aupro"].values) == [0]
    assert describe_missing(find_row(summary, None).figures["aupro"], summary.tables[0], (0, 1)) == "1 of 2 seeds"


def test_metric_that_is_not_available_has_no_figure(run_like):
    summary = summarise([run_like("a", aupro=None), run_like("a", 1, aupro=0.5)], (0, 1))
    assert find_row(summary, "felt").figures["aupro"].values == {1: 0.5}
    assert "aupro" not in find_row(summarise([run_like("b", aupro=None)], (0,)), "felt", "b").figures


def test_incomparable_runs_get_separate_tables(run_like):
    other = run_like("b", edit=lambda tree: tree["provenance"]["data"].update(crop=32))
    summary = summarise([run_like("a"), other], (0,))
    assert [list(table.configs) for table in summary.tables] == [["a"], ["b"]]
    assert "data.crop: 64 and 32" in summary.refusals[0]


def test_runs_on_different_test_images_get_separate_tables(full_run, run_like, change):
    first = run_like("a")
    change(full_run / "results/felt.json", lambda tree: tree["images"][0].update(name="good/another.png"))
    summary = summarise([first, run_like("a", 1)], (0, 1))
    assert len(summary.tables) == 2
    assert "test_images.felt" in summary.refusals[0]


@pytest.mark.parametrize(
    "edit",
    [
        lambda tree: tree["provenance"]["backbone"].update(sha256="f" * 64),
        lambda tree: tree["provenance"]["versions"].update(torch="1.0"),
        lambda tree: tree["provenance"].update(git="another"),
    ],
)
def test_runs_that_differ_in_more_than_their_seed_get_separate_rows(run_like, edit):
    (table,) = summarise([run_like("a"), run_like("a", 1, edit=edit)], (0, 1)).tables
    assert [(row.config, list(row.runs)) for row in table.rows if row.category == "felt"] == [("a", [0]), ("a #2", [1])]


def test_highest_value_is_marked_and_equal_values_are_not(run_like):
    (table,) = summarise([run_like("a", aupro=0.5), run_like("b", aupro=0.6)], (0,)).tables
    felt = [row for row in table.rows if row.category == "felt"]
    assert [table.is_best(row, "aupro") for row in felt] == [False, True]
    assert [table.is_best(row, "pixel_auroc") for row in felt] == [False, False]


@pytest.mark.parametrize("value", [0.6, 0.7])
def test_run_with_epoch_chosen_on_the_test_set_is_never_the_best(run_like, value):
    def choose(tree):
        tree["provenance"]["selected"] = "best on test"

    runs = [run_like("a", aupro=0.5), run_like("b", aupro=0.6), run_like("c", edit=choose, aupro=value)]
    summary = summarise(runs, (0,))
    felt = [row for row in summary.tables[0].rows if row.category == "felt"]
    assert [summary.tables[0].is_best(row, "aupro") for row in felt] == [False, True, False]
    assert "- c: selected: best on test" in markdown(summary)


# ------------------------------------------------------------------------------------------------ files and page


def test_markdown_has_one_row_per_config_and_category_and_the_failures(run_like):
    summary = summarise(
        [run_like("a", aupro=0.5), run_like("b|c", aupro=0.6)], (0,), [Failure("a mesh seed 1", "damaged")]
    )
    text = markdown(summary)
    assert re.search(r"^\| felt \| a \| .* \| 50\.00 \|$", text, re.MULTILINE)
    assert re.search(r"^\| felt \| b\\\|c \| .* \| \*\*60\.00\*\* \|$", text, re.MULTILINE)
    assert "Failed: a mesh seed 1: damaged" in text


def test_csv_has_every_metric_in_full_precision(run_like):
    run = run_like("a", aupro=1 / 3)
    summary = summarise([run, run_like("a", 1, aupro=2 / 3)], (0, 1))
    rows = list(csv.DictReader(io.StringIO(csv_text(summary.tables[0]))))
    assert [line["category"] for line in rows] == ["felt", "mesh", "mean"]
    assert float(rows[0]["aupro"]) == 0.5
    assert float(rows[0]["aupro_std"]) == stdev([1 / 3, 2 / 3])
    assert rows[0]["aupro_seeds"] == "2"
    assert set(run.evaluated[0].metrics) <= set(rows[0])


def test_json_has_run_folders_relative_to_its_own(run_like, tmp_path):
    tree = json.loads(json.dumps(grid_json(summarise([run_like("a", 3)], (3,)), tmp_path), allow_nan=False))
    assert tree["tables"][0]["rows"][0]["runs"] == {"3": "a/all/3"}


def test_page_links_to_the_reports_and_escapes_names(run_like, tmp_path):
    hostile = run_like("a", 1, config=("config_name: a", "config_name: '<img src=x>'"))
    page = grid_page(summarise([run_like("a"), hostile], (0, 1), [Failure("<b>", "<i>")]), tmp_path)
    assert 'href="a/all/0/report.html"' in page
    for raw in ("<img", "<b>a", "<i>"):
        assert raw not in page


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1.0), (0.9, 1.0), (0.852, 0.9913), (0.98, 0.9957), (0.4, 0.4004), (0.0, 0.002), (0.06, 0.73)],
)
def test_tick_labels_do_not_overlap_in_a_narrow_window(low, high):
    axis = Axis(low, high)
    ticks = round_ticks(axis)
    width = max(len(f"{tick:.4g}") for tick in ticks) * 7.5  # pixels of a label at most, see .ticks in report.css
    places = [105 * axis.share(tick / 100) for tick in ticks]
    assert ticks
    assert all(right - left > width for left, right in pairwise(places))


def test_figure_as_text():
    assert Figure({0: 0.9}).text() == "90.00"
    assert Figure({0: 0.9, 1: 0.92}, (0.85, 0.95)).text() == "91.00 ± 1.41 [85.00, 95.00]"


# ------------------------------------------------------------------------------------------------ streams of tasks


@pytest.fixture
def streams(run_like):
    """Two configs on a stream of two tasks, two seeds each: `a` forgets less, `b` is better on the new task."""

    def run(name, seed, matrix):
        record = run_like(name, seed)
        tasks, rows = [["felt"], ["mesh"]], [{"felt": {"aupro": x}, "mesh": {"aupro": y}} for x, y in matrix]
        about = [{"seconds": 1.0, "params_total": 1, "params_trainable": 1}] * 2
        head = {
            "seed": seed,
            "git": None,
            "strategy": "finetune",
            "class_order": ["felt", "mesh"],
            "key_metric": "aupro",
        }
        write_json(record.folder / "results/continual.json", stream_results(tasks, rows, about, head))
        config = record.folder / "config.yaml"
        config.write_text(config.read_text().replace("name: separate", "name: continual"))
        return read_finished(record.folder)

    matrices = {"a": [(0.9, 0.5), (0.8, 0.6)], "b": [(0.9, 0.5), (0.5, 0.9)]}
    return [
        run(name, seed, [(x + seed / 10, y) for x, y in matrix]) for name, matrix in matrices.items() for seed in (0, 1)
    ]


def test_streams_have_rows_of_acc_and_fm(streams):
    (table,) = summarise(streams, (0, 1)).tables
    figures = {(row.label, row.config): row.figures["aupro"] for row in table.rows if row.summary in ("ACC", "FM")}
    assert [row.label for row in table.rows][-6:] == ["mean", "mean", "ACC", "ACC", "FM", "FM"]
    assert figures["ACC", "a"].values == pytest.approx({0: 0.7, 1: 0.75})
    assert figures["FM", "b"].values == pytest.approx({0: 0.4, 1: 0.4})
    assert (figures["ACC", "a"].drawn, figures["ACC", "a"].interval[0]) == (SEEDS, pytest.approx(0.7))


def test_lowest_forgetting_is_the_best(streams):
    (table,) = summarise(streams, (0, 1)).tables
    rows = {(row.label, row.config): row for row in table.rows}
    assert table.is_best(rows["FM", "a"], "aupro")
    assert not table.is_best(rows["FM", "b"], "aupro")
    assert not any(table.is_best(rows["ACC", name], "aupro") for name in "ab")  # they are equal


def test_every_file_of_a_grid_has_the_rows_of_acc_and_fm(streams, tmp_path):
    summary = summarise(streams, (0, 1))
    assert "| FM | a | n/a | n/a | 10.00 ± 0.00" in markdown(summary).replace("**", "")
    assert "FM is forgetting" in markdown(summary)
    tree = grid_json(summary, tmp_path)
    assert [row["summary"] for row in tree["tables"][0]["rows"]][-6:] == ["mean", "mean", "ACC", "ACC", "FM", "FM"]
    assert [line.split(",")[1] for line in csv_text(summary.tables[0]).splitlines()][-2:] == ["FM", "FM"]
    page = grid_page(summary, tmp_path)
    assert page.count('<th scope="row">FM</th>') == 2
    assert '<p class="dots-of">ACC</p>' in page
    assert '<p class="dots-of">FM</p>' not in page


def test_runs_without_streams_have_no_rows_of_acc_and_fm(run_like, tmp_path):
    summary = summarise([run_like("a", seed) for seed in (0, 1)], (0, 1))
    assert {row.summary for row in summary.tables[0].rows} == {None, "mean"}
    assert "forgetting" not in markdown(summary)
