"""What `results/continual.json` holds: its keys, which are those of the seed's format and more, and its averages."""

from __future__ import annotations

import numpy as np
import pytest
from stream_example import TASKS, rows, stream_example

from anoframe.continual.results import expansion_line, growth_line, stream_line, stream_results
from anoframe.metrics.localisation import aupro
from anoframe.metrics.ranking import auroc
from anoframe.utils.files import read_json, write_json

HEAD = {"seed": 3, "git": None, "strategy": "finetune", "class_order": ["a", "b", "c"], "key_metric": "pixel_auroc"}
KEYS = {
    "config", "task_performance", "class_performance", "cl_metrics", "adapter_stats", "expansions", "R",
    "params_total", "params_trainable", "seconds", "seed", "git",
}  # fmt: skip


@pytest.fixture
def results():
    return stream_example()


def small(values, tasks=(("a", "b"), ("c",)), **head):
    """Results of a stream of which one metric is known: `values[i]` are those of all categories after task i."""
    categories = [category for task in tasks for category in task]
    known = [{c: {"pixel_auroc": v} for c, v in zip(categories, row, strict=True)} for row in values]
    about = [{"seconds": 1.0, "params_total": 5, "params_trainable": 2} for _ in values]
    return stream_results(tasks, known, about, {**HEAD, **head})


# ------------------------------------------------------------------------------------------------ the schema


def test_the_keys_are_these(results):
    assert results.keys() == KEYS
    assert results["config"].keys() == {
        "class_order", "num_tasks", "classes_per_task", "tasks", "strategy", "key_metric", "sema_config",
    }  # fmt: skip


def test_the_config_says_what_the_stream_is(results):
    config = results["config"]
    assert (config["num_tasks"], config["classes_per_task"]) == (5, [2, 1, 1, 2, 1])
    assert config["class_order"] == [category for task in config["tasks"] for category in task]
    assert config["sema_config"]["expansion_threshold"] == 3.0


def test_a_task_is_evaluated_on_all_tasks_seen(results):
    assert {name: list(found) for name, found in results["task_performance"].items()} == {
        f"task_{i}": [f"eval_{j}" for j in range(i + 1)] for i in range(5)
    }


def test_classes_of_later_tasks_are_there_too(results):
    assert [len(found) for found in results["class_performance"].values()] == [7] * 5


def test_the_matrix_of_each_metric_has_a_row_and_a_column_a_task(results):
    assert {name: [len(row) for row in matrix] for name, matrix in results["R"].items()} == {
        name: [5] * 5 for name in ("image_auroc", "image_ap", "pixel_auroc", "aupro")
    }


def test_the_averages_of_each_task_have_the_keys_of_the_format(results):
    for task, one in enumerate(results["cl_metrics"]):
        assert one.keys() == {"average_performance", "average_forgetting", "forgetting_per_task", "by_metric"}
        assert list(one["forgetting_per_task"]) == [str(earlier) for earlier in range(task)]
        for values in one["by_metric"].values():
            assert values.keys() == {"acc", "acc_classes", "aia", "fm", "fm_diagonal", "bwt", "fwt"}


def test_all_adapters_are_the_sum_of_those_of_the_layers(results):
    for stats in results["adapter_stats"]:
        assert stats.keys() == {"total_modules", "total_adapters", "adapters_per_layer"}
        layers = stats["adapters_per_layer"]
        assert {key for one in layers for key in one} == {"layer_id", "kind", "num_adapters"}
        assert stats["total_adapters"] == sum(one["num_adapters"] for one in layers)
        assert stats["total_modules"] == len(layers)


def test_an_expansion_says_where_when_and_why(results):
    assert len(results["expansions"]) == 7
    for event in results["expansions"]:
        assert event.keys() == {"task", "site", "batch", "pass", "min_z", "all_z"}
        assert event["min_z"] == min(event["all_z"])


def test_it_is_json_and_comes_back_the_same(results, tmp_path):
    write_json(tmp_path / "continual.json", results)
    assert read_json(tmp_path / "continual.json") == results


def test_what_does_not_grow_has_empty_statistics():
    found = stream_example(strategy="finetune")
    assert (found["adapter_stats"], found["expansions"], found["config"]["sema_config"]) == ([{}] * 5, [], {})


