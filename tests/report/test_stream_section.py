"""Section of a stream of tasks: present for continual runs only, complete, escaped, and checked when it is read."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
import yaml
from stream_example import EXPANDED, SITES, stream_example

from anoframe.errors import AnoframeError
from anoframe.metrics.catalogue import METRICS, STREAM, SUMMARY
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
    """Function that returns the HTML of the section for the content of `continual.json`."""

    def render(tree):
        write_stream(full_run, tree)
        text = write_report(full_run).read_text(encoding="utf-8")
        return re.search('<section id="stream">.*?</section>', text, re.DOTALL)[0]

    return render


def text_of(html):
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", html).split()))


def table_of(html, label):
    """HTML of the table with this label."""
    return re.search(f'aria-label="{re.escape(label)}">(.*?)</table>', html, re.DOTALL)[1]


def rows_of(html, label):
    """Texts of the cells of each row of a table."""
    rows = re.findall(r"<tr>(.*?)</tr>", table_of(html, label), re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_run_without_stream_has_no_trace_of_the_section(full_run, monkeypatch):
    before = write_report(full_run).read_bytes()
    monkeypatch.setattr(page, "stream_view", lambda stream: None)
    assert write_report(full_run).read_bytes() == before
    assert b"stream" not in before
    assert b".matrix" not in before  # nor its style


def test_category_may_be_called_continual(full_run):
    tree = json.loads((full_run / "results/felt.json").read_text())
    write_stream(full_run, {**tree, "category": "continual"})
    run = read_run(full_run)
    assert run.stream is None
    assert "continual" in [category.name for category in run.categories]


def test_stream_is_not_a_category(full_run):
    write_stream(full_run, stream_example())
    assert [category.name for category in read_run(full_run).categories] == ["felt", "mesh"]


# ------------------------------------------------------------------------------------------------ metrics and tasks


def test_final_metrics_have_both_averages_and_both_forgettings(section):
    tree = stream_example()
    rows = rows_of(section(tree), "Metrics at the end")
    assert rows[0][1:] == ["ACC", "ACC, categories", "AIA", "FM, from best ↓", "FM, from diagonal ↓", "BWT", "FWT"]
    values = tree["cl_metrics"][-1]["by_metric"]["image_auroc"]
    assert rows[1] == ["Image AUROC", *(f"{100 * values[key]:.2f}" for key in STREAM)]


def test_unavailable_metric_is_marked(section):
    html = section(stream_example())
    assert rows_of(html, "Metrics at the end")[2][0::7] == ["Image AP", "n/a"]
    assert "Means leave out pixel_auroc, aupro of rope" in text_of(html)


def test_category_that_lacks_a_metric_after_one_task_is_named(section):
    tree = stream_example()
    tree["class_performance"]["task_1"]["felt"]["image_ap"] = None
    assert "image_ap of felt" in text_of(section(tree))


@pytest.mark.parametrize("name", SUMMARY)
def test_matrix_has_every_value(section, name):
    tree = stream_example()
    rows = rows_of(section(tree), METRICS[name].title)[1:6]
    expected = [["n/a" if value is None else f"{100 * value:.1f}" for value in row] for row in tree["R"][name]]
    assert [row[1:6] for row in rows] == expected
    means = [f"{100 * metrics['by_metric'][name]['acc']:.1f}" for metrics in tree["cl_metrics"]]
    assert [row[6] for row in rows] == means


def test_matrix_ends_with_forgetting(section):
    tree = stream_example()
    last = rows_of(section(tree), "Image AUROC")[-1]
    rows = tree["R"]["image_auroc"]
    lost = [max(rows[i][j] for i in range(j, 4)) - rows[4][j] for j in range(4)]
    assert last == ["forgotten", *(f"{100 * value:.1f}" for value in lost), "", f"{25 * sum(lost):.1f}"]


def test_tiny_negative_forgetting_has_no_sign(section):
    tree = stream_example()
    values = tree["R"]["image_auroc"]
    values[-1][3] = values[-2][3] + 1e-6
    assert rows_of(section(tree), "Image AUROC")[-1][4] == "0.0"


def test_matrix_marks_later_and_new_tasks(section):
    matrix = table_of(section(stream_example()), "Image AUROC")
    assert (matrix.count('class="later"'), matrix.count('class="new"')) == (10, 5)


def test_higher_values_have_stronger_shades(section):
    matrix = table_of(section(stream_example()), "Image AUROC")
    cells = re.findall(r'--depth:([\d.]+)%" title="([\d.]+)"', matrix)
    ordered = sorted(cells, key=lambda cell: float(cell[1]))
    assert len(cells) == 15
    assert [float(depth) for depth, _ in ordered] == sorted(float(depth) for depth, _ in cells)
    assert (ordered[0][0], ordered[-1][0]) == ("6.0", "45.0")  # the palest and the deepest


def test_task_table_has_time_and_parameters(section):
    rows = rows_of(section(stream_example()), "Tasks")
    assert rows[1][:5] == ["0", "felt, mesh", "120.5", "8,248,856", "7,717,392"]
    assert [row[2] for row in rows[2:]] == ["30.2"] * 4


def test_averages_and_parameters_are_drawn_over_tasks(section):
    charts = re.findall(r'aria-label="([^"]*) over tasks (\d) to 4', section(stream_example(strategy="finetune")))
    assert charts == [("ACC", "0"), ("Forgetting, from best", "1"), ("Parameters, millions", "0")]


def test_charts_show_the_final_values(section):
    tree = stream_example()
    for values in tree["cl_metrics"][-1]["by_metric"].values():
        values.update(acc=0.75, fm=0.125)
    charts = re.findall(r'aria-label="([^"]*) over tasks \d to 4, at the end: ([^"]*)"', section(tree))
    values = {title: re.findall(r"[\d.]+", text) for title, text in charts[:3]}
    assert values == {
        "ACC": ["75.00"] * 3,
        "Forgetting, from best": ["12.50"] * 3,
        "Parameters, millions": ["8.714", "0.06643"],
    }


def test_unfinished_stream_shows_how_many_tasks_are_trained(section):
    html = section(stream_example(2))
    assert "2 of 5 tasks are trained" in text_of(html)
    assert len(rows_of(html, "Tasks")) == 6


def test_finished_stream_has_no_warning(section):
    assert "tasks are trained" not in text_of(section(stream_example()))


def test_single_task_and_category_are_in_the_singular(section):
    tree = stream_example(1, "finetune")
    tree["config"]["tasks"] = [["felt"]]
    tree["class_performance"]["task_0"] = {"felt": {}}
    tree["R"] = {}
    assert "1 task · 1 category" in text_of(section(tree))


def test_missing_threshold_is_explained_by_the_stream(full_run, change):
    write_stream(full_run, stream_example())
    for name in ("felt", "mesh"):
        change(full_run / f"results/{name}.json", lambda tree: tree.update(threshold=None))
    text = text_of(write_report(full_run).read_text(encoding="utf-8"))
    assert text.count("nothing was decided: a stream of tasks has none") == 2
    assert "held back" not in text


def test_stream_without_trained_tasks_has_a_page(section):
    assert "0 of 5 tasks are trained" in text_of(section(stream_example(0)))


def test_joint_training_is_a_single_row(section):
    html = section(stream_example(1, "joint"))
    assert [row[0] for row in rows_of(html, "Image AUROC")[1:]] == ["after all"]
    assert "class=later" not in html.replace('"', "")
    assert "class=new" not in html.replace('"', "")
    assert "tasks are trained" not in text_of(html)


# ------------------------------------------------------------------------------------------------ method summaries


def test_shaded_table_has_every_value(section):
    html = section(stream_example())
    rows = rows_of(html, "Adapters")
    assert rows[0] == ["layer", *(f"after {task}" for task in range(5))]
    assert rows[1] == ["0 ffn", "1", "2", "2", "3", "3"]
    assert len(rows) == 1 + len(SITES)
    assert "Number of adapters at each site." in text_of(html)


def test_shade_of_a_table_is_in_proportion_to_the_value(section):
    table = table_of(section(stream_example()), "Adapters")
    assert set(re.findall(r'--depth:([\d.]+)%">(\d)<', table)) == {("15.0", "1"), ("30.0", "2"), ("45.0", "3")}


def test_plain_table_has_every_row_and_no_shade(section):
    html = section(stream_example())
    rows = rows_of(html, "Expansions")[1:]
    assert len(rows) == sum(map(len, EXPANDED.values())) == 7
    assert rows[1] == ["1", "5 ffn", "0", "1", "4.75", "4.75"]  # pass 0, batch 1
    assert rows[2] == ["3", "0 ffn", "0", "0", "3.5", "3.50, 5.50"]
    assert "--depth" not in table_of(html, "Expansions")


def test_missing_value_and_empty_table_are_marked(section):
    tree = stream_example()
    adapters, expansions = tree["method_summaries"][-1]["tables"]
    adapters["rows"][0][1] = None
    expansions["rows"] = []
    html = section(tree)
    assert rows_of(html, "Adapters")[1] == ["0 ffn", "n/a", "2", "2", "3", "3"]
    assert "Expansions No entries." in text_of(html)


def test_scalars_have_one_chart_per_group(section):
    tree = stream_example()
    for task, summary in enumerate(tree["method_summaries"]):
        summary["scalars"] = {"growth/total": 10 + task, "growth/layer_0": 2, "loss": 0.5}
    tree["method_summaries"][0]["scalars"].pop("loss")
    charts = re.findall(r'aria-label="([^"]*) over tasks (\d) to 4, at the end: ([^"]*)"', section(tree))
    assert charts[3:5] == [("Growth", "0", "total 14, layer 0 2"), ("Method", "1", "loss 0.5")]


def test_series_have_one_chart_per_x_label(section):
    tree = stream_example()
    loss = {"name": "loss", "points": [[1, 0.5], [2, 0.25]], "x_label": "epoch"}
    tree["method_summaries"][-1]["series"] += [loss, {**loss, "name": "other_loss"}]
    html = section(tree)
    assert 'aria-label="Adapters over tasks 0 to 4, at the end: adapters 15"' in html
    assert 'aria-label="Values of the method over epochs 1 to 2, at the end: loss 0.25, other loss 0.25"' in html


@pytest.mark.parametrize("tree", [stream_example(strategy="finetune"), {**stream_example(), "method_summaries": []}])
def test_without_method_summaries_there_are_no_method_tables(section, tree):
    text = text_of(section(tree))
    assert "Adapters" not in text
    assert "Expansions" not in text
    assert "Method" not in text


def test_file_of_an_earlier_version_is_read(full_run):
    tree = stream_example()
    del tree["method_summaries"]
    write_stream(full_run, tree)
    stream = read_run(full_run).stream
    assert (stream.num_rows, stream.summaries, stream.last_scalars()) == (5, [], {})


def test_last_scalars_are_those_of_the_latest_task(full_run):
    write_stream(full_run, stream_example())
    assert read_run(full_run).stream.last_scalars()["growth/total_adapters"] == 15


def test_run_without_stream_shows_the_summary_in_the_category(full_run, change):
    summary = stream_example()["method_summaries"][-1]
    summary["scalars"] = {"memory_bank/size": 1200}
    change(full_run / "results/felt.json", lambda tree: tree.update(method_summary=summary))
    text = write_report(full_run).read_text(encoding="utf-8")
    felt, mesh = re.findall('<section id="category.*?</section>', text, re.DOTALL)
    assert "Method memory bank/size 1200" in text_of(felt)
    assert rows_of(felt, "Adapters")[1] == ["0 ffn", "1", "2", "2", "3", "3"]
    assert 'aria-label="Adapters over tasks 0 to 4, at the end: adapters 15"' in felt
    assert ".matrix" in text  # the style
    assert "Method" not in text_of(mesh)


# ------------------------------------------------------------------------------------------------ untrusted content


def rename(tree):
    text = json.dumps(tree).replace('"rope"', json.dumps(NASTY))
    tree = json.loads(text.replace('"image_ap"', json.dumps(NASTY)))
    tree["config"].update(strategy=NASTY, key_metric=NASTY)
    for summary in tree["method_summaries"]:
        summary["scalars"] = {NASTY: 1.0, f"{NASTY}/x": 2.0}
    for table in tree["method_summaries"][-1]["tables"]:
        table.update(name=NASTY, title=NASTY, note=NASTY, columns=[NASTY] * len(table["columns"]))
        table["rows"] = [[NASTY] * len(row) for row in table["rows"]]
    tree["method_summaries"][-1]["series"] = [{"name": NASTY, "points": [[0, 1.0]], "x_label": NASTY}]
    return tree


def test_names_are_escaped(section):
    html = section(rename(stream_example()))
    assert "<img" not in html
    assert html.count("&lt;img") > 20
    assert set(re.findall(r"<(?!/)(\w+)", html)) <= {
        "section", "h2", "a", "p", "b", "h3", "div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "figure",
        "figcaption", "small", "svg", "path", "text", "rect", "title", "ul", "li",
    }  # fmt: skip


def latest(tree):
    return tree["method_summaries"][-1]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda tree: tree["seconds"].pop(), "seconds has 4 entries, for 5 tasks"),
        (lambda tree: tree["method_summaries"].pop(), "method_summaries has 4 entries, for 5 tasks"),
        (lambda tree: tree["R"]["aupro"][2].pop(), "the matrix of aupro has another shape than 5 x 5"),
        (lambda tree: tree["R"]["aupro"][0].__setitem__(0, float("nan")), "NaN is not a JSON value"),
        (lambda tree: tree["config"].pop("tasks"), "tasks"),
        (lambda tree: tree["config"]["tasks"].pop(), "5 tasks are trained of 4"),
        (lambda tree: tree.update(cl_metrics=7), "TypeError"),
        (lambda tree: latest(tree)["tables"][0]["rows"][0].pop(), "table adapters: a row has 5 values, for 6 columns"),
        (lambda tree: latest(tree)["tables"][0]["rows"][0].__setitem__(1, [1]), "TypeError"),
        (lambda tree: latest(tree)["tables"][0].pop("title"), "title"),
        (lambda tree: latest(tree)["series"][0]["points"].reverse(), "series adapters: x does not rise"),
        (lambda tree: latest(tree)["scalars"].update(x=float("inf")), "Infinity is not a JSON value"),
        (lambda tree: latest(tree).update(scalars=[1]), "AttributeError"),
    ],
)
def test_damaged_file_is_named(full_run, damage, expected):
    tree = stream_example()
    damage(tree)
    write_stream(full_run, tree)
    with pytest.raises(AnoframeError, match=r"continual\.json is damaged") as raised:
        read_run(full_run)
    assert expected in str(raised.value)


def test_damaged_summary_of_a_category_is_named(full_run, change):
    change(full_run / "results/felt.json", lambda tree: tree.update(method_summary={"tables": [{}]}))
    with pytest.raises(AnoframeError, match=r"felt\.json is damaged"):
        read_run(full_run)


# ------------------------------------------------------------------------------------------------ comparisons


@pytest.fixture
def runs(full_run, change, tmp_path):
    """Folders of two continual runs with different strategies, and of the first with another seed."""

    def copy(name, strategy, seed=0):
        folder = Path(shutil.copytree(full_run, tmp_path / name))
        write_stream(folder, stream_example(strategy=strategy))
        change(folder / "metrics.json", lambda tree: tree["provenance"].update(seed=seed))
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("ratio: 0.1", f"ratio: {0.1 if strategy == 'native' else 0.5}"))
        return folder

    return [copy("a", "native"), copy("b", "native", 1), copy("c", "finetune")]


def test_streams_are_compared_by_metrics_and_cost(runs):
    html = comparison_page(compare(runs))
    rows = rows_of(html, "Image AUROC over the stream")
    assert [row[0] for row in rows[1:]] == [
        "ACC", "ACC, categories", "AIA", "FM, from best ↓", "FM, from diagonal ↓", "BWT", "FWT",
    ]  # fmt: skip
    assert "±" in rows[1][1]
    costs = {row[0]: row[1:] for row in rows_of(html, "Cost and method summary")}
    assert costs["parameters, millions"] == ["8.71", "7.72"]
    assert costs["growth/total_adapters"] == ["15.00", "n/a"]


def test_each_column_is_a_line_over_tasks(runs):
    html = comparison_page(compare(runs))
    charts = re.findall(r'aria-label="([^"]*) over tasks (\d) to 4, at the end: ([^"]*)"', html)
    assert [chart[:2] for chart in charts] == [
        ("Image AUROC: ACC", "0"),
        ("Image AUROC: FM, from best", "1"),
        ("Pixel AUROC: ACC", "0"),
        ("Pixel AUROC: FM, from best", "1"),
    ]
    assert charts[0][2] == "tiny, native 82.70, tiny, finetune 82.70"


def test_joint_training_is_a_point_at_the_end(runs):
    write_stream(runs[2], stream_example(1, "joint"))
    chart = re.search(r'aria-label="Image AUROC: ACC over.*?</svg>', comparison_page(compare(runs)), re.DOTALL)[0]
    assert "<title>task 0: tiny, native 91.00</title>" in chart
    assert "<title>task 4: tiny, native 82.70, tiny, joint 65.70</title>" in chart


def test_column_head_has_the_strategy_even_if_many_keys_differ(runs):
    """Two methods differ in more keys than a column head has room for."""
    folders = runs[1:]
    for folder, value, strategy in zip(folders, (1, 2), ("native", "finetune"), strict=True):
        path = folder / "config.yaml"
        tree = yaml.safe_load(path.read_text().replace("!!python/tuple", ""))
        tree["model"] = {f"a{number}": value for number in range(30)} | tree["model"]
        tree["protocol"]["strategy"] = strategy
        path.write_text(yaml.safe_dump(tree))
    text = text_of(comparison_page(compare(folders)))
    assert "protocol.strategy native" in text
    assert "protocol.strategy finetune" in text
    assert "and 24 more" in text


def test_lowest_forgetting_is_marked_as_the_best(runs, change):
    def reduce_forgetting(tree):
        tree["cl_metrics"][-1]["by_metric"]["image_auroc"]["fm"] = 0.001

    change(runs[2] / "results/continual.json", reduce_forgetting)
    row = re.search("FM, from best ↓</th>(.*?)</tr>", comparison_page(compare(runs)), re.DOTALL)[1]
    assert re.findall(r"class=\"best\" data-value=\"([\d.]+)\"", row) == ["0.001"]


def test_different_streams_share_no_table(runs, change):
    def reverse(tree):
        tree["config"]["tasks"].reverse()

    change(runs[2] / "results/continual.json", reverse)
    comparison = compare(runs)
    assert len(comparison.tables) == 2
    assert "they differ in tasks: " in comparison.refusals[0]


def test_comparison_of_other_runs_has_none_of_these_tables(full_run, tmp_path):
    other = Path(shutil.copytree(full_run, tmp_path / "other"))
    html = comparison_page(compare([full_run, other]))
    assert "stream" not in html.split("<main>")[1].split("<script>")[0]
