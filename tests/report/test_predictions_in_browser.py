"""The gallery of a prediction in a real browser, opened from the file system."""

from __future__ import annotations

import json

import pytest
from test_predictions_page import BOX, row, write_prediction

from anoframe.report.predictions_page import write_predictions_page

pytestmark = pytest.mark.slow

COUNT = 150


@pytest.fixture(scope="module")
def rows():
    """Images with scores from 0 to 1, one of which has a name with letters that an address escapes."""
    names = [f"line1/{i:03d}.png" for i in range(COUNT)]
    names[140] = "line1/100 % größer? #1.png"
    rows = [
        row(name, (7 * i % COUNT) / COUNT, overlay=f"overlays/{name}.jpg", regions=[BOX] if i % 2 else [])
        for i, name in enumerate(names)
    ]
    return [*rows, {"file": "broken.png", "error": "broken.png: zero bytes"}]


@pytest.fixture(scope="module")
def written(rows, tmp_path_factory):
    return write_predictions_page(write_prediction(tmp_path_factory.mktemp("gallery"), rows), "patchcore, felt")


@pytest.fixture
def page(browser, written):
    browser.open(written)
    return browser


def names(page):
    return page.run("[...document.querySelectorAll('.cards .file')].map(file => file.textContent)")


def fill(page, name, value):
    page.run(
        f"(() => {{ const field = document.querySelector('#predictions-filters [name={name}]');"
        f"field.value = {json.dumps(value)}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def ranked(rows):
    read = sorted((each for each in rows if "score" in each), key=lambda each: -each["score"])
    return ["broken.png", *(each["file"] for each in read)]


def test_it_opens_with_its_pictures_and_no_complaint(page, rows):
    assert names(page) == ranked(rows)[:60]
    page.run("document.querySelectorAll('.cards img').forEach(image => image.loading = 'eager')")
    page.wait("[...document.querySelectorAll('.cards img')].every(image => image.naturalWidth > 0)")
    assert page.run("document.querySelectorAll('.cards img').length") == 59
    assert {address.split(":")[0] for address in page.requests} == {"file"}
    assert page.complaints == []


def test_pictures_are_loaded_when_they_are_shown(browser, written):
    browser.open(written, height=300)
    assert browser.run("[...document.querySelectorAll('.cards img')].every(image => image.loading === 'lazy')")


def test_names_with_special_letters_have_their_picture(page):
    fill(page, "name", "GRÖSSER")
    fill(page, "name", "größer")
    assert names(page) == ["line1/100 % größer? #1.png"]
    page.wait("document.querySelector('.cards img').naturalWidth > 0")


def test_it_filters_by_decision(page, rows):
    for decision in ("good", "defect", "not read"):
        fill(page, "decision", decision)
        wanted = [each for each in rows if ("score" in each and ("defect" if each["defect"] else "good")) == decision]
        wanted = [each for each in rows if "error" in each] if decision == "not read" else wanted
        assert page.run("document.querySelector('output').value") == f"{len(wanted)} of {COUNT + 1} images"
        assert set(names(page)) <= {each["file"] for each in wanted}


def test_it_filters_by_name_and_score(page, rows):
    fill(page, "name", "LINE1/00")
    assert sorted(names(page)) == [f"line1/{i:03d}.png" for i in range(10)]
    fill(page, "least", "0.1")
    low = {each["file"] for each in rows if each.get("score", 0) < 0.1}
    assert sorted(names(page)) == [f"line1/{i:03d}.png" for i in range(10) if f"line1/{i:03d}.png" not in low]


@pytest.mark.parametrize("order", ["high", "low", "name"])
def test_it_sorts(page, rows, order):
    fill(page, "sort", order)
    read = [each for each in rows if "score" in each]
    expected = {
        "high": [each["file"] for each in sorted(read, key=lambda each: -each["score"])],
        "low": [each["file"] for each in sorted(read, key=lambda each: each["score"])],
        "name": ["broken.png"],
    }[order]
    assert names(page)[: len(expected)] == expected[:60]


def test_every_image_is_reached_by_pages(page, rows):
    seen = names(page)
    for _ in range(2):
        page.run("document.querySelector('[data-turn=\"1\"]').click()")
        seen += names(page)
    assert seen == ranked(rows)
    assert page.run("document.querySelector('[data-turn=\"1\"]').disabled")
    assert page.run("document.querySelectorAll('.cards figure').length") == 31


def test_an_image_is_enlarged_and_arrows_move_on_by_keyboard(page, rows):
    page.run("document.querySelectorAll('.cards button')[1].focus()")
    page.press("Enter")
    caption = "document.querySelector('#large-caption .file').textContent"
    order = ranked(rows)
    assert page.run(caption) == order[1]
    page.wait("document.querySelector('.large-picture img').naturalWidth === 40")
    page.press("ArrowRight")
    assert page.run(caption) == order[2]
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.run(caption) == order[0]
    assert "zero bytes" in page.run("document.querySelector('.large-picture').textContent")
    page.press("ArrowLeft")
    assert page.run(caption) == order[-1], "from the first to the last, which is on another page"
    page.press("Escape")
    page.wait(f"document.activeElement.getAttribute('aria-label').includes({json.dumps(order[-1])})")
    assert page.complaints == []


def test_the_enlarged_image_names_its_regions(page, rows):
    fill(page, "name", "line1/001")
    page.run("document.querySelector('.cards button').click()")
    text = page.run("document.querySelector('.large-picture').textContent")
    assert "1 region above the pixel threshold. The first: 3 x 4 pixels at 1, 2, area 9, peak 7.5" in text


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window(browser, written, width, dark):
    browser.open(written, width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.run("document.querySelectorAll('.cards button')[3].click()")
    box = browser.run("(box => [box.left, box.right])(document.getElementById('large').getBoundingClientRect())")
    assert 0 <= box[0] <= box[1] <= width
    assert browser.complaints == []


def test_every_control_has_a_name(page):
    unnamed = page.run(
        "[...document.querySelectorAll('button, select, input')].filter(control => !(control.labels?.length ||"
        " control.getAttribute('aria-label') || control.textContent.trim())).length"
    )
    assert unnamed == 0
