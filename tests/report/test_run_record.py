"""Reading a run folder: what is there, what is not, what is damaged, and what leads out of it."""

from __future__ import annotations

import pytest

from anoframe.errors import AnoframeError
from anoframe.report.run_record import Scored, read_run


@pytest.mark.parametrize(
    ("defect", "score", "outcome"),
    [
        ("cut", 5.0, "found"),
        ("cut", 4.9, "missed"),
        ("good", 5.0, "false alarm"),
        ("good", 4.9, "passed"),
    ],
)
def test_a_decision_is_at_or_above_the_threshold(defect, score, outcome):
    assert Scored("x", defect, score).outcome(5.0) == outcome


def test_without_a_threshold_nothing_is_decided():
    assert Scored("x", "cut", 1.0).outcome(None) == ""


def test_all_of_a_run_is_read(full_run):
    run = read_run(full_run)
    felt = run.categories[0]
    assert [category.name for category in run.categories] == ["felt", "mesh"]
    assert (len(felt.images), len(felt.pictures), felt.limit) == (6, 6, 5.0)
    assert set(felt.curves) == {"roc", "pr", "pro", "pixel_roc", "pixel_pr"}
    decided = felt.decided()
    assert (decided["missed"], decided["false alarm"], sum(decided.values())) == (1, 1, 6)


def test_an_older_run_has_no_scores(older_run):
    felt = read_run(older_run).categories[0]
    assert (felt.images, felt.threshold, felt.curves, felt.decided()) == (None, None, {}, {})


def test_a_category_that_only_failed_is_known(full_run, change):
    change(full_run / "run.json", lambda tree: tree["failed"].update({"rope": "no test images"}))
    rope = read_run(full_run).categories[-1]
    assert (rope.name, rope.failed, rope.metrics) == ("rope", "no test images", {})


def test_results_without_metrics_json_are_read(full_run):
    (full_run / "metrics.json").unlink()
    assert [category.name for category in read_run(full_run).evaluated] == ["felt", "mesh"]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(AnoframeError, match=r"no config\.yaml"):
        read_run(tmp_path)


ESCAPES = ["../../secret.png", "/etc/passwd", "..", ".", "", "a/b.png", "..\\x.png", "x\0.png", None, 7]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_picture_outside_of_its_folder_is_refused(full_run, change, name):
    change(full_run / "pictures/felt/pictures.json", lambda rows: rows[0].update(file=name))
    with pytest.raises(AnoframeError, match=r"pictures.felt: the name of a picture, .* leads out of this folder"):
        read_run(full_run)


def test_a_link_that_leads_out_is_refused(full_run, change, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (full_run / "pictures/felt/link.png").symlink_to(tmp_path / "secret.png")
    change(full_run / "pictures/felt/pictures.json", lambda rows: rows[0].update(file="link.png"))
    with pytest.raises(AnoframeError, match="leads out of this folder"):
        read_run(full_run)


@pytest.mark.parametrize("name", ["../felt", "a/b", ".."])
def test_a_category_outside_of_its_folder_is_refused(full_run, change, name):
    change(full_run / "metrics.json", lambda tree: tree["categories"].update({name: {}}))
    with pytest.raises(AnoframeError, match=r"the name of a category, .* leads out"):
        read_run(full_run)


@pytest.mark.parametrize(
    ("file", "mend"),
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
def test_damage_is_named_with_its_file(full_run, change, file, mend):
    change(full_run / file, mend)
    with pytest.raises(AnoframeError, match=f"{file} is damaged"):
        read_run(full_run)


@pytest.mark.parametrize("file", ["config.yaml", "metrics.json", "run.json", "results/felt.json"])
def test_a_file_that_cannot_be_parsed_is_named(full_run, file):
    (full_run / file).write_text("{[")
    with pytest.raises(AnoframeError, match=f"{file} is damaged"):
        read_run(full_run)


@pytest.mark.parametrize("file", ["config.yaml", "metrics.json", "run.json", "results/felt.json"])
def test_a_file_that_holds_a_list_is_named(full_run, file):
    (full_run / file).write_text("[]")
    with pytest.raises(AnoframeError, match=f"{file} is damaged: it holds list"):
        read_run(full_run)


# ------------------------------------------------------------------------------------------------ training


def test_all_of_a_training_is_read(trained_run):
    felt = read_run(trained_run).training[0]
    (name, epochs), (other, _) = felt.phases
    assert (felt.fit, name, other, felt.remark) == ("felt", "student", "head", "")
    assert [(epoch.number, epoch.losses["cosine"], epoch.lr) for epoch in epochs[:2]] == [
        (1, 1.0, 0.01),
        (2, 0.5, 0.005),
    ]
    assert [(look.epoch, look.metrics["felt"]["aupro"]) for look in felt.looks] == [(1, None), (2, None), (3, None)]


def test_what_was_not_trained_has_no_training(full_run):
    assert read_run(full_run).training == []


def test_curves_that_are_missing_are_a_remark(trained_run):
    mesh = read_run(trained_run).training[1]
    assert (mesh.fit, mesh.phases) == ("mesh", [])
    assert "does not hold them (training/mesh.json)" in mesh.remark


def first_epoch(tree):
    return tree["phases"][0]["epochs"][0]


@pytest.mark.parametrize(
    "mend",
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
def test_damaged_curves_are_a_remark_that_names_the_file(trained_run, change, mend):
    change(trained_run / "training/felt.json", mend)
    felt = read_run(trained_run).training[0]
    assert felt.phases == []
    assert felt.remark.startswith("training/felt.json is damaged")


@pytest.mark.parametrize("text", ["{[", "[]"])
def test_curves_that_cannot_be_parsed_are_a_remark(trained_run, text):
    (trained_run / "training/felt.json").write_text(text)
    assert read_run(trained_run).training[0].remark.startswith("training/felt.json is damaged")


def test_curves_that_a_link_leads_to_are_not_read(trained_run, tmp_path):
    path = trained_run / "training/felt.json"
    path.rename(tmp_path / "felt.json")
    path.symlink_to(tmp_path / "felt.json")
    felt = read_run(trained_run).training[0]
    assert felt.phases == []
    assert "leads out of this folder" in felt.remark
