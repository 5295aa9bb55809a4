"""Reading a run folder: complete, incomplete, damaged, and with names that point outside it."""

from __future__ import annotations

import pytest

from anoframe.errors import AnoframeError
from anoframe.report.category_record import Scored
from anoframe.report.run_record import read_run


@pytest.mark.parametrize(
    ("defect", "score", "outcome"),
    [
        ("cut", 5.0, "found"),
        ("cut", 4.9, "missed"),
        ("good", 5.0, "false alarm"),
        ("good", 4.9, "passed"),
    ],
)
def test_image_is_flagged_at_or_above_the_threshold(defect, score, outcome):
    assert Scored("x", defect, score).outcome(5.0) == outcome


def test_without_threshold_there_is_no_outcome():
    assert Scored("x", "cut", 1.0).outcome(None) == ""


def test_complete_run_is_read(full_run):
    run = read_run(full_run)
    felt = run.categories[0]
    assert [category.name for category in run.categories] == ["felt", "mesh"]
    assert (len(felt.images), len(felt.pictures), felt.image_threshold) == (6, 6, 5.0)
    assert set(felt.curves) == {"roc", "pr", "pro", "pixel_roc", "pixel_pr"}
    outcomes = felt.count_outcomes()
    assert (outcomes["missed"], outcomes["false alarm"], sum(outcomes.values())) == (1, 1, 6)


def test_run_of_an_earlier_version_has_no_scores(older_run):
    felt = read_run(older_run).categories[0]
    assert (felt.images, felt.threshold, felt.curves, felt.count_outcomes()) == (None, None, {}, {})


def test_failed_category_is_read(full_run, change):
    change(full_run / "run.json", lambda tree: tree["failed"].update({"rope": "no test images"}))
    rope = read_run(full_run).categories[-1]
    assert (rope.name, rope.failed, rope.metrics) == ("rope", "no test images", {})


def test_results_are_read_without_metrics_json(full_run):
    (full_run / "metrics.json").unlink()
    assert [category.name for category in read_run(full_run).evaluated] == ["felt", "mesh"]


def test_folder_without_config_is_rejected(tmp_path):
    with pytest.raises(AnoframeError, match=r"no config\.yaml"):
        read_run(tmp_path)


# ------------------------------------------------------------------------------------------------ names and links

OUTSIDE = ["../../secret.png", "/etc/passwd", "..", ".", "", "a/b.png", "..\\x.png", "x\0.png", None, 7]


@pytest.mark.parametrize("name", OUTSIDE)
def test_picture_outside_its_folder_is_rejected(full_run, change, name):
    change(full_run / "pictures/felt/pictures.json", lambda rows: rows[0].update(file=name))
    with pytest.raises(AnoframeError, match=r"pictures.felt: the picture name .* points outside this folder"):
        read_run(full_run)


def test_link_to_a_file_outside_is_rejected(full_run, change, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (full_run / "pictures/felt/link.png").symlink_to(tmp_path / "secret.png")
    change(full_run / "pictures/felt/pictures.json", lambda rows: rows[0].update(file="link.png"))
    with pytest.raises(AnoframeError, match="points outside this folder"):
        read_run(full_run)


@pytest.mark.parametrize("name", ["../felt", "a/b", ".."])
def test_category_outside_its_folder_is_rejected(full_run, change, name):
    change(full_run / "metrics.json", lambda tree: tree["categories"].update({name: {}}))
    with pytest.raises(AnoframeError, match=r"the category name .* points outside"):
        read_run(full_run)


# ------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("results/felt.json", lambda tree: tree.update(threshold={})),
        ("results/felt.json", lambda tree: tree.update(images=[{"name": "x"}])),
        ("results/felt.json", lambda tree: tree["curves"].update(roc={"x": [0], "y": [0, 1]})),
        ("results/felt.json", lambda tree: tree["curves"].update(roc=["x"])),
        ("results/felt.json", lambda tree: tree["curves"].update(roc={"x": [float("inf")], "y": [0]})),
        ("results/felt.json", lambda tree: tree["curves"].update(roc={"x": [0, 2], "y": [0, 1]})),
        ("results/felt.json", lambda tree: tree["curves"].update(roc={"x": [0.5, 0.1], "y": [0, 1]})),
        ("results/felt.json", lambda tree: tree["threshold"].update(image=float("nan"))),
        ("metrics.json", lambda tree: tree["provenance"].update(versions="x")),
        ("run.json", lambda tree: tree.update(machine=True)),
        ("metrics.json", lambda tree: tree["categories"].update(felt={"image_auroc": "<b>"})),
        ("metrics.json", lambda tree: tree.update(categories=[1])),
        ("run.json", lambda tree: tree["stages"].update(save={"seconds": "long"})),
        ("pictures/felt/pictures.json", lambda rows: rows[0].pop("score")),
    ],
)
def test_damaged_file_is_named(full_run, change, file, damage):
    change(full_run / file, damage)
    with pytest.raises(AnoframeError, match=f"{file} is damaged"):
        read_run(full_run)


