"""Streams of classes of labelled images: what a run writes, and that a kill in either phase changes nothing of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from anoframe.cli import main
from anoframe.config import flatten, load_config, save_config
from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.clap4clip import Clap4Clip
from anoframe.report.run_record import read_run
from anoframe.runs.class_evaluation import TestSet, evaluate_task, predict
from anoframe.runs.class_incremental_run import run_class_stream
from anoframe.runs.class_plan import ClassPlan

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CLASSES = ("black", "blue", "green", "red")
COLOURS = np.array([[20, 20, 20], [30, 30, 200], [30, 200, 30], [200, 30, 30]])
ENCODER = {
    "model.backbone.name": "test_resnet",
    "model.backbone.weights": "random:0",
    "model.backbone.levels": (3,),
    "data.name": "npz",
    "data.resize": 16,
    "data.crop": 16,
    "cache.images": False,
    "protocol.tasks": "2x2",
    "device": "cpu",
    "trainer.batch_size": 8,
    "trainer.epochs": 2,
    "trainer.save_minutes": 0.0,
}
SMALL = {
    "model.text.images": 3,
    "model.classifier.vga.hidden": 8,
    "model.classifier.posterior.samples": 3,
    "model.classifier.memory.per_class": 4,
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Four classes of flat colours with noise."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 4
        noise = rng.integers(-20, 30, (count, 16, 16, 3))
        pixels = (COLOURS[labels][:, None, None] + noise).clip(0, 255)
        arrays |= {f"{split}_x": pixels.astype(np.uint8), f"{split}_y": labels}
    path = tmp_path_factory.mktemp("npz") / "colours.npz"
    np.savez(path, **arrays, classes=CLASSES)
    return path


@pytest.fixture
def config(archive):
    """Function that returns a config; `method` is the name of a shipped one."""

    def load(method="clap4clip_cifar10_5x2", **changes):
        small = SMALL if method.startswith("clap4clip") else {}
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return load_config(f"clap4clip/{method}.py", {**ENCODER, **small, "data.root": str(archive), **dotted})

    return load


@pytest.fixture(scope="module")
def done(archive, tmp_path_factory):
    """A finished run of CLAP4CLIP."""
    cfg = load_config("clap4clip/clap4clip_cifar10_5x2.py", {**ENCODER, **SMALL, "data.root": str(archive)})
    return run_class_stream(cfg, tmp_path_factory.mktemp("done"))


def files_of(folder):
    """Bytes of everything that a kill must not change, by name: checkpoints, and rows without times."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / "checkpoint").rglob("*.*")}
    for path in (folder / "results" / "stream").glob("*.json"):
        tree = json.loads(path.read_text())
        del tree["about"]["seconds"]
        files[path.name] = json.dumps(tree).encode()
    return files


# ------------------------------------------------------------------------------------------------ content of a run


def test_a_run_writes_checkpoints_rows_and_results(done):
    assert sorted(path.name for path in (done.folder / "checkpoint").iterdir()) == ["task_00", "task_01"]
    results = json.loads((done.folder / "results" / "continual.json").read_text())
    assert results == json.loads(json.dumps(done.results))
    assert results["config"]["tasks"] == [["black", "blue"], ["green", "red"]]
    assert set(results["R"]) == {"accuracy", "accuracy_mixed", "accuracy_task_aware"}
    assert results["R"]["accuracy"][0][1] is None  # classes that have not arrived
    assert set(results["novelty"][0]) == {"energy", "max_softmax", "variance"}
    assert results["novelty"][1] is None
    assert results["exemplars"] == [{"images": 8, "bytes": 8 * 768}, {"images": 16, "bytes": 16 * 768}]
    last = results["classification"][-1]
    assert np.array(last["confusion"]).sum() == 20
    assert results["category_top1"][-1] == np.trace(last["confusion"]) / 20
    assert sum(row["images"] for row in last["reliability"]) == 20
    assert results["params_total"][1] > results["params_total"][0]


def test_exemplars_are_names_classes_and_hashes_and_old_ones_stay(done):
    first, second = (
        json.loads((done.folder / "checkpoint" / task / "exemplars.json").read_text())
        for task in ("task_00", "task_01")
    )
    assert all(set(entry) == {"name", "class", "sha256"} for entry in second)
    assert {entry["name"] for entry in first} <= {entry["name"] for entry in second}
    assert sorted(entry["class"] for entry in second) == sorted(CLASSES * 4)


