"""Runs side by side: what shares a table, what does not and why, seeds, and what only one run has."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from anoframe.errors import AnoframeError
from anoframe.report.compare import compare
from anoframe.report.comparison_page import comparison_page, write_comparison

TOOL = Path(__file__).resolve().parents[2] / "tools" / "report.py"


@pytest.fixture
def run_like(full_run, change, tmp_path):
    """Copies of the finished run: `run_like(name, seed=0, mend=None, config=None, **metrics of felt)`."""

    def copy(name, seed=0, mend=None, config=None, **metrics):
        folder = Path(shutil.copytree(full_run, tmp_path / name))

        def apply(tree):
            tree["provenance"]["seed"] = seed
            tree["categories"]["felt"].update(metrics)
            if mend:
                mend(tree)

        change(folder / "metrics.json", apply)
        path = folder / "config.yaml"
        text = re.sub(r"(?m)^seed: .*", f"seed: {seed}", path.read_text())
        path.write_text(re.sub(*config, text) if config else text)
        return folder

    return copy


def columns(comparison):
    return [[column.seeds for column in table.columns] for table in comparison.tables]


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("<main>")[1].split("<script>")[0]).split())


def test_seeds_of_one_config_are_a_column(run_like):
    runs = [run_like("a", 0), run_like("b", 1), run_like("c", 2)]
    assert columns(compare(runs)) == [[[0, 1, 2]]]


def test_seeds_have_a_mean_and_a_deviation(run_like):
    runs = [run_like("a", 0, image_auroc=0.9), run_like("b", 1, image_auroc=0.8), run_like("c", 2, image_auroc=1.0)]
    assert "felt 90.00 ± 10.00" in text_of(comparison_page(compare(runs)))


def test_another_config_is_a_column_that_says_what_differs(run_like):
    runs = [run_like("a"), run_like("b", config=("ratio: 0.1", "ratio: 0.5"))]
    comparison = compare(runs)
    assert columns(comparison) == [[[0], [0]]]
    text = text_of(comparison_page(comparison))
    assert "model.coreset.ratio 0.1 " in text
    assert "model.coreset.ratio 0.5 " in text


def test_settings_that_change_no_result_do_not_split_a_column(run_like):
    runs = [run_like("a"), run_like("b", 1, config=("pictures: 6", "pictures: 9"))]
    assert columns(compare(runs)) == [[[0, 1]]]


def test_a_seed_that_comes_twice_is_no_second_sample(run_like):
    assert columns(compare([run_like("a"), run_like("b")])) == [[[0], [0]]]


def test_other_weights_are_a_column_that_says_so(run_like):
    runs = [run_like("a"), run_like("b", 1, lambda tree: tree["provenance"]["backbone"].update(sha256="f" * 64))]
    comparison = compare(runs)
    assert columns(comparison) == [[[0], [1]]]
    assert "weights ffffffffffff" in text_of(comparison_page(comparison))


def set_in(part, key, value):
    def mend(tree):
        node = tree["provenance"]
        for name in part:
            node = node[name]
        node[key] = value

    return mend


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        (["data"], "name", "visa", "dataset: 'folder' and 'visa'"),
        ([], "protocol", "unified", "protocol: 'separate' and 'unified'"),
        (["data"], "resize", 80, "data.resize: 64 and 80"),
        (["data"], "crop", 32, "data.crop: 64 and 32"),
        (["data"], "keep_aspect", True, "data.keep_aspect: False and True"),
        (["counts", "felt"], "train", 5, "counts.felt.train: 6 and 5"),
        (["counts", "mesh"], "test_good", 2, "counts.mesh.test_good: 3 and 2"),
    ],
)
def test_what_is_not_comparable_is_refused_by_name(run_like, part, key, value, told):
    one, other = run_like("a"), run_like("b", 1, set_in(part, key, value))
    comparison = compare([one, other])
    assert len(comparison.tables) == 2
    assert comparison.refusals == [f"{one} and {other} do not share a table, they differ in {told}"]
    assert f"they differ in {told}" in text_of(comparison_page(comparison)).replace("&#x27;", "'")


CHOSEN = set_in([], "selected", "best on test")


def test_an_epoch_chosen_on_the_test_set_shares_no_column_and_is_marked(run_like):
    comparison = compare([run_like("a"), run_like("b", 1, CHOSEN)])
    assert columns(comparison) == [[[0], [1]]]
    assert "seed 1 tf_efficientnet_lite0" in (text := text_of(comparison_page(comparison)))
    assert re.search(r"seed 1 [^‡]*‡ the epoch was chosen on the test set", text)


def test_seeds_that_were_chosen_on_the_test_set_are_a_column(run_like):
    assert columns(compare([run_like("a", 0, CHOSEN), run_like("b", 1, CHOSEN)])) == [[[0, 1]]]


def test_an_epoch_chosen_on_the_test_set_is_never_the_best(run_like):
    runs = [run_like("a", image_auroc=0.25), run_like("b", config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)]
    page = comparison_page(compare([*runs, run_like("c", 1, CHOSEN, image_auroc=0.75)]))
    assert '<td class=best data-value="0.5">' in page
    assert '<td data-value="0.75">' in page


def without_mesh(tree):
    for part in (tree["categories"], tree["provenance"]["counts"]):
        del part["mesh"]


def test_a_category_of_one_run_is_absent_in_the_other(run_like):
    other = run_like("b", 1, without_mesh, config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)
    (other / "results/mesh.json").unlink()
    comparison = compare([run_like("a", image_auroc=0.25), other])
    assert comparison.refusals == []
    assert re.search(r"mesh [\d.]+ absent mean of 1 shared 25.00 50.00", text_of(comparison_page(comparison)))


def test_a_category_that_some_seeds_have_says_how_many(run_like):
    other = run_like("b", 1, without_mesh)
    (other / "results/mesh.json").unlink()
    assert "1 of 2 seeds" in text_of(comparison_page(compare([run_like("a"), other])))


def test_the_highest_of_a_row_is_marked(run_like):
    low = run_like("a", image_auroc=0.25)
    high = run_like("b", config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)
    page = comparison_page(compare([low, high]))
    assert re.search(r'<td class=best data-value="0.5">50.00', page)
    assert not re.search(r'<td class=best data-value="0.25">', page)


def test_names_are_escaped(run_like):
    runs = [run_like(name, config=("config_name: tiny", "config_name: '<img src=x>'")) for name in ("a", "b")]
    assert "<img" not in comparison_page(compare(runs))


def test_one_run_is_no_comparison(run_like):
    with pytest.raises(AnoframeError, match="two runs or more"):
        compare([run_like("a")])


def test_a_run_without_results_is_named(run_like):
    runs = [run_like("a"), run_like("b")]
    (runs[1] / "metrics.json").unlink()
    with pytest.raises(AnoframeError, match=f"{runs[1]} has no metrics.json"):
        compare(runs)


def test_a_comparison_is_written(run_like, tmp_path):
    write_comparison([run_like("a"), run_like("b", 1)], tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "://" not in page


# ------------------------------------------------------------------------------------------------ the tool


@pytest.fixture
def tool(monkeypatch, capsys):
    """Calls `tools/report.py`: its status, and what it says."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOL), run_name="__main__")
        return stop.value.code, capsys.readouterr()

    return call


