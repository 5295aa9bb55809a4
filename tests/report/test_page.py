"""The report of a run: self-contained, complete, and safe with any names."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from anoframe.errors import AnoframeError
from anoframe.report.write import write_report

NASTY = '<img src=x onerror=alert("1")> & co'
VOID = {"meta", "img", "br", "link", "input"}


class Reader(HTMLParser):
    """Texts, references, tags, ids and labels of a page; `open` has the tags that are not closed."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.references, self.tags, self.handlers, self.open = [], [], [], [], []
        self.ids, self.labels = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "data", "action")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.ids += [value for name, value in attributes if name == "id"]
        self.labels += [value for name, value in attributes if name == "aria-label"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(full_folder, tmp_path_factory):
    """The report of the full run."""
    return page_of(Path(shutil.copytree(full_folder, tmp_path_factory.mktemp("page") / "run")))


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


# ------------------------------------------------------------------------------------------------ one file


def test_every_tag_is_closed(reader):
    assert reader.open == []


def test_ids_are_unique(reader):
    assert len(reader.ids) == len(set(reader.ids))


def test_page_has_no_external_references(page, reader):
    assert "://" not in page
    assert "@import" not in page
    assert page.count("url(") == page.count('url("data:image/') == 2  # the thumbnails of two categories
    assert {re.split("[:-]", reference)[0] for reference in reader.references} == {"data", "#verdict", "#category"}


def test_policy_allows_only_the_script_of_the_page(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy


def test_links_have_targets(reader):
    assert {reference[1:] for reference in reader.references if reference.startswith("#")} <= set(reader.ids)


def test_pictures_are_embedded_as_webp(reader, full_folder):
    pictures = [reference for reference in reader.references if reference.startswith("data:")]
    assert {picture.split(",")[0] for picture in pictures} == {"data:image/webp;base64"}
    assert len(pictures) == len(list(full_folder.glob("pictures/*/*.png"))) == 12


def test_page_is_small(page):
    assert len(page) < 190_000  # 12 pictures of 64 pixels and thumbnails; style and scripts are 45 kB of it


def test_page_is_reproducible(page, full_run):
    assert page_of(full_run) == page


# ------------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize("name", ["felt", "mesh", "mean", "AUROC", "AUPRO", "IoU-max", "Missed", "False alarms"])
def test_results_have(reader, name):
    assert name in reader.texts


def test_tile_shows_how_many_categories_its_mean_covers(full_run, change):
    change(full_run / "metrics.json", lambda tree: tree["categories"]["mesh"].update(aupro=None))
    tiles = re.findall(r"mean of .*? categories", Reader(page_of(full_run)).text)
    assert tiles == ["mean of 2 categories", "mean of 2 categories", "mean of 1 of 2 categories"]


def test_decisions_come_before_further_metrics(page, full_folder):
    head = re.search(r'<table class="metrics sortable">\s*<thead>.*?</thead>', page, re.DOTALL)[0]
    places = [head.index(text) for text in (">IoU-max", ">Missed<", ">False alarms<", ">PRO/image<")]
    assert places == sorted(places)
    metrics = json.loads((full_folder / "metrics.json").read_text())["categories"]["felt"]
    row = re.search(r'<tr>\s*<th scope="row"><a href="#category-0">.*?</tr>', page, re.DOTALL)[0]
    values = re.findall(r'data-value="([^"]*)"', row)
    assert values[-1] == repr(metrics["pro_per_image"])
    assert all(value.isdecimal() for value in values[-3:-1])


def test_unavailable_metric_is_marked_and_left_out_of_the_mean(full_run, change):
    change(full_run / "metrics.json", lambda tree: tree["categories"]["felt"].update(aupro=None))
    text = Reader(page_of(full_run)).text
    assert "The mean leaves out aupro of felt" in text
    assert " n/a " in text


def test_a_metric_that_no_category_has_is_not_left_out_of_a_mean(full_run, change):
    def remove(tree):
        for metrics in tree["categories"].values():
            metrics["aupro"] = None

    change(full_run / "metrics.json", remove)
    assert "The mean leaves out" not in Reader(page_of(full_run)).text


def test_failed_category_is_shown_with_its_reason(full_run, change):
    change(full_run / "run.json", lambda tree: tree.update(failed={"rope": "rope has no test images"}))
    reader = Reader(page_of(full_run))
    assert "1 of 3 categories failed:" in reader.texts
    assert reader.texts.count("rope has no test images") == 1
    assert "Failed: rope has no test images" in reader.text


def test_run_without_results_has_a_page(older_run, change):
    (older_run / "metrics.json").unlink()
    change(older_run / "run.json", lambda tree: tree.update(status="running"))
    text = Reader(page_of(older_run)).text
    assert "No category has been evaluated." in text
    assert "This run is not finished" in text


# ------------------------------------------------------------------------------------------------ categories


def test_wrong_decisions_are_counted(reader):
    assert "A score of 5 or more is a defect." in reader.text
    assert "42 held-back normal training images, not on the test set" in reader.text


@pytest.mark.parametrize(
    ("images", "rate", "expected"),
    [(2, 0.01, "no rate below 33.3 %"), (98, 0.01, "no rate below 1.01 %"), (99, 0.01, None), (42, 0.05, None)],
)
def test_too_few_held_back_images_are_noted(full_run, images, rate, expected):
    for path in full_run.glob("results/*.json"):
        result = json.loads(path.read_text())
        if result["threshold"]:
            result["threshold"] |= {"images": images, "false_positive_rate": rate}
        path.write_text(json.dumps(result))
    text = Reader(page_of(full_run)).text
    assert expected in text if expected else "guarantee" not in text


def test_a_threshold_that_the_user_gave_is_named_as_such(full_run, change):
    given = {"image": 5.0, "pixel": 1.5, "false_positive_rate": None, "images": 0, "given": ["image"]}
    change(full_run / "results/felt.json", lambda tree: tree.update(threshold=given))
    text = Reader(page_of(full_run)).text
    assert text.count("The threshold was given by the user as a score") == 1
    assert text.count("held-back normal training images, not on the test set") == 1  # of the other category


def test_without_threshold_nothing_is_decided(full_run, change):
    for name in ("felt", "mesh"):
        change(full_run / f"results/{name}.json", lambda tree: tree.update(threshold=None))
    reader = Reader(page_of(full_run))
    assert reader.text.count("There is no threshold, so nothing was decided") == 2
    assert "Missed" not in reader.texts


def test_run_of_an_earlier_version_has_a_page(older_run):
    text = Reader(page_of(older_run)).text
    assert "No histogram and no decisions: the run folder has no scores" in text
    assert "No curves: the run folder has none." in text


def test_image_curves_are_drawn_without_pixel_curves(full_run, change):
    change(full_run / "results/felt.json", lambda t: t["curves"].update(pro=None, pixel_roc=None, pixel_pr=None))
    reader = Reader(page_of(full_run))
    labels = [label for label in reader.labels if label.startswith("ROC")]
    assert [label.count("Pixel") for label in labels] == [0, 1]
    assert reader.text.count("No pixel curves") == 1


def test_wrong_pictures_come_first(page):
    ranks = re.findall(r'data-rank="(\d)"', page)[:6]
    assert ranks == sorted(ranks)
    assert "0" in ranks


def test_missing_pictures_are_noted(full_run):
    for path in full_run.glob("pictures/*/pictures.json"):
        path.unlink()
    assert Reader(page_of(full_run)).text.count("No pictures") == 2


def test_damaged_picture_is_named(full_run):
    path = next(full_run.glob("pictures/felt/*.png"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AnoframeError, match=re.escape(f"{path} is not a picture")):
        write_report(full_run)


# ------------------------------------------------------------------------------------------------ training


@pytest.fixture
def trained(trained_run):
    return Reader(page_of(trained_run))


def test_each_stage_has_a_chart_of_losses(trained):
    labels = [label for label in trained.labels if "loss over epochs" in label]
    assert labels == [
        "student: loss over epochs 1 to 3, at the end: cosine 0.3333, rank 0.5",
        "head: loss over epochs 1 to 1, at the end: mse 0.25",
    ]


def test_stage_has_its_speed_and_learning_rates(trained):
    assert (
        "student: 3 epochs · 20 images per second (median) · 25 % of the time waiting for data · "
        "learning rate 0.01 to 0.003333"
    ) in trained.text


def test_tooltip_of_an_epoch_has_its_learning_rate(trained):
    assert "epoch 2: cosine 0.5, rank 0.5, learning rate 0.005" in trained.texts


def test_evaluations_during_training_are_drawn(trained):
    (label,) = [label for label in trained.labels if "on the test set over" in label]
    assert label == "student: on the test set over epochs 1 to 3, at the end: Image AUROC 95.00, Pixel AUROC 75.00"
    assert (
        "The test set was evaluated during training. These values chose nothing: the last epoch is reported"
        in trained.text
    )


def test_stages_of_the_same_name_have_their_own_charts(trained_run, change):
    """The label of a stage tells them apart, for losses and for evaluations."""

    def double(tree):
        first, second = tree["phases"]
        second.update(name=first["name"], label="layer 3 ffn")
        tree["looks"] = [{**look, "phase": "student layer 3 ffn"} for look in tree["looks"]]

    change(trained_run / "training/felt.json", double)
    titles = [
        label.split(" over epochs")[0] for label in Reader(page_of(trained_run)).labels if " over epochs" in label
    ]
    assert titles == ["student: loss", "student layer 3 ffn: loss", "student layer 3 ffn: on the test set"]


def test_without_evaluations_they_are_not_mentioned(trained_run, change):
    change(trained_run / "training/felt.json", lambda tree: tree.update(looks=[]))
    assert "evaluated during training" not in Reader(page_of(trained_run)).text


def test_epoch_chosen_on_the_test_set_has_a_warning_above_the_results(trained_run, change):
    change(trained_run / "metrics.json", lambda tree: tree["provenance"].update(selected="best on test"))
    text = Reader(page_of(trained_run)).text
    before, after = text.split("Image AUROC", 1)
    assert "The epoch was chosen on the test set" in before
    assert "The reported epoch was chosen by these values" in after
    assert "chose nothing" not in text


def test_last_epoch_has_no_warning(trained):
    assert "chosen on the test set" not in trained.text


def test_missing_training_curves_are_noted(trained):
    assert "mesh No training curves: the run folder has no training/mesh.json" in trained.text


def test_training_settings_are_shown(trained):
    assert "epochs 3 optimizer.name adam optimizer.lr 0.01" in trained.text


# ------------------------------------------------------------------------------------------------ provenance


@pytest.mark.parametrize(
    "fact", ["Backbone", "weights", "sha256", "torch", "git", "predict", "test good", "seed", "cores", "Full config"]
)
def test_provenance_has(reader, fact):
    assert fact in reader.texts


def test_config_that_is_not_shipped_has_no_parents(reader):
    assert "its parents are not known here" in reader.text


def test_shipped_config_is_compared_with_its_parents(full_run):
    config = full_run / "config.yaml"
    config.write_text(config.read_text().replace("config_name: tiny", "config_name: patchcore_lite0_224"))
    reader = Reader(page_of(full_run))
    assert "this run changes patchcore_lite0_224.py" in reader.texts
    assert "patchcore_lite0_224.py changes patchcore_224.py" in reader.texts
    assert "model.coreset.ratio" in reader.texts


# ------------------------------------------------------------------------------------------------ hostile names


@pytest.fixture
def hostile(trained_run, full_run, change):
    """A run folder in which every name is HTML that would run a script."""
    (full_run / "pictures/felt").rename(full_run / "pictures" / NASTY)
    (full_run / "results/felt.json").rename(full_run / "results" / f"{NASTY}.json")

    def rename(tree):
        for section in (tree["categories"], tree["provenance"]["counts"]):
            section[NASTY] = section.pop("felt")
        tree["categories"][NASTY][NASTY] = 0.5
        tree["mean"][NASTY] = 0.5
        for name in ("versions", "backbone", "data"):
            tree["provenance"][name] = {NASTY: NASTY, "name": NASTY, "crop": NASTY}
        tree["provenance"].update(git=NASTY, protocol=NASTY, seed=NASTY, selected=NASTY, trainer={NASTY: NASTY})

    def run(tree):
        tree.update(id=NASTY, status=NASTY, device=NASTY, failed={f"{NASTY}2": NASTY}, machine={NASTY: NASTY})
        tree["stages"][NASTY] = tree["stages"]["save"]

    def pictures(rows):
        for row in rows:
            row.update(name=NASTY, kind=NASTY, defect=NASTY)

    def results(tree):
        for image in tree["images"]:
            image.update(name=NASTY, defect=NASTY)
        tree["threshold"].update(images=NASTY, false_positive_rate=NASTY)

    def training(tree):
        for phase in tree["phases"]:
            phase["name"] = NASTY
            for epoch in phase["epochs"]:
                epoch["losses"] = {NASTY: 1.0}
        for look in tree["looks"]:
            look.update(phase=NASTY, metrics={NASTY: look["metrics"]["felt"], "felt": {}})

    (full_run / "training/felt.json").rename(full_run / "training" / f"{NASTY}.json")
    change(full_run / "training" / f"{NASTY}.json", training)
    change(full_run / "metrics.json", rename)
    change(full_run / "run.json", run)
    change(full_run / "pictures" / NASTY / "pictures.json", pictures)
    change(full_run / "results" / f"{NASTY}.json", results)
    config = full_run / "config.yaml"
    text = config.read_text()
    config.write_text(re.sub(r"config_name: .*", f"config_name: '{NASTY}'", text), encoding="utf-8")
    return full_run


def test_names_are_escaped_everywhere(hostile):
    reader = Reader(page_of(hostile))
    assert reader.open == []
    assert reader.handlers == []
    assert reader.tags.count("script") == 3  # of the page, and the data of two categories
    assert reader.tags.count("img") == 12
    assert reader.texts.count(NASTY) > 15
