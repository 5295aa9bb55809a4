"""The summary and the messages of SEMA-UniAD."""

from __future__ import annotations

import json

import pytest
from sema_stream import ALWAYS, TWO_LAYERS, make_cluster, make_small, make_trained, run_scan

from anoframe.models.sema_uniad.adapters import AdapterSite
from anoframe.models.sema_uniad.progress import Progress
from anoframe.models.sema_uniad.settings import SemaSettings
from anoframe.models.sema_uniad.summary import expansion_messages, summarize

SITES = [AdapterSite(layer, "ffn", None, f"layer{layer}") for layer in range(3)]
EVENT = {"task": 1, "site": [1, "ffn"], "pass": 0, "batch": 2, "min_z": 4.754, "all_z": [9.5, 4.754]}


def make_progress(slot_tasks=([0], [0, 1], [0, 2]), **changes):
    values = {"task": 2, "finished": True, "expansions": [EVENT], **changes}
    return Progress([list(tasks) for tasks in slot_tasks], [], **values)


def summarize_example(progress=None, **settings):
    return summarize(SemaSettings(**settings), SITES, progress or make_progress())


def test_scalars_have_the_names_of_wandb():
    assert summarize_example().scalars == {
        "growth/total_adapters": 5,
        "growth/layer_0_ffn": 1,
        "growth/layer_1_ffn": 2,
        "growth/layer_2_ffn": 2,
    }


def test_the_table_of_adapters_has_one_row_per_site_and_one_column_per_task():
    table, _ = summarize_example().tables
    assert (table.name, table.shaded) == ("adapters", True)
    assert table.columns == ["Layer", "Task 0", "Task 1", "Task 2"]
    assert table.rows == [["0 ffn", 1, 1, 1], ["1 ffn", 1, 2, 2], ["2 ffn", 1, 1, 2]]


def test_the_table_of_expansions_has_one_row_per_expansion():
    _, table = summarize_example().tables
    assert table.name == "expansions"
    assert table.columns == ["Task", "Layer", "Pass", "Batch", "Least z", "z of each adapter"]
    assert table.rows == [[1, "1 ffn", 0, 2, 4.754, "9.50, 4.75"]]
    assert "above 3." in table.note


def test_without_a_threshold_the_table_of_expansions_says_so():
    _, table = summarize_example(make_progress(expansions=[]), expansion_threshold=None).tables
    assert table.rows == []
    assert table.note == "Expansion is off: model.sema.expansion_threshold is None."


def test_the_series_has_the_adapters_after_each_task():
    (series,) = summarize_example().series
    assert (series.name, series.points, series.x_label) == ("adapters", [(0, 3), (1, 4), (2, 5)], "task")


def test_the_message_counts_the_adapters_of_a_task():
    progress = make_progress(task=1, expansions=[EVENT, EVENT])
    assert summarize_example(progress).message == "4 adapters at 3 sites; task 1 added 2"
    assert summarize_example().message == "5 adapters at 3 sites; task 2 added none"


@pytest.mark.parametrize("task", [None, 0])
def test_the_message_of_the_first_task_has_only_the_adapters(task):
    progress = make_progress([[0]] * 3, task=task, expansions=[])
    assert summarize_example(progress).message == "3 adapters at 3 sites"


@pytest.mark.parametrize(("threshold", "limit"), [(3.0, "threshold 3"), (None, "no threshold")])
def test_the_message_without_an_expansion_has_the_largest_z_of_the_task(threshold, limit):
    """Layer 2, whose z is larger, may not expand, and the scan of another task does not count."""
    scans = [{"task": task, "min_z": [z, z, 9.5]} for task, z in ((1, 8.5), (2, 1.25), (2, 2.5))]
    summary = summarize_example(make_progress(scans=scans), expand_end=1, expansion_threshold=threshold)
    assert summary.message.endswith(f"; task 2 added none (largest z 2.50, {limit})")


def test_there_is_one_message_per_expansion():
    assert expansion_messages(make_progress()) == ["task 1: new adapter at layer 1 ffn (z 4.75)"]


def test_records_are_json_and_the_total_is_the_sum_over_sites(backbone):
    detector = make_trained(backbone, 2, **ALWAYS, expand_end=1)
    summary = json.loads(json.dumps(detector.summary().to_json(), allow_nan=False))
    stats = summary["task_records"]["adapter_stats"]
    assert stats["total_modules"] == len(stats["adapters_per_layer"]) == 4
    assert stats["total_adapters"] == sum(layer["num_adapters"] for layer in stats["adapters_per_layer"]) == 6
    assert stats["adapters_per_layer"][0] == {"layer_id": 0, "kind": "ffn", "num_adapters": 2}
    assert summary["config_records"]["sema_config"]["expansion_threshold"] == -1.0
    assert set(summary["stream_records"]["expansions"][0]) == {"task", "site", "batch", "pass", "min_z", "all_z"}


def test_messages_are_added_as_sites_expand(backbone):
    detector = make_trained(backbone, 1, uniad=TWO_LAYERS, **ALWAYS, scan_order="joint")
    assert list(detector.messages()) == []
    detector.start_task(1, 12)
    run_scan(detector, make_cluster(1))
    assert [message.split(" (z")[0] for message in detector.messages()] == [
        "task 1: new adapter at layer 0 ffn",
        "task 1: new adapter at layer 1 ffn",
    ]


def test_a_new_detector_has_a_summary(backbone):
    summary = make_small(backbone).summary()
    assert summary.message == "4 adapters at 4 sites"
    assert summary.scalars["growth/total_adapters"] == 4