def test_the_tool_writes_the_report_of_a_run_again(tool, run_like):
    run = run_like("a")
    (run / "report.html").unlink()
    status, said = tool(run)
    assert (status, said.out) == (0, f"report: {run / 'report.html'}\n")
    assert (run / "report.html").is_file()


def test_the_tool_compares(tool, run_like, tmp_path):
    status, said = tool(run_like("a"), run_like("b", 1), "--output", tmp_path / "x.html")
    assert (status, said.out) == (0, f"comparison: {tmp_path / 'x.html'}\n")
    assert (tmp_path / "x.html").is_file()


def test_the_tool_tells_what_it_refused(tool, run_like, tmp_path):
    other = run_like("b", 1, set_in(["data"], "crop", 32))
    status, said = tool(run_like("a"), other, "--output", tmp_path / "x.html")
    assert status == 1
    assert said.err.startswith("refused: ")
    assert "data.crop: 64 and 32" in said.err


def test_the_tool_names_what_it_cannot_read(tool, tmp_path):
    status, said = tool(tmp_path)
    assert status == 2
    assert said.err.startswith(f"error: {tmp_path} is not a run folder")


def test_the_tool_takes_an_output_for_several_runs_only(tool, run_like):
    status, said = tool(run_like("a"), "--output", "x.html")
    assert status == 2
    assert "--output is for several runs" in said.err
