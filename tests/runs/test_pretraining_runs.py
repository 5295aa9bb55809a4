"""A pretraining from the command line: its folder, its export, interruption, and the detectors that use it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import anoframe
from anoframe.backbones.exported import read_export
from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.models.factory import build_detector
from anoframe.pretrain import main
from anoframe.pretraining.simclr import SimCLR
from anoframe.report.run_record import read_run
from anoframe.runs.pretraining_plan import PretrainingPlan
from anoframe.runs.pretraining_run import pretrain

pytestmark = pytest.mark.slow

TINY = {
    "data.resize": 40,
    "data.crop": 40,
    "data.workers": 0,
    "encoder.architecture": "test_resnet",
    "views.size": 32,
    "trainer.epochs": 2,
    "trainer.batch_size": 4,
    "trainer.schedule.warmup_epochs": 0.0,
    "trainer.save_minutes": 0.0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        path = folder / f"kind{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        coarse.resize((48, 48), Image.Resampling.BILINEAR).save(path)
    return folder


@pytest.fixture
def tiny(photos):
    """Function that returns the tiny version of a shipped config."""

    def make(name="simclr_resnet18_industrial", **changes):
        keys = {**TINY, "data.root": str(photos)} | {key.replace("__", "."): value for key, value in changes.items()}
        return load_config(f"simclr/{name}.py", keys)

    return make


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    """A finished pretraining. Read-only."""
    cfg = load_config("simclr/simclr_resnet18_industrial.py", {**TINY, "data.root": str(photos)})
    return pretrain(cfg, tmp_path_factory.mktemp("runs"))


def test_the_run_folder_is_complete(done):
    names = {path.name for path in done.folder.iterdir()}
    assert {"config.yaml", "run.json", "log.jsonl", "data.json", "report.html", "encoder.safetensors"} <= names
    state = json.loads((done.folder / "run.json").read_text())
    assert state["status"] == "finished"
    assert state["encoder"]["images"] == "10"
    assert state["encoder"]["tensors"] == len(read_export(done.file).state)
    assert not (done.folder / "training" / "encoder").exists()  # the states are removed
    assert done.folder.parts[-4:] == ("simclr_resnet18_industrial", "pretraining", "images", "0")


def test_the_export_says_how_it_was_trained(done):
    with safe_open(done.file, "pt") as file:
        metadata = file.metadata()
    expected = {
        "architecture": "test_resnet",
        "stem": "imagenet",
        "method": "simclr",
        "epochs": "2",
        "input_size": "32",
    }
    assert {key: metadata[key] for key in expected} == expected
    assert len(metadata["data"]) == 64
    assert metadata["temperature"] == "0.1"
    assert json.loads(metadata["mean"])[0] == pytest.approx(0.485)


def test_curves_stand_in_the_log_and_the_report(done):
    epochs = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in epochs if event["event"] == "epoch"]
    assert [set(epoch["measurements"]) for epoch in epochs] == [{"top1", "top5", "spread"}] * 2
    (fit,) = read_run(done.folder).training
    assert [epoch.measurements.keys() for epoch in fit.phases[0][1]] == [{"top1", "top5", "spread"}] * 2
    page = (done.folder / "report.html").read_text()
    assert "pretraining: loss" in page
    assert "pretraining: measured on the training batches" in page
    assert "encoder.safetensors" in page
    assert "No category has been evaluated" not in page


def test_the_number_of_negatives_is_logged(done):
    log = (done.folder / "log.jsonl").read_text()
    assert "6 negatives per anchor" in log  # 2 * 4 - 2


def test_equal_runs_have_equal_bytes_for_any_number_of_workers(done, tiny, tmp_path):
    again = pretrain(tiny(data__workers=2), tmp_path)
    assert again.file.read_bytes() == done.file.read_bytes()


def test_a_killed_run_resumes_to_the_same_bytes(done, tiny, tmp_path, monkeypatch):
    calls = []
    original = SimCLR.losses

    def losses(self, batch):
        calls.append(len(batch))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(SimCLR, "losses", losses)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(), tmp_path)
    with pytest.raises(AnoframeError, match="--resume"):
        pretrain(tiny(), tmp_path)
    resumed = pretrain(tiny(), tmp_path, "resume")
    assert len(calls) == 5 + 2  # six steps in total, four of which were saved
    assert resumed.file.read_bytes() == done.file.read_bytes()


def test_resuming_a_finished_run_trains_nothing(done, tiny, tmp_path, monkeypatch):
    copy = tmp_path / "simclr_resnet18_industrial" / "pretraining" / "images" / "0"
    shutil.copytree(done.folder, copy)
    monkeypatch.setattr(SimCLR, "losses", None)
    assert pretrain(tiny(), tmp_path, "resume").file.read_bytes() == done.file.read_bytes()
    assert "already finished" not in (copy / "run.json").read_text()


def test_changed_images_or_settings_are_not_resumed(done, tiny, photos, tmp_path):
    copy = tmp_path / "simclr_resnet18_industrial" / "pretraining" / "images" / "0"
    shutil.copytree(done.folder, copy)
    with pytest.raises(AnoframeError, match=r"learner\.temperature was 0\.1 and is 0\.2"):
        pretrain(tiny(learner__temperature=0.2), tmp_path, "resume")
    fewer = tmp_path / "fewer"
    shutil.copytree(photos / "kind0", fewer)
    with pytest.raises(AnoframeError, match="its data have changed"):
        pretrain(tiny(data__root=str(fewer)), tmp_path, "resume")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("supervised_resnet18", {"data__name": "classes"}),
        ("triplet_resnet18", {"learner__synthesis__name": "smooth_blend"}),
        ("relative_position_resnet18", {"learner__cell": 8, "learner__gap": 1, "learner__jitter": 1}),
        ("spd_resnet18", {"learner__micro_batches": 2}),
        ("simsiam_resnet18", {"trainer__batch_size": 5}),
    ],
)
def test_every_method_runs_from_its_config(name, changes, tiny, tmp_path):
    result = pretrain(tiny(name, trainer__epochs=1, **changes), tmp_path)
    assert read_export(result.file).facts["method"] == name.removesuffix("_resnet18")


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("patchcore/patchcore_lite0_224.py", {}),
        ("padim/padim_lite0_224.py", {"model.num_channels": 20}),
        ("padim/padim_resnet18_224.py", {"model.num_channels": 20, "model.backbone.weights": "default"}),
    ],
)
def test_a_detector_uses_the_export(config, changes, done, tiny_root, tmp_path):
    """S8: the whole way from the file to metrics, and to a run that is loaded again."""
    keys = {
        "model.backbone.name": f"exported:{done.folder}",
        "data.name": "folder",
        "data.root": str(tiny_root),
        "data.resize": 64,
        "data.crop": 64,
        "data.workers": 0,
        "threshold.held_back": 0.0,
        "report.pictures": 2,
        "device": "cpu",
        **changes,
    }
    run = anoframe.train(anoframe.load_config(config, keys), ["felt"], tmp_path)
    stored = json.loads((run.folder / "metrics.json").read_text())["provenance"]["backbone"]
    assert stored["tensors"] == len(read_export(done.file).state)
    assert (stored["method"], stored["weights"]) == ("simclr", "exported")
    assert 0 <= run.metrics["felt"]["image_auroc"] <= 1
    image = tiny_root / "felt/test/cut/000.png"
    assert anoframe.load_run(run.folder).predict(image).score == run.predict(image).score


def test_a_config_that_names_weights_says_how_to_use_an_export(done):
    """padim_resnet18_224 names the weights of torchvision, which an export does not take."""
    keys = {"model.backbone.name": f"exported:{done.folder}"}
    cfg = anoframe.load_config("padim/padim_resnet18_224.py", keys)
    with pytest.raises(AnoframeError, match=r"brings its own weights.*--model\.backbone\.weights default"):
        build_detector(to_plain(cfg.model))


def test_accumulation_says_how_many_negatives_are_left(tiny):
    plan = PretrainingPlan(tiny(trainer__batch_size=8, trainer__accumulate=2))
    assert plan.negatives == 14
    (warning,) = plan.warnings
    assert "negatives per anchor = 6" in warning
    assert "--learner.micro_batches 2" in warning


def test_test_images_are_excluded_and_counted(tiny, tiny_root, photos, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    shutil.copy(tiny_root / "felt/test/cut/000.png", mixed / "leak.png")
    plan = PretrainingPlan(tiny(data__root=str(mixed), data__exclude=(f"folder:{tiny_root}",)))
    assert len(plan.data.images) == 10
    assert "1 training image is left out" in plan.warnings[0]


def test_command_line(photos, tmp_path, capsys):
    words = [f"--{key}={value}" for key, value in TINY.items() if "." in key]
    command = ["--config", "simclr/simclr_resnet18.py", "--output", str(tmp_path), "--device", "cpu", *words]
    assert main([*command, "--data.root", str(photos), "--trainer.epochs", "1"]) == 0
    assert "encoder.safetensors" in capsys.readouterr().out
    assert main([*command]) == 2
    assert "data.root is not set" in capsys.readouterr().err
    assert main([*command, "--data.root", str(photos)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_configs_of_the_other_command_are_refused(cli, tmp_path, capsys):
    result = cli("--config", "simclr/simclr_resnet18.py", "--cls_names", "bottle", "--output", tmp_path)
    assert result.status == 2
    assert "tools/pretrain.py" in result.err
    assert main(["--config", "patchcore/patchcore_224.py", "--output", str(tmp_path)]) == 2
    assert "tools/main.py" in capsys.readouterr().err
