"""Class-incremental detectors on a stream, and exemplars: what a run writes, and that a kill changes nothing of it."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from tiny_data import TINY_DATA

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.training.context import FitContext

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

HEAD = '"""Small, for tests."""\n\nfrom anoframe.config import ConfigDict, inherit\n\ncfg = inherit("{parent}")\n'
COMMON = (
    TINY_DATA
    + """cfg.model.backbone.name = "test_resnet"
cfg.model.backbone.weights = "random"
cfg.report.pictures = 1
cfg.protocol.name = "continual"
cfg.protocol.tasks = "felt;mesh"
cfg.trainer.epochs = 2
cfg.trainer.batch_size = 4
cfg.trainer.save_minutes = 0.0
"""
)
CLASSES = """cfg.model.backbone.levels = (2,)
cfg.model.text.images = 2
cfg.model.classifier.vga.hidden = 8
cfg.model.classifier.posterior.samples = 2
cfg.model.classifier.memory.per_class = 2
with cfg.unlocked():
    cfg.data.synthetic.generator = ConfigDict({"name": "cutpaste"})
"""
TRAINED = "cfg.model.width = 0.1\ncfg.model.depths = (1, 1, 1)\n"
CATEGORY = {"model.classes": "category"}


class Stop(BaseException):
    """Stands for a kill: no `except Exception` of the run handles it."""


@pytest.fixture(scope="module")
def configs(tmp_path_factory, tiny_root):
    """Configs of a class-incremental detector, and of a trained one without classes."""
    folder = tmp_path_factory.mktemp("configs")
    for name, parent, rest in (
        ("classes", "clap4clip/clap4clip_lite2.py", CLASSES),
        ("trained", "rd4ad/rd4ad_lite0_256.py", TRAINED),
    ):
        text = (HEAD + COMMON).format(parent=parent, root=str(tiny_root)) + rest
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.py" for name in ("classes", "trained")}


@pytest.fixture(scope="module")
def stream(configs, tmp_path_factory):
    """Train on the stream, once for all tests."""
    finished = {}

    def run(name="classes", **changes):
        key = (name, *changes.items())
        if key not in finished:
            finished[key] = _train(configs[name], tmp_path_factory.mktemp("runs"), "new", changes)
        return finished[key]

    return run


def _train(config, output, start="new", changes=()):
    torch.set_num_threads(1)
    return anoframe.train(load_config(config, dict(changes)), None, output, start)


def results_of(run):
    return json.loads((run.folder / "results/continual.json").read_text())


def exemplars_of(folder, task):
    return json.loads((folder / f"checkpoint/task_{task:02d}/exemplars.json").read_text())["exemplars"]


# ------------------------------------------------------------------------------------------------ results


def test_a_method_without_maps_is_led_by_image_auroc(stream):
    results = results_of(stream())
    assert results["config"]["key_metric"] == "image_auroc"
    assert results["cl_metrics"][-1]["average_performance"] is not None
    assert results["R"]["pixel_auroc"] == [[None, None], [None, None]]
    assert {f"image_auroc_{name}" for name in ("s_cond", "s_agn", "s_energy", "s_unc")} <= results["R"].keys()
    assert results["R"]["image_auroc"] == results["R"]["image_auroc_s_agn"]


def test_classes_are_measured_after_each_task(stream):
    results = results_of(stream())
    assert [0 <= value <= 1 for value in results["category_top1"] + results["ece"]] == [True] * 4
    assert results["category_top1"][0] == 1.0  # one category
    assert set(results["novelty"][0]) == {"energy", "max_softmax", "variance"}
    assert results["novelty"][1] is None
    assert [entry["images"] for entry in results["exemplars"]] == [4, 8]


def test_the_number_of_synthetic_images_is_disclosed(stream):
    run = stream()
    synthetic = run.results.provenance["synthetic"]
    assert synthetic == {"generator": {"name": "cutpaste"}, "seed": 0, "images": {"felt": 6, "mesh": 6}}
    counts = json.loads((run.folder / "results/felt.json").read_text())["counts"]
    assert (counts["train"], counts["train_synthetic"]) == (6, 6)


def test_the_report_shows_confusion_novelty_and_calibration_of_the_categories(stream):
    run = stream()
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    classification = results_of(run)["classification"][1]
    assert classification["classes"] == ["felt", "mesh"]
    assert [sum(row) for row in classification["confusion"]] == [7, 7]
    assert '<section id="classes">' in text
    assert "Novel classes, AUROC" in text
    assert "8 images, " in text  # exemplars


def test_classes_that_are_categories_have_no_synthetic_images(stream):
    run = stream(**CATEGORY)
    results = results_of(run)
    assert "synthetic" not in run.results.provenance
    assert {entry["class"] for entry in exemplars_of(run.folder, 1)} == {"felt", "mesh"}
    assert results["R"]["image_auroc"] == results["R"]["image_auroc_s_energy"]
    assert "image_auroc_s_cond" not in results["R"]


def test_real_defects_make_it_supervised_and_nothing_is_synthetic(stream):
    run = stream(**{"model.defects": "real", "data.split": "raml"})
    assert "synthetic" not in run.results.provenance
    assert run.results.provenance["protocol_tag"]
    kept = exemplars_of(run.folder, 1)
    assert {entry["class"] for entry in kept} == {f"{c}/{s}" for c in ("felt", "mesh") for s in ("normal", "defective")}
    assert not any(entry["synthetic"] for entry in kept)


def test_without_a_stream_all_categories_are_one_task(configs, stream, tmp_path):
    changes = {**CATEGORY, "protocol.name": "unified", "protocol.tasks": "", "protocol.strategy": "finetune"}
    run = anoframe.train(load_config(configs["classes"], changes), ["felt", "mesh"], tmp_path)
    joint = stream(**CATEGORY, **{"protocol.strategy": "joint"})
    assert [run.metrics[name]["image_auroc"] for name in ("felt", "mesh")] == results_of(joint)["R"]["image_auroc"][0]


def test_joint_training_has_one_row_and_frozen_forgets_nothing(stream):
    joint = results_of(stream(**CATEGORY, **{"protocol.strategy": "joint"}))
    assert len(joint["R"]["image_auroc"]) == len(joint["category_top1"]) == 1
    frozen = results_of(stream(**CATEGORY, **{"protocol.strategy": "frozen"}))
    assert frozen["R"]["image_auroc"][0] == frozen["R"]["image_auroc"][1]
    assert frozen["category_top1"][1] == pytest.approx(0.5)


@pytest.mark.parametrize("strategy", ["finetune", "ewc", "replay"])
def test_strategies_that_know_nothing_of_classes_are_refused(configs, tmp_path, strategy):
    with pytest.raises(AnoframeError, match=r"learns the classes of each task.*--protocol\.strategy native"):
        _train(configs["classes"], tmp_path, changes={"protocol.strategy": strategy})


# ------------------------------------------------------------------------------------------------ exemplars


def test_exemplars_are_balanced_hashed_and_a_subset_of_the_previous_ones(stream, tiny_root):
    folder = stream().folder
    first, second = exemplars_of(folder, 0), exemplars_of(folder, 1)
    states = ("normal", "defective")
    assert [entry["class"] for entry in second] == [f"{c}/{s}" for c in ("felt", "mesh") for s in states for _ in "12"]
    assert [entry for entry in second if entry["category"] == "felt"] == first
    assert [entry["synthetic"] for entry in first] == [False, False, True, True]
    for entry in second:
        assert hashlib.sha256((tiny_root / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_a_run_without_memory_keeps_nothing(stream):
    run = stream(**CATEGORY, **{"model.classifier.memory.per_class": 0})
    assert exemplars_of(run.folder, 1) == []
    assert results_of(run)["exemplars"] == [{"images": 0, "bytes": 0}] * 2


def test_another_seed_draws_other_exemplars(stream):
    changes = {**CATEGORY, "model.classifier.memory.per_class": 3}
    names = [exemplars_of(stream(**changes, seed=seed).folder, 1) for seed in (0, 1)]
    assert names[0] != names[1]


def test_replay_keeps_images_of_each_category_for_any_trained_detector(stream):
    run = stream("trained", **{"protocol.strategy": "replay", "protocol.memory.per_class": 2})
    assert [entry["class"] for entry in exemplars_of(run.folder, 1)] == ["felt", "felt", "mesh", "mesh"]
    results = results_of(run)
    assert [entry["images"] for entry in results["exemplars"]] == [2, 4]
    assert results["config"]["key_metric"] == "pixel_auroc"
    assert "category_top1" not in results
    assert run.results.provenance["stream"]["memory"]["per_class"] == 2
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log if line["event"] == "fit"] == [6, 8]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"protocol.memory.selector": "energy"}, "replay has none"),
        ({"protocol.memory.total": 1}, "no room for one exemplar of each of 2 classes"),
        ({"protocol.memory.selector": "herdin"}, "did you mean 'herding'"),
    ],
)
def test_a_memory_that_cannot_work_is_refused_before_the_first_task(configs, tmp_path, changes, text):
    with pytest.raises(AnoframeError, match=text):
        _train(configs["trained"], tmp_path, changes={"protocol.strategy": "replay", **changes})
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ kills


def content(folder):
    """Everything that must not depend on a kill, as bytes."""
    results = json.loads((folder / "results/continual.json").read_text())
    kept = {key: value for key, value in results.items() if key not in ("seconds", "git")}
    files = sorted(folder.glob("checkpoint/*/*.safetensors")) + sorted(folder.glob("checkpoint/*/exemplars.json"))
    return json.dumps(kept), {str(file.relative_to(folder)): file.read_bytes() for file in files}


def kill_and_resume(configs, name, output, monkeypatch, number, changes):
    """Kill a run after it has written its training state of this number, then resume it; return the folder."""
    original, calls = FitContext.save_state, []

    def call(self, *args, **kwargs):
        original(self, *args, **kwargs)
        calls.append(args)
        if len(calls) == number:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(FitContext, "save_state", call)
        with pytest.raises(Stop):
            _train(configs[name], output, changes=changes)
    return _train(configs[name], output, "resume", changes).folder


def count_states(configs, name, output, monkeypatch, changes):
    with monkeypatch.context() as patch:
        calls = []
        original = FitContext.save_state

        def call(self, stage, *args, **kwargs):
            original(self, stage, *args, **kwargs)
            calls.append((self.fit, stage))

        patch.setattr(FitContext, "save_state", call)
        run = _train(configs[name], output, changes=changes)
    return run.folder, calls


def test_a_kill_inside_either_phase_changes_no_byte(configs, tmp_path, monkeypatch):
    folder, states = count_states(configs, "classes", tmp_path / "whole", monkeypatch, {})
    expected = content(folder)
    phase, exemplars, balance = 1, 2, 3  # stages of a task; stage 0 reads prototypes
    for place in (("task_00", phase), ("task_01", phase), ("task_01", exemplars), ("task_01", balance)):
        assert place in states
        number = states.index(place) + 1  # the first state that is written in this phase
        output = tmp_path / f"{place[0]}_{place[1]}"
        assert content(kill_and_resume(configs, "classes", output, monkeypatch, number, {})) == expected


def test_a_killed_replay_continues_with_the_same_memory(configs, tmp_path, monkeypatch):
    changes = {"protocol.strategy": "replay", "protocol.memory.per_class": 2, "protocol.memory.selector": "herding"}
    folder, states = count_states(configs, "trained", tmp_path / "whole", monkeypatch, changes)
    number = next(place for place, (fit, _) in enumerate(states) if fit == "task_01") + 1
    killed = kill_and_resume(configs, "trained", tmp_path / "killed", monkeypatch, number, changes)
    assert content(killed) == content(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda path: path.unlink(), "the exemplars of earlier tasks, is missing"),
        (lambda path: path.write_text(path.read_text().replace("felt/train", "mesh/train")), "was changed since"),
    ],
)
def test_a_missing_or_changed_list_of_exemplars_is_an_error(stream, configs, tmp_path, change, text):
    source = stream().folder
    folder = tmp_path / source.relative_to(source.parents[3])
    shutil.copytree(source, folder)
    for name in ("checkpoint/task_01", "results/stream/task_01.json"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    change(folder / "checkpoint/task_00/exemplars.json")
    with pytest.raises(AnoframeError, match=text):
        _train(configs["classes"], tmp_path, "resume")


def test_a_changed_image_of_the_memory_is_an_error(stream, configs, tmp_path, tiny_root):
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    changes = {**CATEGORY, "data.root": str(root)}
    run = _train(configs["classes"], tmp_path / "runs", changes=changes)
    shutil.rmtree(run.folder / "checkpoint/task_01")
    (run.folder / "results/stream/task_01.json").unlink()
    kept = root / exemplars_of(run.folder, 0)[0]["file"]
    shutil.copy(root / "mesh/train/good/000.png", kept)
    with pytest.raises(AnoframeError, match="its data have changed since it began"):
        _train(configs["classes"], tmp_path / "runs", "resume", changes)