@pytest.mark.parametrize("learned", [1, 2, 4])
def test_after_some_tasks_it_is_the_beginning_of_the_whole(results, learned):
    part = stream_example(learned)
    for name in ("cl_metrics", "adapter_stats", "params_total", "params_trainable", "seconds"):
        assert part[name] == results[name][:learned]
    for name in ("task_performance", "class_performance"):
        assert part[name] == {f"task_{i}": results[name][f"task_{i}"] for i in range(learned)}
    assert part["R"] == {name: matrix[:learned] for name, matrix in results["R"].items()}


def test_before_the_first_task_it_is_empty():
    found = stream_results(TASKS, [], [], {**HEAD, "strategy": "expand"})
    assert (found["R"], found["cl_metrics"], found["config"]["num_tasks"]) == ({}, [], 5)


def test_rows_without_what_they_took_are_refused():
    with pytest.raises(ValueError, match="5 rows of metrics, and 0 entries"):
        stream_results(TASKS, rows(), [], HEAD)


# ------------------------------------------------------------------------------------------------ averages


def test_a_task_is_the_mean_of_its_classes_and_two_averages_weigh_them():
    last = small([[0.5, 0.7, 0.1], [0.4, 0.6, 1.0]])["cl_metrics"][-1]
    found = last["by_metric"]["pixel_auroc"]
    assert found["acc"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["acc_classes"] == pytest.approx((0.4 + 0.6 + 1.0) / 3)
    assert last["average_performance"] == found["acc"]


def test_classes_of_tasks_to_come_are_in_no_average():
    first = small([[0.5, 0.7, 0.1], [0.4, 0.6, 1.0]])["cl_metrics"][0]["by_metric"]["pixel_auroc"]
    assert first["acc"] == first["acc_classes"] == pytest.approx((0.5 + 0.7) / 2)


def test_measures_over_time_stand_under_their_own_names():
    values = [[0.5, 0.25, 0.25], [0.75, 0.5, 0.75], [0.25, 0.75, 1.0]]
    found = small(values, (("a",), ("b",), ("c",)))["cl_metrics"][-1]["by_metric"]["pixel_auroc"]
    assert found == pytest.approx({
        "acc": (0.25 + 0.75 + 1.0) / 3,
        "acc_classes": (0.25 + 0.75 + 1.0) / 3,
        "aia": (0.5 + (0.75 + 0.5) / 2 + (0.25 + 0.75 + 1.0) / 3) / 3,
        "fm": ((0.75 - 0.25) + (0.5 - 0.75)) / 2,
        "fm_diagonal": ((0.5 - 0.25) + (0.5 - 0.75)) / 2,
        "bwt": ((0.25 - 0.5) + (0.75 - 0.5)) / 2,
        "fwt": ((0.25 - 0.5) + (0.75 - 0.5)) / 2,
    })  # fmt: skip


def test_forgetting_of_the_format_is_that_of_the_best():
    tasks = (("a",), ("b",), ("c",))
    last = small([[0.5, 0.0, 0.0], [0.75, 0.5, 0.0], [0.5, 0.5, 0.5]], tasks)["cl_metrics"][-1]
    assert last["forgetting_per_task"] == {"0": 0.25, "1": 0.0}
    assert last["average_forgetting"] == last["by_metric"]["pixel_auroc"]["fm"] == 0.125
    assert last["by_metric"]["pixel_auroc"]["fm_diagonal"] == 0.0


def test_after_the_first_task_forgetting_is_not_known():
    first = small([[0.5, 0.7, 0.1]])["cl_metrics"][0]
    assert (first["average_forgetting"], first["forgetting_per_task"]) == (None, {})


def test_forward_transfer_is_measured_from_a_constant_score():
    assert small([[0.5, 0.7, 0.25], [0.4, 0.6, 1.0]])["cl_metrics"][-1]["by_metric"]["pixel_auroc"]["fwt"] == -0.25


@pytest.mark.parametrize("name", ["image_auroc", "pixel_auroc", "aupro"])
def test_a_detector_that_scores_all_alike_has_no_forward_transfer(name):
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:5, 2:5] = True
    nothing = np.zeros(masks.shape)
    alike = aupro(masks, nothing) if name == "aupro" else auroc(masks.ravel(), nothing.ravel())
    known = [{"a": {name: 0.9, "pixel_auroc": 0.5}, "b": {"pixel_auroc": 0.5, name: alike}}] * 2
    about = [{"seconds": 1.0, "params_total": 5, "params_trainable": 2}] * 2
    last = stream_results((("a",), ("b",)), known, about, HEAD)["cl_metrics"][-1]
    assert last["by_metric"][name]["fwt"] == pytest.approx(0, abs=1e-9)


