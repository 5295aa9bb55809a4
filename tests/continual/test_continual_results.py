"""Results of a stream: keys of `results/continual.json`, averages, method summaries, and the console line."""

from __future__ import annotations

import numpy as np
import pytest
from stream_example import TASKS, rows, stream_example

from anoframe.continual.results import stream_line, stream_results
from anoframe.metrics.aupro import aupro
from anoframe.metrics.auroc import auroc
from anoframe.metrics.catalogue import STREAM, SUMMARY
from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.utils.files import read_json, write_json

HEAD = {"seed": 3, "git": None, "strategy": "finetune", "class_order": ["a", "b", "c"], "key_metric": "pixel_auroc"}
ABOUT = {"seconds": 1.0, "params_total": 5, "params_trainable": 2}
KEYS = {
    "config", "task_performance", "class_performance", "cl_metrics", "adapter_stats", "expansions", "R",
    "params_total", "params_trainable", "seconds", "seed", "git", "method_summaries",
}  # fmt: skip


@pytest.fixture
def results():
    return stream_example()


def small_results(values, tasks=(("a", "b"), ("c",)), **head):
    """Results of a stream with one metric: `values[i]` are the values of all categories after task i."""
    categories = [category for task in tasks for category in task]
    rows = [{c: {"pixel_auroc": v} for c, v in zip(categories, row, strict=True)} for row in values]
    return stream_results(tasks, rows, [ABOUT for _ in values], {**HEAD, **head})


# ------------------------------------------------------------------------------------------------ keys


def test_keys_of_the_file(results):
    assert results.keys() == KEYS
    assert results["config"].keys() == {
        "class_order", "num_tasks", "classes_per_task", "tasks", "strategy", "key_metric", "sema_config",
    }  # fmt: skip


def test_config_describes_the_stream(results):
    config = results["config"]
    assert (config["num_tasks"], config["classes_per_task"]) == (5, [2, 1, 1, 2, 1])
    assert config["class_order"] == [category for task in config["tasks"] for category in task]
    assert config["sema_config"]["expansion_threshold"] == 3.0


def test_task_performance_has_all_tasks_seen_so_far(results):
    assert {name: list(tasks) for name, tasks in results["task_performance"].items()} == {
        f"task_{i}": [f"eval_{j}" for j in range(i + 1)] for i in range(5)
    }


def test_class_performance_has_the_categories_of_later_tasks_too(results):
    assert [len(categories) for categories in results["class_performance"].values()] == [7] * 5


def test_matrix_of_each_metric_has_one_row_and_one_column_per_task(results):
    assert {name: [len(row) for row in matrix] for name, matrix in results["R"].items()} == {
        name: [5] * 5 for name in ("image_auroc", "image_ap", "pixel_auroc", "aupro")
    }


def test_keys_of_the_averages_after_each_task(results):
    for task, averages in enumerate(results["cl_metrics"]):
        assert averages.keys() == {"average_performance", "average_forgetting", "forgetting_per_task", "by_metric"}
        assert list(averages["forgetting_per_task"]) == [str(earlier) for earlier in range(task)]
        for values in averages["by_metric"].values():
            assert values.keys() == {"acc", "acc_classes", "aia", "fm", "fm_diagonal", "bwt", "fwt"}
            assert tuple(values) == STREAM


def test_total_adapters_are_the_sum_over_layers(results):
    for stats in results["adapter_stats"]:
        assert stats.keys() == {"total_modules", "total_adapters", "adapters_per_layer"}
        layers = stats["adapters_per_layer"]
        assert {key for layer in layers for key in layer} == {"layer_id", "kind", "num_adapters"}
        assert stats["total_adapters"] == sum(layer["num_adapters"] for layer in layers)
        assert stats["total_modules"] == len(layers)


def test_keys_of_an_expansion(results):
    assert len(results["expansions"]) == 7
    for event in results["expansions"]:
        assert event.keys() == {"task", "site", "batch", "pass", "min_z", "all_z"}
        assert event["min_z"] == min(event["all_z"])


def test_results_can_be_written_and_read_as_json(results, tmp_path):
    write_json(tmp_path / "continual.json", results)
    assert read_json(tmp_path / "continual.json") == results


def test_records_of_a_method_without_a_summary_are_empty():
    results = stream_example(strategy="finetune")
    assert (results["adapter_stats"], results["expansions"], results["config"]["sema_config"]) == ([{}] * 5, [], {})
    assert results["method_summaries"] == [{"scalars": {}, "tables": [], "series": []}] * 5


