"""The page: one file that needs nothing beside it, and says what was found."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from anoframe.errors import AnoframeError
from anoframe.report.write import write_report

NASTY = '<img src=x onerror=alert("1")> & co'
VOID = {"meta", "img", "br", "link", "input"}
SELF_CLOSING = {"path", "rect", "circle"}


class Reader(HTMLParser):
    """Text, references and tags of a page; and whether every tag is closed."""

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


@pytest.fixture
def page(full_run):
    return page_of(full_run)


def test_a_tile_says_of_how_many_categories_its_mean_is(full_run, change):
    change(full_run / "metrics.json", lambda tree: tree["categories"]["mesh"].update(aupro=None))
    tiles = re.findall(r"mean of .*? categories", Reader(page_of(full_run)).text)
    assert tiles == ["mean of 2 categories", "mean of 2 categories", "mean of 1 of 2 categories"]


def test_every_tag_is_closed(page):
    assert Reader(page).open == []


def test_no_two_things_have_one_id(page):
    ids = Reader(page).ids
    assert len(ids) == len(set(ids))


def test_the_page_reaches_for_nothing(page):
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert {re.split("[:-]", one)[0] for one in Reader(page).references} == {"data", "#verdict", "#category"}


def test_the_page_forbids_all_but_its_own_script(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy


def test_a_link_leads_somewhere(page):
    reader = Reader(page)
    assert {one[1:] for one in reader.references if one.startswith("#")} <= set(reader.ids)


@pytest.mark.parametrize("name", ["felt", "mesh", "mean", "AUROC", "AUPRO", "IoU-max", "Missed", "False alarms"])
def test_the_verdict_has(page, name):
    assert name in Reader(page).texts


def test_decisions_stand_before_metrics_that_are_no_headline(page, full_run):
    head = re.search(r'<table class="metrics sortable"><thead>.*?</thead>', page)[0]
    places = [head.index(text) for text in (">IoU-max", ">Missed<", ">False alarms<", ">PRO/image<")]
    assert places == sorted(places)
    found = json.loads((full_run / "metrics.json").read_text())["categories"]["felt"]["pro_per_image"]
    row = re.search(r'<tr><th scope="row"><a href="#category-0">.*?</tr>', page)[0]
    values = re.findall(r'data-value="([^"]*)"', row)
    assert values[-1] == repr(found)
    assert all(value.isdecimal() for value in values[-3:-1])


def test_the_wrong_decisions_are_counted(page):
    text = Reader(page).text
    assert "A score of 5 or more is a defect." in text
    assert "42 held-back normal training images, not on the test set" in text


@pytest.mark.parametrize(
    ("images", "rate", "words"),
    [(2, 0.01, "no rate below 33.3 %"), (98, 0.01, "no rate below 1.01 %"), (99, 0.01, None), (42, 0.05, None)],
)
def test_too_few_held_back_images_are_said_to_promise_less(full_run, images, rate, words):
    for path in full_run.glob("results/*.json"):
        result = json.loads(path.read_text())
        if result["threshold"]:
            result["threshold"] |= {"images": images, "false_positive_rate": rate}
        path.write_text(json.dumps(result))
    text = Reader(page_of(full_run)).text
    assert words in text if words else "can promise" not in text


def test_pictures_are_inside_the_page_as_webp(page, full_run):
    pictures = [one for one in Reader(page).references if one.startswith("data:")]
    assert {one.split(",")[0] for one in pictures} == {"data:image/webp;base64"}
    assert len(pictures) == len(list(full_run.glob("pictures/*/*.png"))) == 12


def test_wrong_pictures_come_first(page):
    ranks = re.findall(r'data-rank="(\d)"', page)[:6]
    assert ranks == sorted(ranks)
    assert "0" in ranks


def test_the_page_is_small(page):
    assert len(page) < 150_000  # 12 pictures of 64 pixels; style and script are 20 kB of it


@pytest.mark.parametrize(
    "fact", ["Backbone", "weights", "sha256", "torch", "git", "predict", "test good", "seed", "cores", "Full config"]
)
def test_the_page_says_how_it_was_made(page, fact):
    assert fact in Reader(page).texts


def test_two_pages_of_one_run_are_the_same(full_run):
    assert page_of(full_run) == page_of(full_run)


# ------------------------------------------------------------------------------------------------ training


@pytest.fixture
def trained(trained_run):
    return Reader(page_of(trained_run))


def test_a_chart_of_losses_a_phase(trained):
    labels = [label for label in trained.labels if "loss over epochs" in label]
    assert labels == [
        "student: loss over epochs 1 to 3, at the end: cosine 0.3333, rank 0.5",
        "head: loss over epochs 1 to 1, at the end: mse 0.25",
    ]


def test_a_phase_says_what_it_took(trained):
    assert (
        "student: 3 epochs · 20 images per second (median) · 25 % of the time waiting for data · "
        "learning rate 0.01 to 0.003333"
    ) in trained.text


def test_an_epoch_says_its_learning_rate(trained):
    assert "epoch 2: cosine 0.5, rank 0.5, learning rate 0.005" in trained.texts


def test_looks_are_drawn_and_chose_nothing(trained):
    (label,) = [label for label in trained.labels if "on the test set over" in label]
    assert label == "student: on the test set over epochs 1 to 3, at the end: image AUROC 95.00, pixel AUROC 75.00"
    assert "These looks were on the test set, and chose nothing" in trained.text


def test_phases_of_one_name_have_charts_of_their_own(trained_run, change):
    """And each the looks that were made while it went on."""

    def double(tree):
        first, second = tree["phases"]
        second.update(name=first["name"], label="layer 3 ffn")
        tree["looks"] = [{**look, "phase": "student layer 3 ffn"} for look in tree["looks"]]

    change(trained_run / "training/felt.json", double)
    named = [label.split(" over epochs")[0] for label in Reader(page_of(trained_run)).labels if " over epochs" in label]
    assert named == ["student: loss", "student layer 3 ffn: loss", "student layer 3 ffn: on the test set"]


def test_without_looks_nothing_is_said_of_them(trained_run, change):
    change(trained_run / "training/felt.json", lambda tree: tree.update(looks=[]))
    assert "looks" not in Reader(page_of(trained_run)).text


def test_an_epoch_chosen_on_the_test_set_is_said_near_the_headline(trained_run, change):
    change(trained_run / "metrics.json", lambda tree: tree["provenance"].update(selected="best on test"))
    text = Reader(page_of(trained_run)).text
    verdict, rest = text.split("Image AUROC", 1)
    assert "The epoch was chosen on the test set" in verdict
    assert "the epoch that is reported was chosen by them" in rest
    assert "chose nothing" not in text


def test_an_epoch_that_was_not_chosen_has_no_warning(trained):
    assert "chosen on the test set" not in trained.text


def test_a_training_whose_curves_are_lost_says_so(trained):
    assert "mesh No curves of training: this run folder does not hold them" in trained.text


def test_the_page_says_how_it_was_trained(trained):
    assert "epochs 3 optimizer.name adam optimizer.lr 0.01" in trained.text


# ------------------------------------------------------------------------------------------------ hostile names


@pytest.fixture
def hostile(trained_run, full_run, change):
    """A run in which every name is an attack."""
    (full_run / "pictures/felt").rename(full_run / "pictures" / NASTY)
    (full_run / "results/felt.json").rename(full_run / "results" / f"{NASTY}.json")

    def rename(tree):
        for part in (tree["categories"], tree["provenance"]["counts"]):
            part[NASTY] = part.pop("felt")
        tree["categories"][NASTY][NASTY] = 0.5
        tree["mean"][NASTY] = 0.5
        for part in ("versions", "backbone", "data"):
            tree["provenance"][part] = {NASTY: NASTY, "name": NASTY, "crop": NASTY}
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


def test_names_are_text_wherever_they_stand(hostile):
    reader = Reader(page_of(hostile))
    assert reader.open == []
    assert reader.handlers == []
    assert reader.tags.count("script") == 1
    assert reader.tags.count("img") == 12
    assert reader.texts.count(NASTY) > 15


# ------------------------------------------------------------------------------------------------ what is not there


def test_a_run_of_an_earlier_version_has_a_page(older_run):
    text = Reader(page_of(older_run)).text
    assert "No histogram and no decisions: this run folder has no scores" in text
    assert "No curves: this run folder does not hold them." in text


def test_without_a_threshold_nothing_is_decided(full_run, change):
    for name in ("felt", "mesh"):
        change(full_run / f"results/{name}.json", lambda tree: tree.update(threshold=None))
    reader = Reader(page_of(full_run))
    assert reader.text.count("There is no threshold, so nothing was decided") == 2
    assert "Missed" not in reader.texts


def test_without_curves_of_pixels_the_others_are_drawn(full_run, change):
    change(full_run / "results/felt.json", lambda t: t["curves"].update(pro=None, pixel_roc=None, pixel_pr=None))
    labels = [label for label in Reader(page_of(full_run)).labels if label.startswith("ROC")]
    assert [label.count("pixel") for label in labels] == [0, 1]


def test_without_any_pictures_it_says_so(full_run):
    for path in full_run.glob("pictures/*/pictures.json"):
        path.unlink()
    assert Reader(page_of(full_run)).text.count("No pictures") == 2


def test_a_failed_category_is_shown_with_its_reason(full_run, change):
    change(full_run / "run.json", lambda tree: tree.update(failed={"rope": "rope has no test images"}))
    reader = Reader(page_of(full_run))
    assert "1 of 3 categories failed:" in reader.texts
    assert reader.texts.count("rope has no test images") == 1
    assert "Failed: rope has no test images" in reader.text


def test_a_metric_that_is_not_available_is_said_and_left_out_of_the_mean(full_run, change):
    change(full_run / "metrics.json", lambda tree: tree["categories"]["felt"].update(aupro=None))
    text = Reader(page_of(full_run)).text
    assert "The mean leaves out aupro of felt" in text
    assert " n/a " in text


def test_a_run_that_has_evaluated_nothing_has_a_page(older_run, change):
    (older_run / "metrics.json").unlink()
    change(older_run / "run.json", lambda tree: tree.update(status="running"))
    text = Reader(page_of(older_run)).text
    assert "No category has been evaluated." in text
    assert "This run is not finished" in text


def test_a_damaged_picture_is_named(full_run):
    path = next(full_run.glob("pictures/felt/*.png"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AnoframeError, match=re.escape(f"{path} is no picture")):
        write_report(full_run)


def test_a_config_of_the_users_own_is_shown_without_parents(full_run):
    assert "its parents are not known here" in Reader(page_of(full_run)).text


def test_a_shipped_config_is_shown_against_its_parents(full_run):
    config = full_run / "config.yaml"
    config.write_text(config.read_text().replace("config_name: tiny", "config_name: patchcore_lite0_224"))
    reader = Reader(page_of(full_run))
    assert "this run changes patchcore_lite0_224.py" in reader.texts
    assert "patchcore_lite0_224.py changes patchcore_224.py" in reader.texts
    assert "model.coreset.ratio" in reader.texts
