"""Results come first, and a run knows its data: what is recorded, and what a resumed or testing run says about it."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import torch

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError, OutputError
from anoframe.utils import files

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def root(tiny_root, tmp_path):
    return shutil.copytree(tiny_root, tmp_path / "data")


@pytest.fixture
def train(tiny_config, root, tmp_path):
    def run(start="new", data_root=root):
        return anoframe.train(load_config(tiny_config, {"data.root": str(data_root)}), ["felt"], tmp_path, start)

    return run


@pytest.fixture
def interrupted(train, monkeypatch):
    """A run that is trained and was interrupted in its evaluation; returns the run folder."""

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anoframe.runs.evaluating.collect_distributed", stop)
        with pytest.raises(KeyboardInterrupt):
            train()


def warnings_of(run):
    events = map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())
    texts = [event["text"] for event in events if event["event"] == "warning"]
    return [text for text in texts if "too few training images for a threshold" not in text]


def fail(*args, **options):
    raise OSError(errno.ENAMETOOLONG, "File name too long")


# ------------------------------------------------------------------------------------------------ results first


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("anoframe.runs.evaluating.write_category_pictures", "felt: the pictures cannot be made: "),
        ("anoframe.report.write._write_picture", "felt: 6 of 6 pictures are left out: "),
        ("anoframe.runs.evaluating.category_curves", "felt: the curves cannot be made: "),
        ("anoframe.runs.recording.write_report", "report.html cannot be made: "),
        ("anoframe.models.patchcore.model.PatchCore.summary", "felt: the summary of the method cannot be made: "),
    ],
)
def test_decoration_that_fails_is_a_warning_and_costs_no_result(train, finished, monkeypatch, function, says):
    monkeypatch.setattr(function, fail)
    run = train()
    assert run.metrics["felt"] == finished.metrics["felt"]
    assert run.failed == {}
    assert json.loads((run.folder / "run.json").read_text())["status"] == "finished"
    (warning,) = warnings_of(run)
    assert warning.startswith(says)
    assert "File name too long" in warning


@pytest.fixture
def killed(train, monkeypatch, tmp_path):
    """The folder of a run that was killed between a result and its pictures."""

    def kill(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anoframe.runs.evaluating.write_category_pictures", kill)
        with pytest.raises(KeyboardInterrupt):
            train()
    (result,) = tmp_path.rglob("results/felt.json")
    return result.parents[1]


def test_a_resumed_run_draws_the_pictures_that_a_kill_has_cost(train, finished, killed):
    run = train("resume")
    assert run.folder == killed
    assert run.metrics["felt"] == finished.metrics["felt"]
    assert warnings_of(run) == []
    drawn, expected = (
        {path.name: path.read_bytes() for path in (folder / "pictures/felt").iterdir()}
        for folder in (run.folder, finished.folder)
    )
    assert drawn == expected
    assert len(expected) > 1


def test_pictures_without_a_checkpoint_are_a_warning_and_train_nothing(train, finished, killed):
    shutil.rmtree(killed / "checkpoint")
    run = train("resume")
    assert run.metrics["felt"] == finished.metrics["felt"]
    assert not (killed / "checkpoint").exists()
    expected = "felt: the run ended before its pictures were drawn, and its checkpoint is missing"
    assert warnings_of(run) == [expected]


def test_a_result_that_cannot_be_written_ends_the_run(train, monkeypatch):
    def full(path, data, sync=True):
        if path.name == "felt.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, data, sync)

    original = files.replace_file
    monkeypatch.setattr(files, "replace_file", full)
    with pytest.raises(OutputError, match=r"No space left on device\. Free space"):
        train()


def test_a_console_that_is_gone_costs_no_result(train, finished, monkeypatch):
    monkeypatch.setattr("anoframe.tracking.tracker.print_line", fail)
    run = train()
    assert run.metrics["felt"] == finished.metrics["felt"]
    assert warnings_of(run)[0].startswith("tracking by Console stopped: ")


# ------------------------------------------------------------------------------------------------ the data


def test_the_data_are_recorded(train):
    run = train()
    recorded = run.results.provenance["data_fingerprint"]["felt"]
    assert (recorded["train_images"], recorded["test_images"], recorded["masks"]) == (6, 7, 4)
    state = json.loads((run.folder / "run.json").read_text())
    assert state["provenance"]["data_fingerprint"]["felt"] == recorded
    assert len(json.loads((run.folder / "data.json").read_text())["felt"]["test"]) == 11


def test_data_at_another_place_are_the_same(interrupted, train, root, tmp_path, finished):
    moved = root.rename(tmp_path / "moved")
    assert train("resume", moved).metrics["felt"] == finished.metrics["felt"]


@pytest.mark.parametrize("is_finished", [True, False])
def test_changed_data_are_refused_with_their_names(request, train, root, is_finished):
    train() if is_finished else request.getfixturevalue("interrupted")
    good = root / "felt/train/good"
    shutil.copy(good / "000.png", good / "900.png")
    shutil.copy(root / "felt/test/good/000.png", root / "felt/test/good/001.png")
    with pytest.raises(AnoframeError) as error:
        train("resume")
    assert (
        "its data have changed since it began: felt, train: 1 added (felt/train/good/900.png); "
        "felt, test: 1 changed (felt/test/good/001.png). Restore the data, choose another --output, or replace the run "
        "with --overwrite"
    ) in str(error.value)


def test_restored_data_are_accepted(interrupted, train, root):
    path = root / "felt/train/good/005.png"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(AnoframeError, match=r"1 removed \(felt/train/good/005.png\)"):
        train("resume")
    path.write_bytes(content)
    assert set(train("resume").metrics) == {"felt"}


def test_a_run_of_an_earlier_version_resumes_with_a_warning(train):
    folder = train().folder
    before = (folder / "metrics.json").read_text()
    state = json.loads((folder / "run.json").read_text())
    del state["provenance"]["data_fingerprint"]
    (folder / "run.json").write_text(json.dumps(state))
    (folder / "data.json").unlink()
    run = train("resume")
    assert any("did not record its data" in text for text in warnings_of(run))
    expected = json.loads(before)
    del expected["provenance"]["data_fingerprint"]
    assert json.loads((folder / "metrics.json").read_text()) == expected


def test_a_test_on_other_images_says_so(train, root, tmp_path):
    checkpoint = train().folder
    shutil.copy(root / "felt/train/good/000.png", root / "felt/train/good/900.png")
    assert warnings_of(anoframe.test(checkpoint, output=tmp_path)) == []
    (root / "felt/test/good/002.png").unlink()
    (warning,) = warnings_of(anoframe.test(checkpoint, output=tmp_path, start="overwrite"))
    assert "the test images are not those of the run that trained this checkpoint" in warning
    assert "felt, test: 1 removed (felt/test/good/002.png)" in warning


# ------------------------------------------------------------------------------------------------ threads


def test_another_number_of_threads_is_a_warning(interrupted, train, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    (warning,) = warnings_of(train("resume"))
    assert warning.startswith("this run had 1 torch threads before, and continues with 2: ")
    assert warning.endswith("OMP_NUM_THREADS=1 gives equal ones")


# ------------------------------------------------------------------------------------------------ no defects


@pytest.mark.parametrize(("good", "says"), [(True, "3 normal images"), (False, "no normal images")])
def test_a_run_without_defects_has_a_threshold_and_no_metric(
    train, enough_root, tmp_path, monkeypatch, capsys, good, says
):
    monkeypatch.setattr("anoframe.data.validation.split_problems", lambda *args: [])
    root = shutil.copytree(enough_root, tmp_path / "normal")
    shutil.rmtree(root / "felt/ground_truth")
    for name in ("cut", "dent", *(() if good else ("good",))):
        shutil.rmtree(root / "felt/test" / name)
    run = train(data_root=root)
    assert set(run.metrics["felt"].values()) == {None}
    assert run.results.provenance["thresholds"]["felt"]["image"] > 0
    assert (run.folder / "report.html").exists()
    assert f"felt: no metric is available: the test set has {says} and no defects" in capsys.readouterr().out