@pytest.mark.parametrize("num_tasks", [1, 2, 4])
def test_results_after_some_tasks_are_the_beginning_of_all_results(results, num_tasks):
    partial = stream_example(num_tasks)
    for name in ("cl_metrics", "adapter_stats", "params_total", "params_trainable", "seconds"):
        assert partial[name] == results[name][:num_tasks]
    for name in ("task_performance", "class_performance"):
        assert partial[name] == {f"task_{i}": results[name][f"task_{i}"] for i in range(num_tasks)}
    assert partial["R"] == {name: matrix[:num_tasks] for name, matrix in results["R"].items()}


def test_results_before_the_first_task_are_empty():
    results = stream_results(TASKS, [], [], {**HEAD, "strategy": "native"})
    assert (results["R"], results["cl_metrics"], results["config"]["num_tasks"]) == ({}, [], 5)
    assert (results["adapter_stats"], results["expansions"], results["method_summaries"]) == ([], [], [])


def test_rows_without_entries_about_them_raise_an_error():
    with pytest.raises(ValueError, match="5 rows of metrics, but 0 entries"):
        stream_results(TASKS, rows(), [], HEAD)


# ------------------------------------------------------------------------------------------------ averages


def test_acc_averages_tasks_and_acc_classes_averages_categories():
    last = small_results([[0.5, 0.7, 0.1], [0.4, 0.6, 1.0]])["cl_metrics"][-1]
    values = last["by_metric"]["pixel_auroc"]
    assert values["acc"] == pytest.approx((0.5 + 1.0) / 2)
    assert values["acc_classes"] == pytest.approx((0.4 + 0.6 + 1.0) / 3)
    assert last["average_performance"] == values["acc"]


def test_averages_exclude_categories_of_later_tasks():
    first = small_results([[0.5, 0.7, 0.1], [0.4, 0.6, 1.0]])["cl_metrics"][0]["by_metric"]["pixel_auroc"]
    assert first["acc"] == first["acc_classes"] == pytest.approx((0.5 + 0.7) / 2)


def test_each_stream_metric_has_its_definition():
    values = [[0.5, 0.25, 0.25], [0.75, 0.5, 0.75], [0.25, 0.75, 1.0]]
    metrics = small_results(values, (("a",), ("b",), ("c",)))["cl_metrics"][-1]["by_metric"]["pixel_auroc"]
    assert metrics == pytest.approx({
        "acc": (0.25 + 0.75 + 1.0) / 3,
        "acc_classes": (0.25 + 0.75 + 1.0) / 3,
        "aia": (0.5 + (0.75 + 0.5) / 2 + (0.25 + 0.75 + 1.0) / 3) / 3,
        "fm": ((0.75 - 0.25) + (0.5 - 0.75)) / 2,
        "fm_diagonal": ((0.5 - 0.25) + (0.5 - 0.75)) / 2,
        "bwt": ((0.25 - 0.5) + (0.75 - 0.5)) / 2,
        "fwt": ((0.25 - 0.5) + (0.75 - 0.5)) / 2,
    })  # fmt: skip


def test_average_forgetting_is_measured_from_the_best_value():
    tasks = (("a",), ("b",), ("c",))
    last = small_results([[0.5, 0.0, 0.0], [0.75, 0.5, 0.0], [0.5, 0.5, 0.5]], tasks)["cl_metrics"][-1]
    assert last["forgetting_per_task"] == {"0": 0.25, "1": 0.0}
    assert last["average_forgetting"] == last["by_metric"]["pixel_auroc"]["fm"] == 0.125
    assert last["by_metric"]["pixel_auroc"]["fm_diagonal"] == 0.0


def test_forgetting_is_not_available_after_the_first_task():
    first = small_results([[0.5, 0.7, 0.1]])["cl_metrics"][0]
    assert (first["average_forgetting"], first["forgetting_per_task"]) == (None, {})


def test_forward_transfer_is_measured_from_a_constant_score():
    assert (
        small_results([[0.5, 0.7, 0.25], [0.4, 0.6, 1.0]])["cl_metrics"][-1]["by_metric"]["pixel_auroc"]["fwt"] == -0.25
    )


@pytest.mark.parametrize("name", SUMMARY)
def test_constant_scores_have_a_forward_transfer_of_0(name):
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:5, 2:5] = True
    maps = np.zeros(masks.shape)
    constant = aupro(masks, maps) if name == "aupro" else auroc(masks.ravel(), maps.ravel())
    row = {"a": {name: 0.9, "pixel_auroc": 0.5}, "b": {"pixel_auroc": 0.5, name: constant}}
    last = stream_results((("a",), ("b",)), [row] * 2, [ABOUT] * 2, HEAD)["cl_metrics"][-1]
    assert last["by_metric"][name]["fwt"] == pytest.approx(0, abs=1e-9)


def test_forward_transfer_is_not_available_without_a_constant_score(results):
    last = results["cl_metrics"][-1]["by_metric"]
    assert {name: values["fwt"] is None for name, values in last.items()} == {
        "image_auroc": False, "image_ap": True, "pixel_auroc": False, "aupro": False,
    }  # fmt: skip