def test_the_report_shows_every_part(done):
    page = (done.folder / "report.html").read_text()
    for text in ("Confusion matrix", "Reliability", "Novel classes", "Exemplars", "image prototypes, not CLIP"):
        assert text in page
    assert "No category has been evaluated" not in page
    record = read_run(done.folder)
    assert record.class_record is not None
    assert [strip.shown for strip in record.class_record.strips] == [4] * 4


def test_damaged_results_are_named(done, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(done.folder, copy)
    path = copy / "results" / "continual.json"
    tree = json.loads(path.read_text())
    tree["ece"] = tree["ece"][:1]
    path.write_text(json.dumps(tree))
    with pytest.raises(AnoframeError, match=r"continual\.json is damaged"):
        read_run(copy)


# ------------------------------------------------------------------------------------------------ kill and resume


@pytest.mark.parametrize("calls_until", [13, 18])  # of task 1: in the phase `task`, and in the phase `balance`
def test_a_run_killed_in_either_phase_resumes_to_the_same_bytes(done, config, tmp_path, monkeypatch, calls_until):
    calls = []
    original = Clap4Clip._losses

    def losses(self, is_balance, batch):
        calls.append(is_balance)
        if len(calls) == calls_until:
            raise KeyboardInterrupt
        return original(self, is_balance, batch)

    monkeypatch.setattr(Clap4Clip, "_losses", losses)
    with pytest.raises(KeyboardInterrupt):
        run_class_stream(config(), tmp_path)
    assert calls[-1] == (calls_until == 18)
    with pytest.raises(AnoframeError, match="--resume"):
        run_class_stream(config(), tmp_path)
    resumed = run_class_stream(config(), tmp_path, "resume")
    assert files_of(resumed.folder) == files_of(done.folder)


def test_resuming_a_finished_run_trains_nothing(done, config, tmp_path, monkeypatch):
    copy = tmp_path / done.folder.relative_to(done.folder.parents[3])
    shutil.copytree(done.folder, copy)
    monkeypatch.setattr(Clap4Clip, "_losses", lambda *_: pytest.fail("it trains"))
    assert files_of(run_class_stream(config(), tmp_path, "resume").folder) == files_of(done.folder)


@pytest.mark.parametrize("damage", ["removed", "shortened", "replaced"])
def test_a_changed_memory_stops_the_next_task(done, config, tmp_path, damage):
    copy = tmp_path / done.folder.relative_to(done.folder.parents[3])
    shutil.copytree(done.folder, copy)
    shutil.rmtree(copy / "checkpoint" / "task_01")
    (copy / "results" / "stream" / "task_01.json").unlink()
    path = copy / "checkpoint" / "task_00" / "exemplars.json"
    entries = json.loads(path.read_text())
    if damage == "removed":
        path.unlink()
    else:
        path.write_text(json.dumps(entries[1:] if damage == "shortened" else [{**entries[0], "sha256": "0"}]))
    with pytest.raises(AnoframeError, match=r"exemplars\.json"):
        run_class_stream(config(), tmp_path, "resume")


# ------------------------------------------------------------------------------------------------ strategies, baselines


def test_frozen_keeps_the_first_classifier_and_misses_later_classes(config, tmp_path):
    results = run_class_stream(config(protocol__strategy="frozen"), tmp_path).results
    accuracy = results["R"]["accuracy"]
    assert accuracy[1][1] == 0
    assert accuracy[1][0] == accuracy[0][0]
    assert (results["params_trainable"][1], results["seconds"][1]) == (0, 0.0)


def test_joint_training_has_one_row_over_all_tasks(config, tmp_path):
    results = run_class_stream(config(protocol__strategy="joint"), tmp_path).results
    assert len(results["cl_metrics"]) == 1
    assert None not in results["R"]["accuracy"][0]
    assert results["novelty"] == [None]


@pytest.mark.parametrize(
    "method", ["cifar10_5x2_linear_probe", "cifar10_5x2_nearest_class_mean", "cifar10_5x2_zero_shot"]
)
def test_baselines_learn_colours(config, tmp_path, method):
    results = run_class_stream(config(method, trainer__epochs=10), tmp_path).results
    last = results["cl_metrics"][-1]["by_metric"]
    assert last["accuracy"]["acc"] >= 0.75
    assert last["accuracy"]["acc"] == last["accuracy_mixed"]["acc"]  # no baseline attends over its batch


def test_class_folders_are_a_stream_too(archive, tmp_path, config):
    from PIL import Image

    arrays = np.load(archive)
    for split in ("train", "test"):
        for number, (image, label) in enumerate(zip(arrays[f"{split}_x"], arrays[f"{split}_y"], strict=True)):
            folder = tmp_path / "data" / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    changes = {"data__name": "classes", "data__root": str(tmp_path / "data")}
    results = run_class_stream(config("cifar10_5x2_nearest_class_mean", **changes), tmp_path / "runs").results
    assert results["cl_metrics"][-1]["by_metric"]["accuracy"]["acc"] >= 0.75


# ------------------------------------------------------------------------------------------------ evaluation


@pytest.fixture
def trained(done, config):
    """The classifier after both tasks, and test vectors of the stream."""
    plan = ClassPlan(config())
    learner = plan.new_learner()
    from anoframe.runs.class_checkpoint import load_classifier

    load_classifier(done.folder / "checkpoint" / "task_01", learner)
    vectors = plan.encode("test", print)
    return learner, TestSet(vectors, [sample.category for sample in plan.test.samples], plan.tasks)


def test_no_label_reaches_the_classifier(trained):
    learner, test = trained
    seen = []
    original = learner.logits
    learner.logits = lambda features, jointly=False: seen.append(features) or original(features, jointly)
    evaluate_task(learner, test, 2, 15, 8, 0)
    given = len(seen)
    permuted = TestSet(test.features, list(reversed(test.classes)), test.tasks)
    evaluate_task(learner, permuted, 2, 15, 8, 0)
    assert len(seen) == 2 * given
    assert all(torch.equal(a, b) for a, b in zip(seen[:given], seen[given:], strict=True))


def test_each_image_is_computed_by_itself(trained):
    learner, test = trained
    whole = predict(learner, test.features)
    single = torch.cat([predict(learner, row[None]).logits for row in test.features])
    torch.testing.assert_close(whole.logits, single, rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------------------------------------------ command line, errors


def test_the_command_line_runs_a_stream(archive, tmp_path, capsys):
    words = [word for key, value in {**ENCODER, "data.root": archive}.items() for word in (f"--{key}", str(value))]
    given = ["--config", "clap4clip/cifar10_5x2_nearest_class_mean.py", *words, "--output", str(tmp_path)]
    device = given.index("--device")
    assert main([*given[:device], *given[device + 2 :], "--device", "cpu", "--protocol.order_seed", "3"]) == 0
    output = capsys.readouterr().out
    assert "novelty AUROC" in output
    assert list(tmp_path.rglob("class_incremental-native-order3/npz-2x2/0/report.html"))
    assert main([*given, "--mode", "test", "--checkpoint", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol__tasks": "3x2"}, "the data have 4"),
        ({"protocol__strategy": "ewc"}, "unknown protocol.strategy 'ewc'"),
        ({"data__root": None}, "data.root is not set"),
        ({"device": "cpu cpu"}, "on one device"),
        ({"model__text__source": "prompts"}, "text tower"),
        ({"evaluation__bins": 0}, "evaluation.bins must be 1 or more"),
        ({"data__name": "images"}, "no test split"),
    ],
)
def test_errors_name_the_reason_before_a_folder_exists(config, tmp_path, changes, message):
    with pytest.raises(AnoframeError, match=message):
        run_class_stream(config(**changes), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_config_survives_yaml_and_tasks_keep_its_protocol(tmp_path):
    cfg = load_config("clap4clip/clap4clip_cifar10_5x2.py", {"protocol.tasks": "2x5"})
    assert cfg.protocol.name == "class_incremental"
    save_config(cfg, tmp_path / "config.yaml")
    assert dict(flatten(load_config(tmp_path))) == dict(flatten(cfg))
