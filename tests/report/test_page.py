"""The page: one file that needs nothing beside it, and says what was found."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from PIL import Image

from anoframe.evaluation.results import Results
from anoframe.report.page import Shown, report_page

NASTY = '<script>alert("x")</script> & co'
VOID = {"meta", "img", "br", "link", "input"}


class Reader(HTMLParser):
    """Text, references and tags of a page; and whether every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.references, self.tags, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page():
    picture = Image.new("RGB", (8, 4))
    results = Results({NASTY: {"image_auroc": 0.5}, "mesh": {"image_auroc": 1.0}})
    shown = [Shown(NASTY, "worst", NASTY, NASTY, 0.123456, picture), Shown("mesh", "best", "cut", "1.png", 2, picture)]
    return report_page(NASTY, results, shown, {NASTY: NASTY, "seed": 3})


def test_names_are_text_wherever_they_stand(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert reader.texts.count(NASTY) == 6  # title, heading, row, section, and a fact's name and value


def test_every_tag_is_closed(page):
    assert Reader(page).open == []


def test_a_picture_is_inside_the_page(page):
    assert [one.split(",")[0] for one in Reader(page).references] == ["data:image/jpeg;base64"] * 2


def test_a_caption_says_defect_file_and_score(page):
    assert "cut, 1.png, score 2" in Reader(page).texts


def test_what_is_not_available_is_said(page):
    assert Reader(page).texts.count("n/a") == 3 * 7


def test_the_mean_is_a_row_of_its_own(page):
    texts = Reader(page).texts
    assert texts[texts.index("mean") + 1] == "75.00"


# ------------------------------------------------------------------------------------------------ of a run


@pytest.fixture
def written(finished):
    return (finished.folder / "report.html").read_text(encoding="utf-8")


def test_the_page_of_a_run_reaches_for_nothing(written):
    assert "http" not in written
    assert "@import" not in written
    assert {one.split(":")[0] for one in Reader(written).references} == {"data"}


@pytest.mark.parametrize("name", ["felt", "mesh", "mean"])
def test_the_page_of_a_run_has_a_row_for(written, name):
    assert name in Reader(written).texts


def test_the_page_of_a_run_shows_its_pictures(written, finished):
    assert Reader(written).tags.count("img") == len(list(finished.folder.glob("pictures/*/*.png"))) == 12


@pytest.mark.parametrize("fact", ["weights", "config seed", "version of torch", "images of felt", "stage predict"])
def test_the_page_of_a_run_says_how_it_was_made(written, fact):
    assert fact in Reader(written).texts
