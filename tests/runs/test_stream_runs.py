"""Runs on a stream of tasks: what they write, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import children
import pytest
import torch
from safetensors.torch import load_file
from tiny_data import TINY_DATA

import anoframe
from anoframe.config import load_config
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

HEAD = '"""Small, for tests."""\n\nfrom anoframe.config import inherit\n\ncfg = inherit("{parent}")\n'
COMMON = (
    TINY_DATA
    + """cfg.model.backbone.name = "test_resnet"
cfg.model.backbone.weights = "random"
cfg.report.pictures = 2
cfg.protocol.name = "continual"
"""
)
SHORT = """cfg.model.width = 0.1
cfg.model.depths = (1, 1, 1)
cfg.trainer.epochs = 2
cfg.trainer.batch_size = 2
cfg.trainer.save_minutes = 0.0
"""
EXPANDING = """cfg.model.width = 16
cfg.model.heads = 2
cfg.model.hidden = 16
cfg.model.encoder_layers = 1
cfg.model.decoder_layers = 1
cfg.model.window = 1
cfg.model.sema.end_layer = 1
cfg.model.sema.adapter_bottleneck = 4
cfg.model.sema.descriptor_dim = 4
cfg.trainer.epochs = 2
cfg.trainer.save_minutes = 0.0
cfg.trainer.phases.adapter.epochs = 2
cfg.trainer.phases.adapter.least_steps = 0
cfg.trainer.phases.descriptor.epochs = 2
cfg.trainer.phases.descriptor.least_steps = 0
"""
STREAM = {"protocol.tasks": "felt;mesh"}


@pytest.fixture(scope="module")
def configs(tmp_path_factory, tiny_root) -> dict[str, Path]:
    """Configs of a memory bank, of a trained method, and of one that expands in every task."""
    folder = tmp_path_factory.mktemp("configs")
    texts = {
        "bank": ("patchcore/patchcore_lite0_224.py", "cfg.threshold.held_back = 0.0\n"),
        "trained": ("rd4ad/rd4ad_lite0_256.py", SHORT),
        "expanding": ("sema_uniad/sema_uniad_lite0_always.py", EXPANDING),
    }
    for name, (parent, rest) in texts.items():
        text = (HEAD + COMMON).format(parent=parent, root=str(tiny_root)) + rest
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.py" for name in texts}


@pytest.fixture(scope="module")
def stream(configs, tmp_path_factory):
    """Trains on the stream with a strategy, once for all tests."""
    finished = {}

    def run(name, strategy, **changes):
        key = (name, strategy, *changes.items())
        if key not in finished:
            finished[key] = _train(configs[name], tmp_path_factory.mktemp("runs"), strategy, "new", changes)
        return finished[key]

    return run


def _train(config, output, strategy, start="new", changes=STREAM):
    torch.set_num_threads(1)
    cfg = load_config(config, {**STREAM, "protocol.strategy": strategy, **changes})
    return anoframe.train(cfg, None, output, start)


def results_of(run):
    return json.loads((run.folder / "results/continual.json").read_text())


def matrix(run, metric="pixel_auroc"):
    return results_of(run)["R"][metric]


def learned(run, task):
    return load_file(run.folder / f"checkpoint/task_{task:02d}/learned.safetensors")


# ------------------------------------------------------------------------------------------------ results


def test_every_category_is_tested_after_every_task(stream):
    assert all(value is not None for row in matrix(stream("bank", "finetune")) for value in row)


def test_the_result_of_the_run_is_the_last_row(stream):
    run = stream("bank", "finetune")
    assert [run.metrics[name]["pixel_auroc"] for name in ("felt", "mesh")] == matrix(run)[-1]


def test_a_run_on_a_stream_has_matrices_and_another_run_has_none(stream, tmp_path):
    run = anoframe.load_run(stream("bank", "finetune").folder)
    assert run.stream["R"]["pixel_auroc"] == matrix(run)
    assert run.stream["cl_metrics"][-1]["by_metric"]["pixel_auroc"]["acc"] == pytest.approx(run.mean["pixel_auroc"])
    assert anoframe.test(run.folder, output=tmp_path).stream is None


def test_the_order_is_part_of_the_folder_and_of_the_results(stream):
    run = stream("bank", "finetune", **{"protocol.order_seed": 3})
    assert "continual-finetune-order3" in run.folder.parts
    assert results_of(run)["config"]["class_order"] == ["mesh", "felt"]


def test_the_seconds_of_each_task_are_recorded(stream):
    run = stream("expanding", "native")
    seconds = json.loads((run.folder / "run.json").read_text())["task_seconds"]
    assert run.stream["seconds"] == [seconds["task_00"], seconds["task_01"]]
    assert seconds["task_00"] != seconds["task_01"]


def test_a_selection_on_the_test_set_is_marked_even_if_the_last_task_trains_nothing(stream, tmp_path):
    choosing = {"trainer.select": "best_on_test", "trainer.evaluate_every": 1}
    run = stream("expanding", "native", **STREAM, **choosing, **{"model.sema.expansion_threshold": 1e9})
    assert results_of(run)["params_trainable"][1] == 0
    for done in (run, anoframe.test(run.folder, output=tmp_path)):
        assert done.results.provenance["selected"] == "best on test"
        assert done.results.provenance["trainer"]["epochs"] == 2
    with pytest.raises(AnoframeError, match=r"was trained with trainer\.epochs 2, got 7"):
        anoframe.test(run.folder, load_config(run.folder, {"trainer.epochs": 7}), output=tmp_path / "other")


# ------------------------------------------------------------------------------------------------ strategies


def test_frozen_forgets_nothing_and_learns_nothing(stream):
    run = stream("trained", "frozen")
    first, second = matrix(run)
    assert first == second
    assert all(torch.equal(value, learned(run, 1)[name]) for name, value in learned(run, 0).items())


def test_fine_tuning_changes_the_learned_state(stream):
    run = stream("trained", "finetune")
    assert any(not torch.equal(value, learned(run, 1)[name]) for name, value in learned(run, 0).items())


def test_fine_tuning_replaces_a_memory_bank(stream):
    run = stream("bank", "finetune")
    assert learned(run, 1)["bank"].shape == learned(run, 0)["bank"].shape


def test_the_first_task_is_the_same_with_and_without_a_penalty(stream):
    plain, penalised = learned(stream("trained", "finetune"), 0), learned(stream("trained", "ewc"), 0)
    assert all(torch.equal(value, penalised[name]) for name, value in plain.items())


def test_the_first_task_is_trained_as_the_category_alone(stream, configs, tmp_path):
    cfg = load_config(configs["trained"], {"protocol.name": "separate"})
    alone = anoframe.train(cfg, ["felt"], tmp_path)
    state = load_file(alone.folder / "checkpoint/felt/learned.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in learned(stream("trained", "finetune"), 0).items())


def test_joint_training_equals_the_unified_protocol(stream, configs, tmp_path):
    run = stream("trained", "joint")
    unified = anoframe.train(load_config(configs["trained"], {"protocol.name": "unified"}), ["felt", "mesh"], tmp_path)
    assert matrix(run) == [[unified.metrics[name]["pixel_auroc"] for name in ("felt", "mesh")]]


def test_native_keeps_the_memory_banks_of_earlier_tasks(stream):
    run = stream("bank", "native")
    before, after = learned(run, 0)["bank"], learned(run, 1)["bank"]
    assert torch.equal(after[: len(before)], before)
    assert len(after) == 2 * len(before)


def test_each_later_task_has_a_seed_of_its_own(configs, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr("anoframe.runs.stream_run.seed_everything", seeds.append)
    _train(configs["bank"], tmp_path, "finetune", changes={"protocol.tasks": "felt;mesh", "seed": 7})
    assert seeds[0] == 7
    assert len(set(seeds)) == 2


# ------------------------------------------------------------------------------------------------ expansion


def test_expansions_are_in_the_results(stream):
    """With a threshold below every z-score each site gets one slot per task."""
    results = results_of(stream("expanding", "native"))
    assert [stats["total_adapters"] for stats in results["adapter_stats"]] == [2, 4]
    assert [event["task"] for event in results["expansions"]] == [1, 1]
    assert [event["site"] for event in results["expansions"]] == [[0, "ffn"], [1, "ffn"]]


def test_an_expansion_is_logged_before_its_slot_is_trained(stream):
    run = stream("expanding", "native")
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["event"] == "method_message" or line.get("phase", "").startswith("adapter")]
    assert [line["event"] for line in lines if line["event"] != "step"] == ["method_message", "epoch", "epoch"] * 2


def test_parameters_of_a_stream_include_those_of_its_slots(stream):
    """A slot of width 16 is an adapter and a descriptor of 16 x 4 + 4 + 4 x 16 + 16, and a column of 16 + 1."""
    results = results_of(stream("expanding", "native"))
    (first, second), (trained, trained_later) = results["params_total"], results["params_trainable"]
    slots = 2 * (148 + 148 + 17)
    assert second - first == trained_later == slots
    assert trained == first - 2 * 17  # the router of a single slot has no effect and is not trained


def test_without_expansion_the_number_of_parameters_does_not_depend_on_the_images(configs, tmp_path, tiny_root):
    """Descriptors store one loss per image, and these are no parameters."""
    root = tmp_path / "data"
    for name in ("felt", "mesh"):
        shutil.copytree(tiny_root / name, root / name)
    for path in sorted((root / "felt/train/good").iterdir())[:3]:
        path.unlink()
    changes = {**STREAM, "data.root": str(root), "trainer.epochs": 1}
    run = _train(configs["expanding"], tmp_path, "finetune", changes=changes)
    first, second = results_of(run)["params_total"]
    assert first == second


# ------------------------------------------------------------------------------------------------ using a checkpoint


def test_an_expanded_detector_is_tested_from_its_checkpoint(stream, tmp_path):
    run = stream("expanding", "native")
    assert anoframe.test(run.folder, output=tmp_path).metrics == run.metrics


def test_the_last_detector_is_the_one_that_is_tested_and_predicts(stream, tmp_path, tiny_root):
    run = stream("bank", "native")
    assert anoframe.test(run.folder, output=tmp_path).metrics == run.metrics
    assert anoframe.load_run(run.folder).predict(tiny_root / "felt/test/cut/000.png").anomaly_map.shape == (64, 64)


def test_new_images_are_predicted_without_naming_a_task(stream, tmp_path, tiny_root):
    """There is one detector and no threshold, so there is nothing to choose."""
    run, source = stream("bank", "native"), tiny_root / "felt/test/cut"
    for name, category in (("unnamed", None), ("named", "mesh")):
        assert anoframe.predict(run.folder, source, tmp_path / name, category=category).images > 0
    assert (tmp_path / "unnamed/scores.csv").read_bytes() == (tmp_path / "named/scores.csv").read_bytes()


def test_a_category_must_be_named_if_each_has_a_threshold(stream, tmp_path, tiny_root):
    shutil.copytree(stream("bank", "native").folder / "checkpoint/task_01", tmp_path / "trained")
    path = tmp_path / "trained/detector.json"
    description = json.loads(path.read_text())
    limits = {"image": 1.0, "pixel": 1.0, "false_positive_rate": 0.01, "images": 20}
    path.write_text(json.dumps({**description, "thresholds": {"felt": limits, "mesh": {**limits, "image": 2.0}}}))
    with pytest.raises(AnoframeError, match="per category, choose a category: felt, mesh"):
        anoframe.predict(tmp_path / "trained", tiny_root / "felt/test/cut", tmp_path / "predictions")


# ------------------------------------------------------------------------------------------------ configs


def test_the_config_of_a_run_repeats_the_run(stream, tmp_path):
    run = stream("trained", "finetune")
    again = anoframe.train(load_config(run.folder / "config.yaml"), None, tmp_path)
    assert again.metrics == run.metrics


@pytest.mark.parametrize("name", ["trained", "bank"])
def test_without_tasks_each_named_category_is_a_task(configs, stream, tmp_path, name):
    cfg = load_config(configs[name], {"protocol.strategy": "finetune"})
    run = anoframe.train(cfg, ["felt", "mesh"], tmp_path)
    assert matrix(run) == matrix(stream(name, "finetune"))


@pytest.mark.parametrize(
    ("changes", "categories", "message"),
    [
        ({"protocol.strategy": "frozn"}, None, "did you mean 'frozen'"),
        ({"protocol.strategy": "ewc", "protocol.ewc_weight": -1.0}, None, "ewc_weight"),
        ({"protocol.tasks": "felt;mish"}, None, "did you mean 'mesh'"),
        ({}, ["felt"], "differ in mesh"),
        ({"protocol.strategy": "native"}, None, r"RD4AD .*--protocol\.strategy finetune"),
        ({"protocol.order_seed": -1}, None, "order_seed is 0 or more"),
    ],
)
def test_errors_are_raised_before_anything_is_written(configs, tmp_path, changes, categories, message):
    with pytest.raises(AnoframeError, match=message):
        anoframe.train(load_config(configs["trained"], {**STREAM, **changes}), categories, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_of_a_later_task_is_found_before_the_first_task_is_trained(configs, tmp_path, tiny_root):
    """Its first and last bytes are intact, and other runs check no more than these beforehand."""
    shutil.copytree(tiny_root, tmp_path / "data")
    path = tmp_path / "data/mesh/train/good/001.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    cfg = load_config(configs["bank"], {**STREAM, "data.root": str(tmp_path / "data")})
    with pytest.raises(AnoframeError, match=r"mesh/train/good/001.png: damaged"):
        anoframe.train(cfg, None, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("tasks", "error"), [("felt;mesh", "task 1 (mesh) has 2 training images"), ("mesh,felt", "")])
def test_a_task_with_too_few_images_for_the_statistics_of_a_slot_is_refused(configs, tmp_path, tiny_root, tasks, error):
    """With fewer than three losses z is 0, and no later task would expand. The task may be merged with another."""
    shutil.copytree(tiny_root, tmp_path / "data")
    for path in sorted((tmp_path / "data/mesh/train/good").iterdir())[2:]:
        path.unlink()
    changes = {"protocol.tasks": tasks, "data.root": str(tmp_path / "data")}
    if error:
        with pytest.raises(AnoframeError, match=re.escape(error)):
            anoframe.train(load_config(configs["expanding"], changes), None, tmp_path / "runs")
        changes["protocol.strategy"] = "finetune"  # this strategy needs no statistics
    assert anoframe.train(load_config(configs["expanding"], changes), None, tmp_path / "runs").metrics


def test_several_processes_are_refused(configs, tmp_path, monkeypatch):
    monkeypatch.setattr("anoframe.runs.plan.join", lambda device: Group(torch.device("cpu"), size=2))
    with pytest.raises(AnoframeError, match="one process"):
        _train(configs["trained"], tmp_path, "finetune")


# ------------------------------------------------------------------------------------------------ kills


def test_the_pictures_that_a_kill_has_cost_are_drawn_again(stream, tmp_path, configs):
    whole = stream("bank", "native")
    folder = tmp_path / whole.folder.relative_to(whole.folder.parents[3])
    shutil.copytree(whole.folder, folder)
    shutil.rmtree(folder / "pictures/felt")
    resumed = _train(configs["bank"], tmp_path, "native", "resume")
    assert resumed.folder == folder
    names, drawn = (sorted(path.name for path in (run.folder / "pictures/felt").iterdir()) for run in (whole, resumed))
    assert drawn == names
    assert matrix(resumed) == matrix(whole)


FILES = ("metrics.json", "metrics.csv", "config.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy", "place"),
    [
        ("trained", "ewc", "training/task_00"),
        ("trained", "ewc", "checkpoint/task_00"),
        ("trained", "ewc", "training/task_01"),
        ("trained", "ewc", "checkpoint/task_01"),
        ("expanding", "native", "training/task_01"),
    ],
)
def test_a_killed_run_resumes_to_the_same_files(stream, configs, tmp_path, name, strategy, place):
    """SIGKILL inside a task and between tasks, as soon as a training state or checkpoint of it exists."""
    whole = stream(name, strategy)
    folder = tmp_path / whole.folder.relative_to(whole.folder.parents[3]) / place
    file = folder / "detector.json" if place.startswith("checkpoint") else folder
    children.kill_when(children.start(_train, configs[name], tmp_path, strategy), file.exists)
    resumed = _train(configs[name], tmp_path, strategy, "resume")
    files = [*FILES, *(f"checkpoint/task_{task:02d}/learned.safetensors" for task in (0, 1))]
    for file in files:
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    assert matrix(resumed) == matrix(whole)