def test_without_a_known_constant_there_is_no_forward_transfer(results):
    last = results["cl_metrics"][-1]["by_metric"]
    assert {name: values["fwt"] is None for name, values in last.items()} == {
        "image_auroc": False, "image_ap": True, "pixel_auroc": False, "aupro": False,
    }  # fmt: skip


def test_a_class_without_the_metric_is_left_out_and_never_0(results):
    assert results["R"]["pixel_auroc"][4][1] is None
    known = [value for value in results["R"]["pixel_auroc"][4] if value is not None]
    assert results["cl_metrics"][-1]["average_performance"] == pytest.approx(sum(known) / 4)
    assert results["cl_metrics"][-1]["forgetting_per_task"]["1"] is None


def test_an_auroc_below_a_half_stays_there():
    assert small([[0.25, 0.25, 0.0]])["R"]["pixel_auroc"][0] == [0.25, 0.0]


def test_a_class_that_was_not_evaluated_is_not_available():
    known = [{"a": {"pixel_auroc": 0.5}}, {"a": {"pixel_auroc": 0.5}, "b": {"pixel_auroc": 1.0}}]
    about = [{"seconds": 1.0, "params_total": 5, "params_trainable": 2}] * 2
    assert stream_results((("a", "b"), ("c",)), known, about, HEAD)["R"]["pixel_auroc"] == [[0.5, None], [0.75, None]]


def test_all_tasks_at_once_have_averages_over_all_and_no_forgetting():
    found = small([[0.5, 0.75, 1.0]], (("a",), ("b",), ("c",)), strategy="joint")
    assert list(found["task_performance"]["task_0"]) == ["eval_0", "eval_1", "eval_2"]
    only = found["cl_metrics"][0]["by_metric"]["pixel_auroc"]
    assert {name: value for name, value in only.items() if value is not None} == {"acc": 0.75, "acc_classes": 0.75}
    assert found["cl_metrics"][0]["average_performance"] == 0.75


# ------------------------------------------------------------------------------------------------ lines


def test_the_line_of_a_task_has_averages_and_what_is_not_available():
    line = stream_line(small([[0.5, 0.7, 0.1]]))
    assert line == "after task 0 of 0 to 1: pixel_auroc 60.00 (ACC), forgetting n/a"


def test_the_line_of_growth_counts_what_a_task_added(results):
    growth = {"adapter_stats": results["adapter_stats"][-1], "expansions": results["expansions"]}
    assert growth_line(growth, 1) == "15 adapters at 8 sites; task 1 added 2"
    assert growth_line(growth, 2).endswith("task 2 added none")


def test_the_line_of_an_expansion_says_where_and_how_strange_it_was():
    event = {"task": 1, "site": [5, "ffn"], "pass": 0, "batch": 2, "min_z": 4.754, "all_z": [9.5, 4.754]}
    assert expansion_line(event) == "task 1 grows an adapter at layer 5 ffn (z 4.75)"


@pytest.mark.parametrize(("threshold", "told"), [(3.0, "threshold 3"), (None, "no threshold")])
def test_the_line_of_growth_says_how_near_a_task_came_to_an_expansion(results, threshold, told):
    """Layer 7, which is stranger, may not expand; the scan of another task says nothing of this one."""
    scans = [{"task": task, "min_z": [z] * 7 + [9.5]} for task, z in ((1, 8.5), (2, 1.25), (2, 2.5))]
    settings = {"expand_start": 0, "expand_end": 6, "expansion_threshold": threshold}
    growth = {"adapter_stats": results["adapter_stats"][-1], "expansions": [], "scans": scans, "sema_config": settings}
    assert growth_line(growth, 2).endswith(f"task 2 added none (z up to 2.50, {told})")
    assert growth_line(growth, 0).endswith("sites")


def test_what_hardly_changed_has_no_sign_in_the_line_of_a_stream():
    assert "forgetting 0.00" in stream_line(small([[0.7, 0.7, 0.5], [0.70000001, 0.7, 0.6]]))


def test_the_line_of_a_task_has_the_forgetting_of_the_best():
    values = [[0.5, 0.0, 0.0], [0.75, 0.5, 0.0], [0.5, 0.5, 0.5]]
    assert stream_line(small(values, (("a",), ("b",), ("c",)))).endswith("pixel_auroc 50.00 (ACC), forgetting 12.50")


def test_without_adapters_there_is_no_line_of_growth():
    assert growth_line({}, 1) == ""
