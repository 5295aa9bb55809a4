"""Comparison of runs: comparable runs share a table, seeds share a column, and everything else is separate."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from html import unescape
from pathlib import Path

import pytest
from stream_example import stream_example

from anoframe.errors import AnoframeError
from anoframe.report.compare import compare
from anoframe.report.comparison_page import comparison_page, write_comparison
from anoframe.report.stream_record import Stream

TOOL = Path(__file__).resolve().parents[2] / "tools" / "report.py"


@pytest.fixture
def run_like(full_run, change, tmp_path):
    """Copy the finished run: `run_like(name, seed=0, edit=None, config=None, **metrics of felt)`."""

    def copy(name, seed=0, edit=None, config=None, **metrics):
        folder = Path(shutil.copytree(full_run, tmp_path / name))

        def apply(tree):
            tree["provenance"]["seed"] = seed
            tree["categories"]["felt"].update(metrics)
            if edit:
                edit(tree)

        change(folder / "metrics.json", apply)
        path = folder / "config.yaml"
        text = re.sub(r"(?m)^seed: .*", f"seed: {seed}", path.read_text())
        path.write_text(re.sub(*config, text) if config else text)
        return folder

    return copy


def columns(comparison):
    return [[column.seeds for column in table.columns] for table in comparison.tables]


def text_of(page):
    """Visible text of the page, with single spaces."""
    body = page.split("<main>")[1].split("<script>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_seeds_of_one_config_share_a_column(run_like):
    runs = [run_like("a", 0), run_like("b", 1), run_like("c", 2)]
    assert columns(compare(runs)) == [[[0, 1, 2]]]


def test_seeds_have_a_mean_and_a_standard_deviation(run_like):
    runs = [run_like("a", 0, image_auroc=0.9), run_like("b", 1, image_auroc=0.8), run_like("c", 2, image_auroc=1.0)]
    assert "felt 90.00 ± 10.00" in text_of(comparison_page(compare(runs)))


def test_other_config_is_a_column_with_its_differences(run_like):
    runs = [run_like("a"), run_like("b", config=("ratio: 0.1", "ratio: 0.5"))]
    comparison = compare(runs)
    assert columns(comparison) == [[[0], [0]]]
    text = text_of(comparison_page(comparison))
    assert "model.coreset.ratio 0.1 " in text
    assert "model.coreset.ratio 0.5 " in text


def test_keys_that_change_no_result_do_not_split_a_column(run_like):
    runs = [run_like("a"), run_like("b", 1, config=("pictures: 6", "pictures: 9"))]
    assert columns(compare(runs)) == [[[0, 1]]]


def test_repeated_seed_is_a_separate_column(run_like):
    assert columns(compare([run_like("a"), run_like("b")])) == [[[0], [0]]]


def test_other_weights_are_a_separate_column(run_like):
    runs = [run_like("a"), run_like("b", 1, lambda tree: tree["provenance"]["backbone"].update(sha256="f" * 64))]
    comparison = compare(runs)
    assert columns(comparison) == [[[0], [1]]]
    assert "weights ffffffffffff" in text_of(comparison_page(comparison))


def set_provenance(section, key, value):
    """Return an edit of `metrics.json`."""

    def edit(tree):
        node = tree["provenance"]
        for name in section:
            node = node[name]
        node[key] = value

    return edit


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (["data"], "name", "visa", "dataset: 'folder' and 'visa'"),
        ([], "protocol", "unified", "protocol: 'separate' and 'unified'"),
        (["data"], "resize", 80, "data.resize: 64 and 80"),
        (["data"], "crop", 32, "data.crop: 64 and 32"),
        (["data"], "keep_aspect", True, "data.keep_aspect: False and True"),
        (["data_fingerprint", "mesh"], "test", "0" * 32, "test_data.mesh: 'MESH' and '000000000000'"),
        (["counts", "felt"], "train", 5, "counts.felt.train: 6 and 5"),
        (["counts", "mesh"], "test_good", 2, "counts.mesh.test_good: 3 and 2"),
    ],
)
def test_incomparable_runs_get_separate_tables_with_the_reason(run_like, section, key, value, message):
    first, second = run_like("a"), run_like("b", 1, set_provenance(section, key, value))
    recorded = json.loads((first / "metrics.json").read_text())["provenance"]["data_fingerprint"]
    message = message.replace("MESH", recorded["mesh"]["test"][:12])
    comparison = compare([first, second])
    assert len(comparison.tables) == 2
    assert comparison.refusals == [f"{first} and {second} do not share a table, they differ in {message}"]
    assert f"they differ in {message}" in text_of(comparison_page(comparison))


CHOSEN = set_provenance([], "selected", "best on test")


def test_run_with_epoch_chosen_on_the_test_set_has_a_marked_column(run_like):
    comparison = compare([run_like("a"), run_like("b", 1, CHOSEN)])
    assert columns(comparison) == [[[0], [1]]]
    assert "seed 1 tf_efficientnet_lite0" in (text := text_of(comparison_page(comparison)))
    assert re.search(r"seed 1 [^‡]*‡ the epoch was chosen on the test set", text)


def test_seeds_with_epoch_chosen_on_the_test_set_share_a_column(run_like):
    assert columns(compare([run_like("a", 0, CHOSEN), run_like("b", 1, CHOSEN)])) == [[[0, 1]]]


def test_run_with_epoch_chosen_on_the_test_set_is_never_the_best(run_like):
    runs = [run_like("a", image_auroc=0.25), run_like("b", config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)]
    page = comparison_page(compare([*runs, run_like("c", 1, CHOSEN, image_auroc=0.75)]))
    assert '<td class="best" data-value="0.5">' in page
    assert '<td data-value="0.75">' in page


def without_mesh(tree):
    for section in (tree["categories"], tree["provenance"]["counts"]):
        del section["mesh"]


def test_category_of_one_run_is_absent_in_the_other(run_like):
    other = run_like("b", 1, without_mesh, config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)
    (other / "results/mesh.json").unlink()
    comparison = compare([run_like("a", image_auroc=0.25), other])
    assert comparison.refusals == []
    assert re.search(r"mesh [\d.]+ absent mean of 1 shared 25.00 50.00", text_of(comparison_page(comparison)))


def test_category_that_only_some_seeds_have_shows_their_number(run_like):
    other = run_like("b", 1, without_mesh)
    (other / "results/mesh.json").unlink()
    assert "1 of 2 seeds" in text_of(comparison_page(compare([run_like("a"), other])))


def test_highest_value_of_a_row_is_marked(run_like):
    low = run_like("a", image_auroc=0.25)
    high = run_like("b", config=("ratio: 0.1", "ratio: 0.5"), image_auroc=0.5)
    page = comparison_page(compare([low, high]))
    assert re.search(r'<td class="best" data-value="0.5">50.00', page)
    assert not re.search(r'<td class="best" data-value="0.25">', page)


def test_names_are_escaped(run_like):
    runs = [run_like(name, config=("config_name: tiny", "config_name: '<img src=x>'")) for name in ("a", "b")]
    assert "<img" not in comparison_page(compare(runs))


def test_single_run_is_an_error(run_like):
    with pytest.raises(AnoframeError, match="two runs or more"):
        compare([run_like("a")])


def test_run_without_results_is_an_error_with_its_folder(run_like):
    runs = [run_like("a"), run_like("b")]
    (runs[1] / "metrics.json").unlink()
    with pytest.raises(AnoframeError, match=f"{runs[1]} has no metrics.json"):
        compare(runs)


def test_comparison_is_written_as_one_file(run_like, tmp_path):
    write_comparison([run_like("a"), run_like("b", 1)], tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "://" not in page


# ------------------------------------------------------------------------------------------------ method summaries


def test_scalars_of_method_summaries_are_rows(run_like, monkeypatch):
    folders = [run_like("a", config=("ratio: 0.1", "ratio: 0.5")), run_like("b"), run_like("c", 1)]
    trees = [stream_example(5, "finetune"), stream_example(), stream_example()]
    for folder, tree in zip(folders, trees, strict=True):
        (folder / "results/continual.json").write_text(json.dumps(tree), encoding="utf-8")
    comparison = compare(folders)
    monkeypatch.setattr(Stream, "last_scalars", Stub({"finetune": {"extra": 4000.5}}, {"adapters": 15}), raising=False)
    page = comparison_page(comparison)
    region = re.search('aria-label="Cost and method summary">(.*?)</table>', page, re.DOTALL)[1]
    rows = [text_of(f"<main>{row}") for row in re.findall("<tr>.*?</tr>", region, re.DOTALL)[1:]]
    assert rows[0].startswith("parameters, millions ")
    assert rows[1].startswith("training time, seconds ")
    assert rows[2:] == ["extra 4,000.50 n/a", "adapters n/a 15.00"]


class Stub:
    """`Stream.last_scalars`, by strategy."""

    def __init__(self, by_strategy, default):
        self.by_strategy, self.default = by_strategy, default

    def __get__(self, stream, owner):
        return lambda: self.by_strategy.get(stream.strategy, self.default)


def test_comparison_without_streams_has_no_method_summary(run_like):
    assert "method summary" not in comparison_page(compare([run_like("a"), run_like("b", 1)]))


# ------------------------------------------------------------------------------------------------ tools/report.py


@pytest.fixture
def tool(monkeypatch, capsys):
    """Call `tools/report.py`: exit status, output and errors."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOL), run_name="__main__")
        return stop.value.code, capsys.readouterr()

    return call


