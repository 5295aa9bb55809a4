"""Runs on splits: what trains, what every output says, what a table refuses, and tests on other data."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
import toy_supervised
from tiny_data import TINY_DATA

import anoframe
from anoframe.data.manifest import read_manifest
from anoframe.errors import AnoframeError
from anoframe.grid.runner import run_grid
from anoframe.report.compare import compare
from anoframe.report.comparison_page import comparison_page
from anoframe.report.grid_export import csv_rows, grid_json, markdown
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import summarise
from anoframe.report.run_record import read_run
from anoframe.report.write import write_report
from anoframe.runs import recording
from anoframe.runs.disclosure import RANDOM_WEIGHTS
from anoframe.utils.tensor_files import read_tensors

pytestmark = pytest.mark.slow

TAG = "raml-supervised-80/20"
UNSUPERVISED = {"model.name": "toy_supervised:NormalMean"}
CATEGORIES = ["felt", "mesh"]
LOST = {"defects_cropped_away": 0}


@pytest.fixture(scope="module")
def root(tiny_root):
    return tiny_root


@pytest.fixture(scope="module")
def config(tmp_path_factory, root):
    path = tmp_path_factory.mktemp("configs") / "two_means.py"
    path.write_text(toy_supervised.CONFIG.format(common=TINY_DATA.format(root=str(root))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def train(config, tmp_path_factory):
    def run(output=None, categories=CATEGORIES, start="new", **changes):
        overrides = {"protocol.name": "unified", **changes}
        cfg = anoframe.load_config(config, overrides)
        return anoframe.train(cfg, categories, output or tmp_path_factory.mktemp("runs"), start)

    return run


@pytest.fixture(scope="module")
def supervised(train):
    return train()


@pytest.fixture(scope="module")
def baseline(train):
    """An unsupervised method on the same split."""
    return train(**UNSUPERVISED)


@pytest.fixture(scope="module")
def few_shot(train):
    return train(categories=["felt"], **UNSUPERVISED, **{"data.split": "few_shot", "data.shots": 2})


@pytest.fixture(scope="module")
def elsewhere(write_category, tmp_path_factory):
    """Another dataset, with one category that no run was trained on."""
    root = tmp_path_factory.mktemp("elsewhere")
    write_category(root / "weave", 13)
    return root


def metrics_of(run):
    return json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))


def counts_learned(run):
    return read_tensors(run.folder / "checkpoint/unified/learned.safetensors")["counts"].tolist()


# ------------------------------------------------------------------------------------------------ training


def test_supervised_method_learns_from_the_defects_of_the_split(supervised):
    assert counts_learned(supervised) == [2 * (6 + 2), 2 * 3]


def test_unsupervised_method_learns_from_normal_images_only(baseline):
    assert counts_learned(baseline) == [2 * (6 + 2), 0]


def test_result_and_checkpoint_tell_normal_images_from_defects(supervised, baseline):
    result = json.loads((supervised.folder / "results/felt.json").read_text(encoding="utf-8"))
    assert result["protocol_tag"] == TAG
    assert result["counts"] == {"train": 11, "train_defect": 3, "test_good": 1, "test_defect": 1, **LOST}
    result = json.loads((baseline.folder / "results/felt.json").read_text(encoding="utf-8"))
    assert "protocol_tag" not in result
    assert result["counts"] == {"train": 8, "test_good": 1, "test_defect": 1, **LOST}
    description = json.loads((supervised.folder / "checkpoint/unified/detector.json").read_text(encoding="utf-8"))
    assert description["training"] == {"protocol_tag": TAG, "train_defects": {"felt": 3, "mesh": 3}}


def test_supervised_method_without_defects_is_an_error_before_any_work(train, tmp_path):
    with pytest.raises(AnoframeError, match=r"TwoMeans learns from labelled defects, .* felt, mesh have none .* raml"):
        train(tmp_path, **{"data.split": "official"})
    assert not list(tmp_path.iterdir())


def test_more_shots_than_images_is_an_error_before_any_work(train, tmp_path):
    with pytest.raises(AnoframeError, match=r"data.shots 7 is more than the training images of category 'felt', 6"):
        train(tmp_path, **UNSUPERVISED, **{"data.split": "few_shot", "data.shots": 7})
    assert not list(tmp_path.iterdir())


def test_fit_is_announced_with_its_defects(train, capsys):
    train(categories=["felt"])
    assert "fit unified: 11 images, 3 of them defects" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ manifest


def test_run_folder_holds_the_manifest_with_its_hash_in_the_provenance(supervised, root):
    manifest = read_manifest(supervised.folder / "split.json")
    manifest.check_files(root)
    assert manifest.protocol_tag == TAG
    assert supervised.results.provenance["split_hash"] == manifest.hash
    assert {name: [len(rows) for rows in parts.values()] for name, parts in manifest.files.items()} == {
        "felt": [11, 2],
        "mesh": [11, 2],
    }


def test_baseline_has_the_same_split_hash(supervised, baseline):
    assert baseline.results.provenance["split_hash"] == supervised.results.provenance["split_hash"]


def test_official_split_has_no_manifest_and_no_new_keys(train):
    run = train(categories=["felt"], **UNSUPERVISED, **{"data.split": "official"})
    assert not (run.folder / "split.json").exists()
    known = {"protocol_tag", "held_out", "split_hash", "transfer_from"}
    assert not known & set(run.results.provenance)
    assert set(metrics_of(run)) == {"categories", "mean", "provenance"}
    assert "split" not in run.results.provenance["data"]


def test_resumed_run_has_the_same_manifest(train, tmp_path, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recording.RunRecorder, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    (manifest,) = tmp_path.rglob("split.json")
    before = manifest.read_bytes()
    run = train(tmp_path, start="resume")
    assert (run.folder / "split.json").read_bytes() == before


def test_resume_with_another_split_is_refused(train, tmp_path):
    train(tmp_path, categories=["felt"])
    with pytest.raises(AnoframeError, match=r"data.split was 'raml' and is 'raml_grouped'"):
        train(tmp_path, categories=["felt"], start="resume", **{"data.split": "raml_grouped"})


def test_overwritten_run_on_the_official_split_loses_the_manifest(train, tmp_path):
    train(tmp_path, categories=["felt"], **UNSUPERVISED)
    run = train(tmp_path, categories=["felt"], start="overwrite", **UNSUPERVISED, **{"data.split": "official"})
    assert not (run.folder / "split.json").exists()


# ------------------------------------------------------------------------------------------------ outputs


def test_metrics_json_has_tag_and_counts_at_both_places(supervised):
    tree = metrics_of(supervised)
    counts = {name: {"good": 1, "defect": 1} for name in CATEGORIES}
    for place in (tree, tree["provenance"]):
        assert place["protocol_tag"] == TAG
        assert place["held_out"] == counts
    assert tree["provenance"]["notes"] == [RANDOM_WEIGHTS, "two means are a toy"]
    assert tree["provenance"]["data"]["split"] == "raml"
    assert tree["provenance"]["data"]["split_seed"] == 42


def test_metrics_csv_has_the_columns_in_every_row(supervised):
    with open(supervised.folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["category"], row["held_out_good"], row["held_out_defect"]) for row in rows] == [
        ("felt", "1", "1"),
        ("mesh", "1", "1"),
        ("mean", "2", "2"),
    ]
    assert {row["protocol_tag"] for row in rows} == {TAG}
    assert {row["notes"] for row in rows} == {f"{RANDOM_WEIGHTS}. two means are a toy."}


def test_baseline_has_counts_but_no_tag(baseline):
    tree = metrics_of(baseline)
    assert "protocol_tag" not in tree
    assert tree["held_out"]["felt"] == {"good": 1, "defect": 1}


def test_console_table_shows_everything(supervised):
    lines = supervised.results.table().splitlines()
    assert [line.split()[-3:] for line in lines[:4]][1:] == [["1", "+", "1"], ["1", "+", "1"], ["2", "+", "2"]]
    assert lines[0].endswith("held-out")
    assert lines[4].startswith(
        f"protocol {TAG}, held out 2 good + 2 defect images: the method has learned from labelled"
    )
    assert lines[5:] == [RANDOM_WEIGHTS, "two means are a toy"]


def test_report_shows_tag_counts_and_notes_near_the_metrics_and_in_the_provenance(supervised):
    page = (supervised.folder / "report.html").read_text(encoding="utf-8")
    results, _, rest = page.partition('id="category-0"')
    for text in (TAG, "held out 2 good + 2 defect images", RANDOM_WEIGHTS[1:], "wo means are a toy"):
        assert text in results
    assert "Held out" in results
    provenance = rest.partition('id="made"')[2]
    for text in (TAG, "split hash", "two means are a toy", "2 good + 2 defect images"):
        assert text in provenance
    assert "11 training (3 of them defects)" in rest


@pytest.mark.parametrize(
    ("key", "value"),
    [("held_out", {"felt": {"good": 1}}), ("held_out", [1]), ("notes", "text"), ("protocol_tag", 1), ("notes", [1])],
)
def test_damaged_values_are_refused_by_the_report(supervised, tmp_path, key, value):
    folder = shutil.copytree(supervised.folder, tmp_path / "copy")
    tree = metrics_of(supervised)
    tree["provenance"][key] = value
    (folder / "metrics.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(AnoframeError, match=r"metrics.json is damaged"):
        read_run(folder)


# ------------------------------------------------------------------------------------------------ tables


def test_supervised_run_never_shares_a_table_with_another(supervised, baseline):
    comparison = compare([supervised.folder, baseline.folder])
    assert len(comparison.tables) == 2
    (refusal,) = comparison.refusals
    assert f"protocol tag: '{TAG}' and 'none, normal training images only'" in refusal


def test_two_splits_never_share_a_table(train, baseline):
    official = train(**UNSUPERVISED, **{"data.split": "official"})
    comparison = compare([baseline.folder, official.folder])
    assert len(comparison.tables) == 2
    assert "data.split: 'raml' and 'official'" in comparison.refusals[0]


def test_two_split_seeds_never_share_a_table(train, supervised):
    other = train(**{"data.split_seed": 43})
    assert len(compare([supervised.folder, other.folder]).tables) == 2


def test_seeds_of_a_few_shot_run_share_a_column_although_they_draw_other_images(train, few_shot):
    changes = {"data.split": "few_shot", "data.shots": 2, "seed": 1}
    other = train(categories=["felt"], **UNSUPERVISED, **changes)
    assert other.results.provenance["split_hash"] != few_shot.results.provenance["split_hash"]
    (table,) = compare([few_shot.folder, other.folder]).tables
    assert [column.seeds for column in table.columns] == [[0, 1]]


def test_comparison_page_shows_tag_counts_and_notes(train, supervised):
    other = train(seed=1)
    page = comparison_page(compare([supervised.folder, other.folder]))
    for text in (TAG, "split raml, seed 42", "held out 2 good + 2 defect images", "two means are a toy"):
        assert text in page
    assert re.search(r'scope="row">felt <small>held out 1 \+ 1</small>', page)


def test_grid_has_separate_tables_and_each_says_its_protocol(supervised, baseline):
    summary = summarise([read_run(supervised.folder), read_run(baseline.folder)], [0])
    assert [table.facts.get("protocol_tag") for table in summary.tables] == [TAG, None]
    tagged, untagged = markdown(summary).split("\n\n- ")[0], csv_rows(summary.tables[1])
    assert tagged.startswith(f"folder, unified protocol, 64 x 64 pixels, split raml, seed 42, {TAG}, held out")
    assert "| held-out |" in tagged
    assert "| 1 + 1 |" in tagged
    columns, rows = csv_rows(summary.tables[0])
    cells = [dict(zip(columns, row, strict=True)) for row in rows]
    assert {row["protocol_tag"] for row in cells} == {TAG}
    assert [row["held_out_good"] for row in cells] == ["1", "1", "2"]
    assert all("two means are a toy" in row["notes"] for row in cells)
    assert {row[untagged[0].index("protocol_tag")] for row in untagged[1]} == {""}
    page = grid_page(summary, supervised.folder.parent)
    assert TAG in page
    assert "held out 1 + 1" in page
    tree = grid_json(summary, supervised.folder.parent)
    assert tree["tables"][0]["protocol_tag"] == TAG
    assert tree["tables"][0]["held_out"]["felt"] == {"good": 1, "defect": 1}
    assert "two means are a toy" in tree["tables"][0]["notes"]["two_means"]
    assert "protocol_tag" not in tree["tables"][1]


# ------------------------------------------------------------------------------------------------ tests of checkpoints


def test_test_on_the_held_out_images_keeps_tag_and_values(supervised, tmp_path):
    again = anoframe.test(supervised.folder, output=tmp_path)
    assert again.metrics == supervised.metrics
    assert metrics_of(again)["protocol_tag"] == TAG
    assert metrics_of(again)["held_out"] == metrics_of(supervised)["held_out"]
    assert (again.folder / "split.json").read_bytes() == (supervised.folder / "split.json").read_bytes()


def test_test_on_training_images_is_an_error_that_names_one(supervised, tmp_path):
    cfg = anoframe.load_config(supervised.folder, {"data.split": "official"})
    with pytest.raises(AnoframeError, match=r"10 of 14 test images .* the first is felt/test/.* --data.split raml"):
        anoframe.test(supervised.folder, cfg, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_copied_training_image_among_other_data_is_found(supervised, elsewhere, root, tmp_path):
    leaky = shutil.copytree(elsewhere, tmp_path / "leaky")
    source = json.loads((supervised.folder / "data.json").read_text(encoding="utf-8"))["felt"]["train"]
    name = next(name for name in source if "/test/cut/" in name)
    shutil.copyfile(root / name, leaky / "weave/test/dent/000.png")
    cfg = anoframe.load_config(supervised.folder, {"data.split": "official", "data.root": str(leaky)})
    with pytest.raises(AnoframeError, match=rf"1 of 7 test .* weave/test/dent/000.png \(trained on as {name}\)"):
        anoframe.test(supervised.folder, cfg, ["weave"], tmp_path / "runs")


def test_unsupervised_method_may_test_any_split(baseline, tmp_path):
    cfg = anoframe.load_config(baseline.folder, {"data.split": "official"})
    assert anoframe.test(baseline.folder, cfg, output=tmp_path).metrics.keys() == set(CATEGORIES)


@pytest.mark.parametrize("categories", [["weave"], ["all"]])
def test_transfer_says_where_it_comes_from(supervised, elsewhere, tmp_path, categories):
    cfg = anoframe.load_config(supervised.folder, {"data.split": "official", "data.root": str(elsewhere)})
    run = anoframe.test(supervised.folder, cfg, categories, tmp_path)
    assert list(run.metrics) == ["weave"]
    assert "image_auroc_length" in run.metrics["weave"]
    tree = metrics_of(run)
    assert tree["provenance"]["transfer_from"] == CATEGORIES
    assert tree["protocol_tag"] == TAG
    assert tree["held_out"] == {"weave": {"good": 3, "defect": 4}}
    assert tree["provenance"]["thresholds"] == {"weave": None}
    assert tree["provenance"]["counts"]["weave"]["train"] == 0
    assert "transfer: trained on felt, mesh" in run.results.table()
    assert "Transfer: trained on felt, mesh" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_other_methods_refuse_a_category_that_they_were_not_trained_on(finished, elsewhere, tmp_path):
    cfg = anoframe.load_config(finished.folder, {"data.root": str(elsewhere)})
    with pytest.raises(AnoframeError, match="was not trained on category 'weave'"):
        anoframe.test(finished.folder, cfg, ["weave"], tmp_path)


def test_several_detectors_do_not_guess_which_one_is_transferred(train, elsewhere, tmp_path):
    run = train(tmp_path / "trained", **{"protocol.name": "separate"})
    changes = {"data.split": "official", "data.root": str(elsewhere)}
    cfg = anoframe.load_config(run.folder, changes)
    with pytest.raises(AnoframeError, match=r"not trained on category 'weave'.* --checkpoint .*checkpoint/felt"):
        anoframe.test(run.folder, cfg, ["weave"], tmp_path)
    alone = anoframe.test(run.folder / "checkpoint/felt", cfg, ["weave"], tmp_path)
    assert alone.results.provenance["transfer_from"] == ["felt"]


def test_checkpoint_without_its_run_warns_that_a_leak_cannot_be_seen(supervised, tmp_path, capsys):
    alone = shutil.copytree(supervised.folder / "checkpoint/unified", tmp_path / "alone")
    cfg = anoframe.load_config(supervised.folder)
    anoframe.test(alone, cfg, output=tmp_path)
    assert "whether it was trained on a test image is not known" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ prediction


def test_prediction_needs_the_name_of_the_product(supervised, root, tmp_path, cli):
    words = ["--mode", "predict", "--checkpoint", supervised.folder, "--input", root / "felt/test/good"]
    result = cli(*words, "--output", tmp_path / "a")
    assert result.status == 2
    assert "uses the name of the product: give it with --cls_names, of felt, mesh, or any other name" in result.err
    for name in ("mesh", "a bolt"):
        done = cli(*words, "--cls_names", name, "--output", tmp_path / name)
        assert done.status == 0
        assert [line for line in done.out.splitlines() if line.startswith("note: ")] == [
            f"note: {RANDOM_WEIGHTS}",
            "note: two means are a toy",
        ]


def test_loaded_run_takes_the_name_of_the_product(supervised, root):
    run = anoframe.load_run(supervised.folder)
    image = root / "felt/test/good/000.png"
    assert run.predict(image, "bolt").extra_scores["length"] == 4
    with pytest.raises(AnoframeError, match="uses the name of the product"):
        run.predict(image)


# ------------------------------------------------------------------------------------------------ few-shot references


def test_few_shot_run_shows_its_references(few_shot):
    manifest = read_manifest(few_shot.folder / "split.json")
    drawn = [row["file"] for row in manifest.files["felt"]["train"]]
    rows = json.loads((few_shot.folder / "pictures/felt/references.json").read_text(encoding="utf-8"))
    assert [f"felt/train/{row['name']}" for row in rows] == drawn
    assert len(drawn) == 2
    page = (few_shot.folder / "report.html").read_text(encoding="utf-8")
    section = page.partition("<h3>References</h3>")[2].partition("<h3>")[0]
    assert section.count("<img") == 2
    assert all(row["name"] in section for row in rows)
    assert counts_learned(few_shot) == [2, 0]


def test_other_runs_show_no_references(supervised):
    assert not list(supervised.folder.rglob("references.json"))
    assert "<h3>References" not in (supervised.folder / "report.html").read_text(encoding="utf-8")


def test_references_that_cannot_be_drawn_cost_no_result(train, monkeypatch, capsys):
    def fail(*_):
        raise OSError("no colour left")

    monkeypatch.setattr("anoframe.runs.evaluating.write_references", fail)
    changes = {"data.split": "few_shot", "data.shots": 2}
    run = train(categories=["felt"], **UNSUPERVISED, **changes)
    assert run.metrics["felt"]["image_auroc"] is not None
    assert "the pictures of its references cannot be made: no colour left" in capsys.readouterr().out


def test_report_of_damaged_references_names_the_file(few_shot, tmp_path):
    folder = shutil.copytree(few_shot.folder, tmp_path / "copy")
    (folder / "pictures/felt/reference_000.png").write_bytes(b"none")
    with pytest.raises(AnoframeError, match=r"reference_000.png is not a picture"):
        write_report(folder)


def test_test_of_a_few_shot_run_draws_the_same_references(few_shot, tmp_path):
    again = anoframe.test(few_shot.folder, output=tmp_path)
    assert (again.folder / "split.json").read_bytes() == (few_shot.folder / "split.json").read_bytes()


def test_grid_over_seeds_averages_draws_and_is_resumed(config, tmp_path):
    changes = {**UNSUPERVISED, "data.split": "few_shot", "data.shots": 2, "data.split_seed": 0}
    first = run_grid([config], ["felt"], [0, 1], tmp_path, changes)
    again = run_grid([config], ["felt"], [0, 1], tmp_path, changes)  # every cell is finished: nothing is refused
    for grid in (first, again):
        (table,) = grid.summary.tables
        (row,) = [row for row in table.rows if row.category == "felt"]
        assert set(row.figures["image_auroc"].values) == {0, 1}
    draws = [read_manifest(path).files["felt"]["train"] for path in sorted(tmp_path.rglob("split.json"))]
    assert len(draws) == 2
    assert draws[0] != draws[1]