def test_category_without_the_metric_is_excluded_and_not_0(results):
    assert results["R"]["pixel_auroc"][4][1] is None
    available = [value for value in results["R"]["pixel_auroc"][4] if value is not None]
    assert results["cl_metrics"][-1]["average_performance"] == pytest.approx(sum(available) / 4)
    assert results["cl_metrics"][-1]["forgetting_per_task"]["1"] is None


def test_auroc_below_a_half_is_not_clipped():
    assert small_results([[0.25, 0.25, 0.0]])["R"]["pixel_auroc"][0] == [0.25, 0.0]


def test_category_that_was_not_evaluated_is_not_available():
    rows = [{"a": {"pixel_auroc": 0.5}}, {"a": {"pixel_auroc": 0.5}, "b": {"pixel_auroc": 1.0}}]
    results = stream_results((("a", "b"), ("c",)), rows, [ABOUT] * 2, HEAD)
    assert results["R"]["pixel_auroc"] == [[0.5, None], [0.75, None]]


def test_joint_training_has_averages_over_all_tasks_and_no_forgetting():
    results = small_results([[0.5, 0.75, 1.0]], (("a",), ("b",), ("c",)), strategy="joint")
    assert list(results["task_performance"]["task_0"]) == ["eval_0", "eval_1", "eval_2"]
    only = results["cl_metrics"][0]["by_metric"]["pixel_auroc"]
    assert {name: value for name, value in only.items() if value is not None} == {"acc": 0.75, "acc_classes": 0.75}
    assert results["cl_metrics"][0]["average_performance"] == 0.75


# ------------------------------------------------------------------------------------------------ method summaries


def results_with(*summaries):
    """Results of a stream of two tasks with the given method summaries."""
    rows = [{"a": {"pixel_auroc": 0.5}, "b": {"pixel_auroc": 0.5}}] * len(summaries)
    about = [{**ABOUT, "summary": summary.to_json()} for summary in summaries]
    return stream_results((("a",), ("b",)), rows, about, HEAD)


def test_config_and_stream_records_are_those_of_the_latest_task():
    first = MethodSummary(config_records={"slots": 1}, stream_records={"events": ["first"]})
    second = MethodSummary(config_records={"slots": 2}, stream_records={"events": ["first", "second"]})
    results = results_with(first, second)
    assert (results["config"]["slots"], results["events"]) == (2, ["first", "second"])


def test_task_records_are_lists_over_tasks():
    results = results_with(MethodSummary(), MethodSummary(task_records={"bank": 7, "adapter_stats": {"total": 3}}))
    assert results["bank"] == [None, 7]
    assert results["adapter_stats"] == [{}, {"total": 3}]


def test_method_summaries_have_scalars_of_every_task_and_tables_of_the_latest():
    table, series = Table("banks", "Banks", ["task", "size"], [[0, 5]]), Series("size", [(0, 5)])
    first = MethodSummary({"bank/size": 5.0}, [table], [series], message="5 entries")
    second = MethodSummary({"bank/size": 9.0}, [table], [series])
    tables, lines = second.to_json()["tables"], second.to_json()["series"]
    assert results_with(first, second)["method_summaries"] == [
        {"scalars": {"bank/size": 5.0}, "tables": [], "series": []},
        {"scalars": {"bank/size": 9.0}, "tables": tables, "series": lines},
    ]


# ------------------------------------------------------------------------------------------------ console line


def test_line_has_averages_and_marks_missing_values():
    line = stream_line(small_results([[0.5, 0.7, 0.1]]))
    assert line == "after task 0 (tasks 0 to 1): pixel_auroc 60.00 (ACC), forgetting n/a"


def test_line_of_joint_training():
    line = stream_line(small_results([[0.5, 0.75, 1.0]], strategy="joint"))
    assert line == "all tasks at once: pixel_auroc 81.25 (ACC), forgetting n/a"


def test_line_has_the_summary_metrics(results):
    parts = stream_line(results).removeprefix("after task 4 (tasks 0 to 4): ").split("; ")
    assert [part.split()[0] for part in parts] == list(SUMMARY)


def test_tiny_changes_have_no_sign_in_the_line():
    assert "forgetting 0.00" in stream_line(small_results([[0.7, 0.7, 0.5], [0.70000001, 0.7, 0.6]]))


def test_forgetting_in_the_line_is_measured_from_the_best_value():
    values = [[0.5, 0.0, 0.0], [0.75, 0.5, 0.0], [0.5, 0.5, 0.5]]
    line = stream_line(small_results(values, (("a",), ("b",), ("c",))))
    assert line.endswith("pixel_auroc 50.00 (ACC), forgetting 12.50")
