"""Runs on a stream of tasks, by their doors: what they leave, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import TINY_DATA

import anoframe
from anoframe.config import load_config
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

pytestmark = pytest.mark.usefixtures("one_thread")

HEAD = '"""Small, for tests."""\n\nfrom anoframe.config import inherit\n\ncfg = inherit("{parent}")\n'
COMMON = TINY_DATA + 'cfg.model.backbone.weights = "random"\ncfg.report.pictures = 2\ncfg.protocol.name = "continual"\n'
BRIEF = """cfg.model.width = 0.1
cfg.model.depths = (1, 1, 1)
cfg.trainer.epochs = 2
cfg.trainer.batch_size = 2
cfg.trainer.save_minutes = 0.0
"""
GROWING = """cfg.model.width = 16
cfg.model.heads = 2
cfg.model.hidden = 16
cfg.model.encoder_layers = 1
cfg.model.decoder_layers = 1
cfg.model.window = 1
cfg.model.sema_end_layer = 1
cfg.model.adapter_bottleneck = 4
cfg.model.rd_dim = 4
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
    home = tmp_path_factory.mktemp("configs")
    texts = {
        "bank": ("patchcore/patchcore_lite0_224.py", "cfg.threshold.held_back = 0.0\n"),
        "trained": ("rd4ad/rd4ad_lite0_256.py", BRIEF),
        "growing": ("sema_uniad/sema_uniad_lite0_always.py", GROWING),
    }
    for name, (parent, rest) in texts.items():
        text = (HEAD + COMMON).format(parent=parent, root=str(tiny_root)) + rest
        (home / f"{name}.py").write_text(text, encoding="utf-8")
    return {name: home / f"{name}.py" for name in texts}


@pytest.fixture(scope="module")
def stream(configs, tmp_path_factory):
    """Trains on the stream with a strategy, once for all tests."""
    known = {}

    def run(name, strategy, **changes):
        key = (name, strategy, *changes.items())
        if key not in known:
            known[key] = _train(configs[name], tmp_path_factory.mktemp("runs"), strategy, "new", changes)
        return known[key]

    return run


def _train(config, output, strategy, start="new", changes=STREAM):
    torch.set_num_threads(1)
    cfg = load_config(config, {**STREAM, "protocol.strategy": strategy, **changes})
    return anoframe.train(cfg, None, output, start)


def matrix(run, metric="pixel_auroc"):
    return json.loads((run.folder / "results/continual.json").read_text())["R"][metric]


def learned(run, task):
    return load_file(run.folder / f"checkpoint/task_{task:02d}/learned.safetensors")


def test_every_category_is_tested_after_every_task(stream):
    assert all(value is not None for row in matrix(stream("bank", "finetune")) for value in row)


def test_the_result_of_the_run_is_the_last_row(stream):
    run = stream("bank", "finetune")
    assert [run.metrics[name]["pixel_auroc"] for name in ("felt", "mesh")] == matrix(run)[-1]


def test_a_run_gives_its_matrices_and_one_on_no_stream_has_none(stream, tmp_path):
    run = anoframe.load_run(stream("bank", "finetune").folder)
    assert run.stream["R"]["pixel_auroc"] == matrix(run)
    assert run.stream["cl_metrics"][-1]["by_metric"]["pixel_auroc"]["acc"] == pytest.approx(run.mean["pixel_auroc"])
    assert anoframe.test(run.folder, output=tmp_path).stream is None


def test_frozen_forgets_nothing_and_learns_nothing(stream):
    run = stream("trained", "frozen")
    first, second = matrix(run)
    assert first == second
    assert all(torch.equal(value, learned(run, 1)[name]) for name, value in learned(run, 0).items())


def test_fine_tuning_changes_what_was_learned(stream):
    run = stream("trained", "finetune")
    assert any(not torch.equal(value, learned(run, 1)[name]) for name, value in learned(run, 0).items())


def test_the_first_task_is_the_same_for_all_that_protect(stream):
    plain, held = learned(stream("trained", "finetune"), 0), learned(stream("trained", "ewc"), 0)
    assert all(torch.equal(value, held[name]) for name, value in plain.items())


def test_a_bank_a_task_keeps_the_earlier_ones(stream):
    run = stream("bank", "expand")
    before, after = learned(run, 0)["bank"], learned(run, 1)["bank"]
    assert torch.equal(after[: len(before)], before)
    assert len(after) == 2 * len(before)


def test_what_grew_is_in_the_results(stream):
    """Each site gets a slot a task where every batch is strange."""
    found = json.loads((stream("growing", "expand").folder / "results/continual.json").read_text())
    assert [stats["total_adapters"] for stats in found["adapter_stats"]] == [2, 4]
    assert [event["task"] for event in found["expansions"]] == [1, 1]