@pytest.mark.parametrize("file", ["config.yaml", "metrics.json", "run.json", "results/felt.json"])
def test_file_that_cannot_be_parsed_is_named(full_run, file):
    (full_run / file).write_text("{[")
    with pytest.raises(AnoframeError, match=f"{file} is damaged"):
        read_run(full_run)


@pytest.mark.parametrize("file", ["config.yaml", "metrics.json", "run.json", "results/felt.json"])
def test_file_that_holds_a_list_is_named(full_run, file):
    (full_run / file).write_text("[]")
    with pytest.raises(AnoframeError, match=f"{file} is damaged: it holds list"):
        read_run(full_run)


# ------------------------------------------------------------------------------------------------ training


def test_complete_training_is_read(trained_run):
    felt = read_run(trained_run).training[0]
    (first, epochs), (second, _) = felt.phases
    assert (felt.fit, first, second, felt.remark) == ("felt", "student", "head", "")
    assert [(epoch.number, epoch.losses["cosine"], epoch.lr) for epoch in epochs[:2]] == [
        (1, 1.0, 0.01),
        (2, 0.5, 0.005),
    ]
    values = [(evaluation.epoch, evaluation.metrics["felt"]["aupro"]) for evaluation in felt.evaluations]
    assert values == [(1, None), (2, None), (3, None)]


def test_run_without_gradient_descent_has_no_training(full_run):
    assert read_run(full_run).training == []


def test_missing_training_curves_are_a_remark(trained_run):
    mesh = read_run(trained_run).training[1]
    assert (mesh.fit, mesh.phases) == ("mesh", [])
    assert "has no training/mesh.json" in mesh.remark


def first_epoch(tree):
    return tree["phases"][0]["epochs"][0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.pop("phases"),
        lambda tree: tree.update(phases=["student"]),
        lambda tree: first_epoch(tree).pop("lr"),
        lambda tree: first_epoch(tree).update(losses=[1.0]),
        lambda tree: first_epoch(tree)["losses"].update(cosine=float("nan")),
        lambda tree: first_epoch(tree).update(seconds=-1.0),
        lambda tree: first_epoch(tree).update(epoch=2),
        lambda tree: first_epoch(tree).update(epoch=0),
        lambda tree: first_epoch(tree).update(epoch="<b>"),
        lambda tree: tree["looks"][0].update(epoch=1.5),
        lambda tree: tree["looks"][0].update(metrics={"felt": {"aupro": 1.5}}),
        lambda tree: tree["looks"][0].update(metrics=[1.0]),
    ],
)
def test_damaged_training_curves_are_a_remark_that_names_the_file(trained_run, change, damage):
    change(trained_run / "training/felt.json", damage)
    felt = read_run(trained_run).training[0]
    assert felt.phases == []
    assert felt.remark.startswith("training/felt.json is damaged")


@pytest.mark.parametrize("text", ["{[", "[]"])
def test_training_curves_that_cannot_be_parsed_are_a_remark(trained_run, text):
    (trained_run / "training/felt.json").write_text(text)
    assert read_run(trained_run).training[0].remark.startswith("training/felt.json is damaged")


def test_training_curves_behind_a_link_are_not_read(trained_run, tmp_path):
    path = trained_run / "training/felt.json"
    path.rename(tmp_path / "felt.json")
    path.symlink_to(tmp_path / "felt.json")
    felt = read_run(trained_run).training[0]
    assert felt.phases == []
    assert "points outside this folder" in felt.remark
