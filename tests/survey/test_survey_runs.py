"""A survey of tiny networks: its cells, its tables, resuming, test images, and encoders that are missing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil

import pytest

from anoframe.backbones.exported import read_export
from anoframe.errors import AnoframeError
from anoframe.report.compare import read_finished
from anoframe.runs.pretraining_plan import PretrainingPlan
from anoframe.survey.plan import plan_survey
from anoframe.survey.runner import run_survey
from anoframe.survey.settings import read_survey

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

FILES = ("survey.md", "survey.csv", "survey.json", "survey.html")


@pytest.fixture(scope="module")
def done(survey_config, tmp_path_factory):
    """Output folder of the finished survey. Read-only."""
    output = tmp_path_factory.mktemp("runs")
    survey = run_survey(survey_config(), output)
    assert survey.table.failures == []
    return output


def encoders_of(tree, evaluation):
    return {row["encoder"] for row in tree["evaluations"][evaluation]["rows"]}


def test_every_evaluation_has_all_encoders(done):
    tree = json.loads((done / "survey.json").read_text())
    assert set(tree["evaluations"]) == {"colours", "padim", "patchcore"}
    for evaluation in tree["evaluations"]:
        assert encoders_of(tree, evaluation) == {"random", "own", "natural"}
    assert all((done / name).stat().st_size for name in FILES)


def test_values_are_those_of_the_runs(done):
    tree = json.loads((done / "survey.json").read_text())
    (row,) = [r for r in tree["evaluations"]["padim"]["rows"] if (r["encoder"], r["category"]) == ("own", "mesh")]
    run = read_finished(done / "padim-own" / "separate" / "mesh" / "1")
    (category,) = run.evaluated
    assert row["metrics"]["pixel_auroc"]["seeds"]["1"] == category.metrics["pixel_auroc"]
    (probes,) = (done / "colours-random" / "probe").glob("*/1/probes.json")
    (row,) = [r for r in tree["evaluations"]["colours"]["rows"] if (r["encoder"], r["category"]) == ("random", "knn")]
    assert row["metrics"]["top1"]["seeds"]["1"] == json.loads(probes.read_text())["metrics"]["knn"]["top1"]


def test_own_and_random_encoders_begin_with_the_same_weights(survey_config, tmp_path):
    plan = plan_survey(read_survey(survey_config()), tmp_path)
    drawn = {seed: read_export(tmp_path / f"random/random/{seed}").state for seed in (0, 1)}
    for seed in (0, 1):
        learner = PretrainingPlan(plan.pretraining["own", seed].cfg).learner
        state = learner.encoder.network.state_dict()
        assert state.keys() == drawn[seed].keys()
        assert all(state[name].equal(value) for name, value in drawn[seed].items())
    assert not drawn[0]["conv1.0.weight"].equal(drawn[1]["conv1.0.weight"])


def test_encoders_state_their_training(done):
    tree = json.loads((done / "survey.json").read_text())["encoders"]
    assert (tree["own"]["method"], tree["own"]["epochs"], tree["own"]["images"]) == ("simclr", "1", "12")
    assert (tree["random"]["method"], tree["random"]["epochs"]) == ("random", "0")
    assert tree["natural"]["method"].startswith("ImageNet weights")


def test_csv_has_one_row_per_figure(done):
    rows = list(csv.DictReader(io.StringIO((done / "survey.csv").read_text())))
    tree = json.loads((done / "survey.json").read_text())
    figures = [row["metrics"] for evaluation in tree["evaluations"].values() for row in evaluation["rows"]]
    assert len(rows) == sum(map(len, figures))
    assert {row["seeds"] for row in rows} == {"2"}


def test_a_folder_of_another_survey_is_an_error(done, survey_config, tmp_path):
    """Run folders name the encoder by its path, so a copied survey is another one."""
    shutil.copytree(done, tmp_path / "runs")
    with pytest.raises(AnoframeError, match="A survey has no --overwrite"):
        run_survey(survey_config(), tmp_path / "runs")


def test_a_survey_is_resumed(survey_config, tmp_path, monkeypatch):
    import anoframe.grid.cells as cells

    cfg = survey_config(**{"detection.categories": ["felt"]})
    with cfg.unlocked():
        del cfg.detection.methods.patchcore
    before = run_survey(cfg, tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in FILES}
    (tmp_path / "padim-own/separate/felt/1/metrics.json").unlink()
    started = []
    original = cells.train
    monkeypatch.setattr(cells, "train", lambda *args, **keys: started.append(args[1]) or original(*args, **keys))
    after = run_survey(cfg, tmp_path)
    assert started == [("felt",)]
    assert before.table == after.table
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == files


def test_test_images_of_the_evaluations_are_left_out(survey_config, tiny_root, tmp_path):
    """All images below the root include the test images of the detectors."""
    changes = {"encoders.own.set.data.name": "images", "seeds": [0], "detection.categories": ["felt"]}
    cfg = survey_config(**changes)
    with cfg.unlocked():
        cfg.classification = {}
        del cfg.detection.methods.patchcore
    run_survey(cfg, tmp_path)
    files = json.loads((tmp_path / "own/pretraining/images/0/data.json").read_text())["pretraining"]["train"]
    names = {str(name) for name in files}
    assert not any("/felt/test/" in name for name in names)
    assert not any("/mesh/test/" in name for name in names)  # of all categories of the dataset
    assert any("/felt/train/" in name for name in names)


def test_an_exported_encoder_that_saw_test_images_is_an_error(done, survey_config, tiny_root, tmp_path):
    export = tmp_path / "leaking"
    shutil.copytree(done / "own/pretraining/folder/0", export)
    cfg = survey_config(**{"encoders.own.source": "exported", "encoders.own.path": str(export), "seeds": [0]})
    image = tiny_root / "felt/test/good/000.png"
    content = hashlib.sha256(image.read_bytes()).hexdigest()
    (export / "data.json").write_text(json.dumps({"pretraining": {"train": {"x.png": content}, "test": {}}}))
    with pytest.raises(AnoframeError, match=r"own is trained on 1 test image of the survey: .*000\.png"):
        run_survey(cfg, tmp_path / "runs")


def test_exported_encoders_of_each_seed_are_taken(done, survey_config, tmp_path, capsys):
    path = str(done / "own/pretraining/folder/{seed}")
    cfg = survey_config(**{"encoders.own.source": "exported", "encoders.own.path": path})
    with cfg.unlocked():
        cfg.detection.methods = {}
    table = run_survey(cfg, tmp_path).table
    assert table.failures == []
    first = json.loads((done / "survey.json").read_text())["evaluations"]["colours"]
    second = json.loads((tmp_path / "survey.json").read_text())["evaluations"]["colours"]
    key = lambda row: (row["encoder"], row["category"])  # noqa: E731
    assert sorted(first["rows"], key=key) == sorted(second["rows"], key=key)


def test_missing_imagenet_weights_are_a_note(survey_config, tmp_path, capsys):
    cfg = survey_config(**{"encoders.natural.weights": str(tmp_path / "none.pth"), "seeds": [0]})
    with cfg.unlocked():
        cfg.detection.methods = {}
        del cfg.encoders.own
    table = run_survey(cfg, tmp_path / "runs").table
    assert [row.note[:13] for row in table.encoders] == ["", "not evaluated"]
    for name in ("survey.md", "survey.html"):
        assert "there is no weights file" in (tmp_path / "runs" / name).read_text()
    assert "natural" in (tmp_path / "runs" / "survey.md").read_text()


def test_a_failed_pretraining_is_listed_and_the_others_are_evaluated(survey_config, tmp_path, monkeypatch):
    import anoframe.survey.cells as cells

    def fail(*_args, **_keys):
        raise AnoframeError("the disk is on fire")

    monkeypatch.setattr(cells, "pretrain", fail)
    cfg = survey_config(**{"seeds": [0]})
    with cfg.unlocked():
        cfg.detection.methods = {}
    table = run_survey(cfg, tmp_path).table
    assert [failure.reason for failure in table.failures] == ["the disk is on fire"]
    (section,) = table.sections
    assert {row.encoder for row in section.rows if row.figures} == {"random", "natural"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detection.categories": ["fetl"]}, "did you mean 'felt'"),
        ({"encoders.own.set.data.root": "/nowhere"}, "encoders.own: .*nowhere"),
        ({"classification.colours.set.data.root": "/nowhere"}, "nowhere"),
        ({"encoders.random.architecture": "resnet"}, "timm has no model 'resnet'"),
        ({"encoders.natural.architecture": "resnet"}, "timm has no model 'resnet'"),
        ({"detection.methods.padim.config": "probe/probe.py"}, "detection.methods.padim: .*no section model.backbone"),
        ({"classification.colours.config": "padim/padim_224.py"}, "classification.colours: .*probes"),
    ],
)
def test_errors_are_raised_before_the_first_cell(survey_config, tmp_path, changes, message):
    with pytest.raises(AnoframeError, match=message):
        run_survey(survey_config(**changes), tmp_path)
    assert not list(tmp_path.rglob("run.json"))


def test_processes_give_the_same_tables(survey_config, tmp_path):
    """Two processes pretrain, then evaluate: the bytes of a run in this process."""
    cfg = survey_config(**{"seeds": [0], "detection.categories": ["felt"]})
    with cfg.unlocked():
        cfg.classification = {}
        del cfg.detection.methods.patchcore
    contents = []
    for workers in (0, 2):
        survey = run_survey(cfg, tmp_path / str(workers), workers)
        assert survey.table.failures == []
        contents.append([(tmp_path / str(workers) / name).read_bytes() for name in FILES])
    assert contents[0] == contents[1]


def test_rd4ad_trains_on_every_encoder(survey_config, tmp_path):
    cfg = survey_config(**{"seeds": [0], "detection.categories": ["felt"]})
    short = {"trainer": {"epochs": 1, "batch_size": 3}, "model": {"width": 0.25}}
    with cfg.unlocked():
        cfg.classification = {}
        cfg.detection.methods = {"rd4ad": {"config": "rd4ad/rd4ad_lite0_256.py", "set": short}}
        del cfg.encoders.own
    table = run_survey(cfg, tmp_path).table
    assert table.failures == []
    assert [row.encoder for row in table.sections[0].rows if "aupro" in row.figures] == ["random", "natural"]