def test_an_expansion_is_told_when_it_happens(stream):
    """Before the slot that it is about is trained."""
    run = stream("growing", "expand")
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["event"] == "expansion" or line.get("phase", "").startswith("adapter")]
    told = [line["event"] for line in lines if line["event"] != "step"]
    assert told == ["expansion", "epoch", "epoch"] * 2
    assert [line["site"] for line in lines if line["event"] == "expansion"] == [[0, "ffn"], [1, "ffn"]]


def test_seconds_of_a_task_are_its_own(stream):
    run = stream("growing", "expand")
    taken = json.loads((run.folder / "run.json").read_text())["task_seconds"]
    assert run.stream["seconds"] == [taken["task_00"], taken["task_01"]]
    assert taken["task_00"] != taken["task_01"]


def test_each_later_task_draws_from_a_seed_of_its_own(configs, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr("anoframe.runs.stream_session.seed_everything", seeds.append)
    _train(configs["bank"], tmp_path, "finetune", changes={"protocol.tasks": "felt;mesh", "seed": 7})
    assert seeds[0] == 7
    assert len(set(seeds)) == 2


def test_parameters_of_a_stream_are_those_of_its_slots(stream):
    """A slot of width 16 is an adapter and a descriptor of 16 x 4 + 4 + 4 x 16 + 16, and a column of 16 + 1."""
    found = json.loads((stream("growing", "expand").folder / "results/continual.json").read_text())
    (first, second), (trained, trained_later) = found["params_total"], found["params_trainable"]
    slots = 2 * (148 + 148 + 17)
    assert second - first == trained_later == slots
    assert trained == first - 2 * 17  # one column alone has no say


def test_what_does_not_grow_has_as_many_parameters_whatever_the_images(configs, tmp_path, tiny_root):
    """Descriptors remember a loss an image, and that is no parameter."""
    root = tmp_path / "data"
    for name in ("felt", "mesh"):
        shutil.copytree(tiny_root / name, root / name)
    for one in sorted((root / "felt/train/good").iterdir())[:3]:
        one.unlink()
    changes = {**STREAM, "data.root": str(root), "trainer.epochs": 1}
    run = _train(configs["growing"], tmp_path, "finetune", changes=changes)
    first, second = json.loads((run.folder / "results/continual.json").read_text())["params_total"]
    assert first == second


def test_a_detector_that_grew_loads_by_itself(stream, tmp_path):
    run = stream("growing", "expand")
    assert anoframe.test(run.folder, output=tmp_path).metrics == run.metrics


def test_a_choice_on_the_test_set_is_told_though_the_last_task_trained_nothing(stream, tmp_path):
    choosing = {"trainer.select": "best_on_test", "trainer.evaluate_every": 1}
    run = stream("growing", "expand", **STREAM, **choosing, **{"model.expansion_threshold": 1e9})
    assert json.loads((run.folder / "results/continual.json").read_text())["params_trainable"][1] == 0
    for one in (run, anoframe.test(run.folder, output=tmp_path)):
        assert one.results.provenance["selected"] == "best on test"
        assert one.results.provenance["trainer"]["epochs"] == 2
    with pytest.raises(AnoframeError, match=r"was trained with trainer\.epochs 2, not 7"):
        anoframe.test(run.folder, load_config(run.folder, {"trainer.epochs": 7}), output=tmp_path / "other")


def test_a_bank_that_is_fine_tuned_is_exchanged(stream):
    run = stream("bank", "finetune")
    assert learned(run, 1)["bank"].shape == learned(run, 0)["bank"].shape


def test_the_first_task_is_what_the_category_alone_would_give(stream, configs, tmp_path):
    """A stream changes nothing of how a task is learned."""
    cfg = load_config(configs["trained"], {"protocol.name": "separate"})
    alone = anoframe.train(cfg, ["felt"], tmp_path)
    found = load_file(alone.folder / "checkpoint/felt/learned.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in learned(stream("trained", "finetune"), 0).items())


def test_joint_training_is_the_unified_protocol(stream, configs, tmp_path):
    run = stream("trained", "joint")
    unified = anoframe.train(load_config(configs["trained"], {"protocol.name": "unified"}), ["felt", "mesh"], tmp_path)
    assert matrix(run) == [[unified.metrics[name]["pixel_auroc"] for name in ("felt", "mesh")]]


def test_an_order_is_part_of_the_folder_and_of_the_results(stream):
    run = stream("bank", "finetune", **{"protocol.order_seed": 3})
    assert "continual-finetune-order3" in run.folder.parts
    assert json.loads((run.folder / "results/continual.json").read_text())["config"]["class_order"] == ["mesh", "felt"]


def test_the_last_detector_is_the_one_that_is_tested_and_asked(stream, tmp_path, tiny_root):
    run = stream("bank", "expand")
    assert anoframe.test(run.folder, output=tmp_path).metrics == run.metrics
    assert anoframe.load_run(run.folder).predict(tiny_root / "felt/test/cut/000.png").anomaly_map.shape == (64, 64)


def test_new_images_are_predicted_with_no_task_named(stream, tmp_path, tiny_root):
    """There is one detector and no threshold, so that nothing is left to choose."""
    run, source = stream("bank", "expand"), tiny_root / "felt/test/cut"
    for name, category in (("unnamed", None), ("named", "mesh")):
        assert anoframe.predict(run.folder, source, tmp_path / name, category=category).images > 0
    assert (tmp_path / "unnamed/scores.csv").read_bytes() == (tmp_path / "named/scores.csv").read_bytes()


def test_where_each_category_has_a_threshold_one_is_to_be_named(stream, tmp_path, tiny_root):
    shutil.copytree(stream("bank", "expand").folder / "checkpoint/task_01", tmp_path / "fitted")
    path = tmp_path / "fitted/detector.json"
    told = json.loads(path.read_text())
    limits = {"image": 1.0, "pixel": 1.0, "false_positive_rate": 0.01, "images": 20}
    path.write_text(json.dumps({**told, "thresholds": {"felt": limits, "mesh": {**limits, "image": 2.0}}}))
    with pytest.raises(AnoframeError, match="draws a line for each category, say which: felt, mesh"):
        anoframe.predict(tmp_path / "fitted", tiny_root / "felt/test/cut", tmp_path / "found")


def test_a_config_of_a_run_gives_the_run_again(stream, tmp_path):
    run = stream("trained", "finetune")
    again = anoframe.train(load_config(run.folder / "config.yaml"), None, tmp_path)
    assert again.metrics == run.metrics


@pytest.mark.parametrize("name", ["trained", "bank"])
def test_tasks_may_be_the_categories_named(configs, stream, tmp_path, name):
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
        ({"protocol.strategy": "expand"}, None, "no way of its own"),
        ({"protocol.order_seed": -1}, None, "order_seed is 0 or more"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(configs, tmp_path, changes, categories, message):
    with pytest.raises(AnoframeError, match=message):
        anoframe.train(load_config(configs["trained"], {**STREAM, **changes}), categories, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_of_a_later_task_is_told_before_the_first_is_learned(configs, tmp_path, tiny_root):
    """Its head and its end are whole, which is all that other runs look at beforehand."""
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


@pytest.mark.parametrize(("tasks", "told"), [("felt;mesh", "task 1 (mesh) has 2 training images"), ("mesh,felt", "")])
def test_a_task_too_small_for_the_statistics_of_a_slot_is_told(configs, tmp_path, tiny_root, tasks, told):
    """With fewer than three losses z is 0: no later task would ever expand. It may come with another category."""
    shutil.copytree(tiny_root, tmp_path / "data")
    for path in sorted((tmp_path / "data/mesh/train/good").iterdir())[2:]:
        path.unlink()
    changes = {"protocol.tasks": tasks, "data.root": str(tmp_path / "data")}
    if told:
        with pytest.raises(AnoframeError, match=re.escape(told)):
            anoframe.train(load_config(configs["growing"], changes), None, tmp_path / "runs")
        changes["protocol.strategy"] = "finetune"  # which needs no statistics
    assert anoframe.train(load_config(configs["growing"], changes), None, tmp_path / "runs").metrics


def test_several_processes_are_refused(configs, tmp_path, monkeypatch):
    monkeypatch.setattr("anoframe.runs.session.join", lambda device: Group(torch.device("cpu"), size=2))
    with pytest.raises(AnoframeError, match="learned by one process"):
        _train(configs["trained"], tmp_path, "finetune")


FILES = ("metrics.json", "metrics.csv", "config.yaml")


@pytest.mark.parametrize(
    ("name", "strategy", "where"),
    [
        ("trained", "ewc", "training/task_00"),
        ("trained", "ewc", "checkpoint/task_00"),
        ("trained", "ewc", "training/task_01"),
        ("trained", "ewc", "checkpoint/task_01"),
        ("growing", "expand", "training/task_01"),
    ],
)
def test_a_run_that_is_killed_hard_resumes_to_the_same_files(stream, configs, tmp_path, name, strategy, where):
    """SIGKILL inside a task and between tasks, as soon as a state or checkpoint of it is there."""
    whole = stream(name, strategy)
    child = multiprocessing.get_context("spawn").Process(target=_train, args=(configs[name], tmp_path, strategy))
    child.start()
    folder = tmp_path / whole.folder.relative_to(whole.folder.parents[3]) / where
    deadline = time.monotonic() + 120
    while not _begun(folder) and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    resumed = _train(configs[name], tmp_path, strategy, "resume")
    files = [*FILES, *(f"checkpoint/task_{task:02d}/learned.safetensors" for task in (0, 1))]
    for file in files:
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    assert matrix(resumed) == matrix(whole)


def _begun(folder):
    return (folder / "detector.json").exists() if "checkpoint" in folder.parts else folder.exists()