def test_tool_writes_the_report_of_a_run_again(tool, run_like):
    run = run_like("a")
    (run / "report.html").unlink()
    status, streams = tool(run)
    assert (status, streams.out) == (0, f"report: {run / 'report.html'}\n")
    assert (run / "report.html").is_file()


def test_tool_compares_runs(tool, run_like, tmp_path):
    status, streams = tool(run_like("a"), run_like("b", 1), "--output", tmp_path / "x.html")
    assert (status, streams.out) == (0, f"comparison: {tmp_path / 'x.html'}\n")
    assert (tmp_path / "x.html").is_file()


def test_tool_prints_why_runs_have_separate_tables(tool, run_like, tmp_path):
    other = run_like("b", 1, set_provenance(["data"], "crop", 32))
    status, streams = tool(run_like("a"), other, "--output", tmp_path / "x.html")
    assert status == 1
    assert streams.err.startswith("refused: ")
    assert "data.crop: 64 and 32" in streams.err


def test_tool_names_a_folder_that_is_not_a_run(tool, tmp_path):
    status, streams = tool(tmp_path)
    assert status == 2
    assert streams.err.startswith(f"error: {tmp_path} is not a run folder")


def test_tool_accepts_output_only_for_several_runs(tool, run_like):
    status, streams = tool(run_like("a"), "--output", "x.html")
    assert status == 2
    assert "--output needs several runs" in streams.err
