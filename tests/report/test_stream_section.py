"""The section of a stream: drawn where the run is continual, and nowhere else."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
import yaml
from stream_example import GROWN, SITES, stream_example

from anoframe.errors import AnoframeError
from anoframe.report import page
from anoframe.report.compare import compare
from anoframe.report.comparison_page import comparison_page
from anoframe.report.run_record import read_run
from anoframe.report.write import write_report

NASTY = '<img src=x onerror=alert("1")> & co'


def write_stream(folder: Path, tree) -> None:
    (folder / "results" / "continual.json").write_text(json.dumps(tree), encoding="utf-8")


@pytest.fixture
def section(full_run):
    """The section of a run with this stream, as HTML."""

    def draw(tree):
        write_stream(full_run, tree)
        text = write_report(full_run).read_text(encoding="utf-8")
        return re.search('<section id="stream">.*?</section>', text, re.DOTALL)[0]

    return draw


def text_of(html):
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", html).split()))


def rows_of(html, label):
    """The rows of a table, each a list of what its cells show."""
    region = re.search(f'aria-label="{label}">(.*?)</table>', html, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", region, re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_a_run_that_is_not_continual_has_the_page_it_had(full_run, monkeypatch):
    before = write_report(full_run).read_bytes()
    monkeypatch.setattr(page, "continual_section", lambda run: "")
    monkeypatch.setattr(page, "continual_style", lambda run: "")
    assert write_report(full_run).read_bytes() == before
    assert b"stream" not in before


def test_a_category_may_be_called_continual(full_run):
    tree = json.loads((full_run / "results/felt.json").read_text())
    write_stream(full_run, {**tree, "category": "continual"})
    run = read_run(full_run)
    assert run.stream is None
    assert "continual" in [category.name for category in run.categories]


def test_a_stream_is_no_category(full_run):
    write_stream(full_run, stream_example())
    assert [category.name for category in read_run(full_run).categories] == ["felt", "mesh"]


# ------------------------------------------------------------------------------------------------ what is shown


def test_what_was_kept_has_both_averages_and_both_forgettings(section):
    tree = stream_example()
    rows = rows_of(section(tree), "What was kept")
    assert rows[0][1:] == ["ACC", "ACC, classes", "AIA", "FM, from best ↓", "FM, from diagonal ↓", "BWT", "FWT"]
    values = tree["cl_metrics"][-1]["by_metric"]["image_auroc"].values()
    assert rows[1] == ["Image AUROC", *(f"{100 * value:.2f}" for value in values)]


def test_a_measure_that_is_not_available_is_said(section):
    html = section(stream_example())
    assert rows_of(html, "What was kept")[2][0::7] == ["Image AP", "n/a"]
    assert "Means leave out pixel_auroc, aupro of rope" in text_of(html)


def test_a_mean_that_lacks_a_category_for_a_while_says_so(section):
    tree = stream_example()
    tree["class_performance"]["task_1"]["felt"]["image_ap"] = None
    assert "image_ap of felt" in text_of(section(tree))


@pytest.mark.parametrize("metric", [("Image AUROC", "image_auroc"), ("Pixel AUROC", "pixel_auroc"), ("AUPRO", "aupro")])
def test_a_matrix_shows_every_value(section, metric):
    tree = stream_example()
    drawn = rows_of(section(tree), metric[0])[1:6]
    shown = [["n/a" if value is None else f"{100 * value:.1f}" for value in row] for row in tree["R"][metric[1]]]
    assert [row[1:6] for row in drawn] == shown
    means = [f"{100 * one['by_metric'][metric[1]]['acc']:.1f}" for one in tree["cl_metrics"]]
    assert [row[6] for row in drawn] == means


def test_a_matrix_ends_with_what_was_forgotten(section):
    tree = stream_example()
    last = rows_of(section(tree), "Image AUROC")[-1]
    each = tree["R"]["image_auroc"]
    lost = [max(each[i][j] for i in range(j, 4)) - each[4][j] for j in range(4)]
    assert last == ["forgotten", *(f"{100 * one:.1f}" for one in lost), "", f"{25 * sum(lost):.1f}"]


def test_what_hardly_changed_has_no_sign(section):
    tree = stream_example()
    values = tree["R"]["image_auroc"]
    values[-1][3] = values[-2][3] + 1e-6
    assert rows_of(section(tree), "Image AUROC")[-1][4] == "0.0"


def test_tasks_still_to_come_are_told_from_those_seen(section):
    html = section(stream_example())
    matrix = re.search('aria-label="Image AUROC">.*?</table>', html, re.DOTALL)[0]
    assert (matrix.count("class=later"), matrix.count("class=new")) == (10, 5)


def test_deeper_is_higher(section):
    html = section(stream_example())
    matrix = re.search('aria-label="Image AUROC">.*?</table>', html, re.DOTALL)[0]
    found = re.findall(r'--depth:([\d.]+)%" title="([\d.]+)"', matrix)
    ordered = sorted(found, key=lambda one: float(one[1]))
    assert len(found) == 15
    assert [float(depth) for depth, _ in ordered] == sorted(float(depth) for depth, _ in found)
    assert (ordered[0][0], ordered[-1][0]) == ("6.0", "45.0")  # from the palest to the deepest


def test_a_task_says_what_it_took(section):
    rows = rows_of(section(stream_example()), "Tasks")
    assert rows[1][:6] == ["0", "felt, mesh", "120.5", "8,248,856", "7,717,392", "8"]
    assert [row[2] for row in rows[2:]] == ["30.2"] * 4
    assert [row[5] for row in rows[2:]] == ["10", "10", "14", "15"]


def test_adapters_of_each_site_after_each_task(section):
    rows = rows_of(section(stream_example()), "Adapters of 8 sites")
    assert rows[1] == ["0 ffn", "1", "2", "2", "3", "3"]
    assert rows[-1] == ["all", "8", "10", "10", "14", "15"]


def test_a_site_is_outlined_in_the_tasks_in_which_it_grew(section):
    table = re.search('aria-label="Adapters of 8 sites">.*?</tbody>', section(stream_example()), re.DOTALL)[0]
    rows = re.findall('<th scope="row">.*?</tr>', table)
    outlined = [["class=new" in cell for cell in re.findall("<td[^>]*>", row)] for row in rows]
    assert outlined == [[layer in GROWN.get(task, ()) for task in range(5)] for layer, _ in SITES]


def test_every_expansion_is_there_with_its_z(section):
    rows = rows_of(section(stream_example()), "Expansions")[1:]
    assert len(rows) == 7
    assert rows[1] == ["1", "5 ffn", "0", "1", "4.75", "4.75"]  # pass 0, batch 1
    assert rows[2] == ["3", "0 ffn", "0", "0", "3.50", "3.50, 5.50"]


def test_without_a_threshold_it_is_said_that_nothing_expands(section):
    tree = stream_example()
    tree["config"]["sema_config"]["expansion_threshold"] = None
    tree["expansions"] = []
    assert "No task expanded. There is no threshold of z" in text_of(section(tree))


def test_averages_and_parameters_are_drawn_over_tasks(section):
    found = re.findall(r'aria-label="([^"]*) over tasks (\d) to 4', section(stream_example()))
    assert found == [("ACC", "0"), ("Forgetting, from best", "1"), ("Parameters, millions", "0")]


def test_charts_end_with_what_is_true_at_the_end(section):
    tree = stream_example()
    for values in tree["cl_metrics"][-1]["by_metric"].values():
        values.update(acc=0.75, fm=0.125)
    found = re.findall(r'aria-label="([^"]*) over tasks \d to 4, at the end: ([^"]*)"', section(tree))
    shown = {title: re.findall(r"[\d.]+", text) for title, text in found}
    assert shown == {
        "ACC": ["75.00"] * 3,
        "Forgetting, from best": ["12.50"] * 3,
        "Parameters, millions": ["8.714", "0.06643"],
    }


def test_without_growth_there_are_no_adapters(section):
    text = text_of(section(stream_example(strategy="finetune")))
    assert "Adapters" not in text
    assert "Expansions" not in text


def test_a_stream_that_goes_on_says_how_far_it_is(section):
    html = section(stream_example(2))
    assert "2 of 5 tasks are learned" in text_of(html)
    assert len(rows_of(html, "Tasks")) == 6


def test_a_finished_stream_has_no_such_warning(section):
    assert "tasks are learned" not in text_of(section(stream_example()))


def test_a_stream_of_one_task_and_category_is_counted_as_such(section):
    tree = stream_example(1, "finetune")
    tree["config"]["tasks"] = [["felt"]]
    tree["class_performance"]["task_0"] = {"felt": {}}
    tree["R"] = {}
    assert "1 task · 1 category" in text_of(section(tree))


def test_a_missing_threshold_is_the_streams_doing(full_run, change):
    write_stream(full_run, stream_example())
    for name in ("felt", "mesh"):
        change(full_run / f"results/{name}.json", lambda tree: tree.update(threshold=None))
    text = text_of(write_report(full_run).read_text(encoding="utf-8"))
    assert text.count("none is found on a stream of tasks") == 2
    assert "held back" not in text


def test_a_stream_of_which_nothing_is_learned_has_a_page(section):
    assert "0 of 5 tasks are learned" in text_of(section(stream_example(0)))


def test_all_tasks_at_once_are_one_row(section):
    html = section(stream_example(1, "joint"))
    assert [row[0] for row in rows_of(html, "Image AUROC")[1:]] == ["after all"]
    assert "class=later" not in html
    assert "class=new" not in html
    assert "tasks are learned" not in text_of(html)


# ------------------------------------------------------------------------------------------------ what is wrong


def rename(tree):
    text = json.dumps(tree).replace('"rope"', json.dumps(NASTY)).replace('"ffn"', json.dumps(NASTY))
    tree = json.loads(text.replace('"image_ap"', json.dumps(NASTY)))
    tree["config"].update(strategy=NASTY, key_metric=NASTY)
    tree["config"]["sema_config"]["expansion_threshold"] = NASTY
    return tree


def test_names_are_text_wherever_they_stand(section):
    html = section(rename(stream_example()))
    assert "<img" not in html
    assert html.count("&lt;img") > 20


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tree: tree["seconds"].pop(), "seconds has 4 entries, for 5 tasks"),
        (lambda tree: tree["adapter_stats"].pop(), "adapters has 4 entries, for 5 tasks"),
        (lambda tree: tree["R"]["aupro"][2].pop(), "the matrix of aupro has another shape than 5 x 5"),
        (lambda tree: tree["R"]["aupro"][0].__setitem__(0, float("nan")), "nan is not finite"),
        (lambda tree: tree["adapter_stats"][0].update(total_adapters=9), "total_adapters is 9, and the sum is 8"),
        (lambda tree: tree["config"].pop("tasks"), "tasks"),
        (lambda tree: tree["config"]["tasks"].pop(), "5 tasks are learned of 4"),
        (lambda tree: tree.update(cl_metrics=7), "TypeError"),
        (lambda tree: tree.update(expansions=[{"task": 1}]), "site"),
    ],
)
def test_a_damaged_file_is_named(full_run, spoil, told):
    tree = stream_example()
    spoil(tree)
    write_stream(full_run, tree)
    with pytest.raises(AnoframeError, match=r"continual\.json is damaged") as found:
        read_run(full_run)
    assert told in str(found.value)


# ------------------------------------------------------------------------------------------------ side by side


@pytest.fixture
def runs(full_run, change, tmp_path):
    """Two continual runs of other strategies, and the first again with another seed."""

    def copy(name, strategy, seed=0):
        folder = Path(shutil.copytree(full_run, tmp_path / name))
        write_stream(folder, stream_example(strategy=strategy))
        change(folder / "metrics.json", lambda tree: tree["provenance"].update(seed=seed))
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("ratio: 0.1", f"ratio: {0.1 if strategy == 'expand' else 0.5}"))
        return folder

    return [copy("a", "expand"), copy("b", "expand", 1), copy("c", "finetune")]


def test_streams_are_compared_by_what_they_kept_and_took(runs):
    html = comparison_page(compare(runs))
    rows = rows_of(html, "Image AUROC over the stream")
    assert [row[0] for row in rows[1:]] == [
        "ACC", "ACC, classes", "AIA", "FM, from best ↓", "FM, from diagonal ↓", "BWT", "FWT",
    ]  # fmt: skip
    assert "±" in rows[1][1]
    took = rows_of(html, "What it took")
    assert took[1] == ["parameters, millions", "8.71", "7.72"]
    assert took[2] == ["adapters", "15.00", "0.00"]


def test_each_column_is_a_line_over_tasks(runs):
    html = comparison_page(compare(runs))
    found = re.findall(r'aria-label="([^"]*) over tasks (\d) to 4, at the end: ([^"]*)"', html)
    assert [one[:2] for one in found] == [
        ("Image AUROC: ACC", "0"),
        ("Image AUROC: forgetting, from best", "1"),
        ("Pixel AUROC: ACC", "0"),
        ("Pixel AUROC: forgetting, from best", "1"),
    ]
    assert found[0][2] == "tiny, expand 82.70, tiny, finetune 82.70"


def test_all_tasks_at_once_are_a_point_at_the_end(runs):
    write_stream(runs[2], stream_example(1, "joint"))
    chart = re.search(r'aria-label="Image AUROC: ACC over.*?</svg>', comparison_page(compare(runs)))[0]
    assert "<title>task 0: tiny, expand 91.00</title>" in chart
    assert "<title>task 4: tiny, expand 82.70, tiny, joint 65.70</title>" in chart


def test_a_column_says_its_strategy_however_much_differs(runs):
    """Two methods differ in more keys than a head has room for."""
    folders = runs[1:]
    for folder, value, strategy in zip(folders, (1, 2), ("expand", "finetune"), strict=True):
        path = folder / "config.yaml"
        tree = yaml.safe_load(path.read_text().replace("!!python/tuple", ""))
        tree["model"] = {f"a{number}": value for number in range(30)} | tree["model"]
        tree["protocol"]["strategy"] = strategy
        path.write_text(yaml.safe_dump(tree))
    text = text_of(comparison_page(compare(folders)))
    assert "protocol.strategy expand" in text
    assert "protocol.strategy finetune" in text
    assert "and 24 more" in text


def test_the_lowest_forgetting_is_the_best(runs, change):
    def keep_more(tree):
        tree["cl_metrics"][-1]["by_metric"]["image_auroc"]["fm"] = 0.001

    change(runs[2] / "results/continual.json", keep_more)
    row = re.search("FM, from best ↓</th>(.*?)</tr>", comparison_page(compare(runs)))[1]
    assert re.findall(r"class=best data-value=\"([\d.]+)\"", row) == ["0.001"]


def test_other_streams_share_no_table(runs, change):
    def turn(tree):
        tree["config"]["tasks"].reverse()

    change(runs[2] / "results/continual.json", turn)
    comparison = compare(runs)
    assert len(comparison.tables) == 2
    assert "they differ in tasks: " in comparison.refusals[0]


def test_runs_that_are_not_continual_say_nothing_of_streams(full_run, tmp_path):
    other = Path(shutil.copytree(full_run, tmp_path / "other"))
    assert "stream" not in comparison_page(compare([full_run, other])).split("<main>")[1].split("<script>")[0]
