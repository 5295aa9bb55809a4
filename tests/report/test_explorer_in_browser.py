"""The threshold slider, the dots and the list of all test images, in a real browser."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anoframe.report.write import write_report

pytestmark = pytest.mark.slow

LIST = "document.querySelector('.thumbs')"
NONE = "\N{EN DASH}"
TYPES = {"good": 40, "cut": 60, "dent": 3}


def images(threshold):
    """Scores of many images: two good ones at or above the threshold, four defects below it."""
    rng = np.random.default_rng(0)
    rows = []
    for defect, count in TYPES.items():
        low, high = (threshold - 4, threshold - 0.1) if defect == "good" else (threshold + 0.1, threshold + 6)
        scores = rng.uniform(low, high, count)
        scores[:2] = 2 * threshold - scores[:2] if defect in ("good", "cut", "dent") else scores[:2]
        rows += [
            {"name": f"{defect}/{i:03d}.png", "defect": defect, "score": float(np.float32(score))}
            for i, score in enumerate(scores)
        ]
    return rows


def write_sheet(folder, rows):
    """A sheet of thumbnails; the one of `dent/002.png` is missing."""
    shown = [row for row in rows if row["name"] != "dent/002.png"]
    Image.new("RGB", (10 * 2 * 32, -(-len(shown) // 10) * 32), (30, 140, 90)).save(folder / "thumbnails.webp")
    index = {"file": "thumbnails.webp", "columns": 10, "images": [{k: r[k] for k in ("name", "defect")} for r in shown]}
    (folder / "thumbnails.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def folder(full_folder, tmp_path_factory, change):
    """A run whose first category has 103 test images, thumbnails, defect types and held-back scores."""
    folder = Path(shutil.copytree(full_folder, tmp_path_factory.mktemp("explorer") / "run"))
    rows = images(5.0)
    metrics = {"image_auroc": 0.5, "pixel_auroc": None, "aupro": 0.25}
    change(
        folder / "results/felt.json",
        lambda tree: tree.update(images=rows, defect_types={"cut": metrics, "dent": metrics}),
    )
    write_sheet(folder / "pictures/felt", rows)
    sha = json.loads((folder / "checkpoint/felt/detector.json").read_text())["learned_sha256"]
    held_back = {"scores": [1.0, 2.0, 3.0, 4.5], "peaks": []}
    tree = {"learned_sha256": sha, "categories": {"felt": held_back}}
    (folder / "checkpoint/felt/held_back.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture(scope="module")
def rows():
    return images(5.0)


@pytest.fixture(scope="module")
def written(folder):
    return write_report(folder)


@pytest.fixture
def page(browser, written):
    browser.open(written)
    return browser


def set_threshold(page, value):
    page.run(
        f"(() => {{ const field = document.querySelector('.slider [name=number]'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def counts(page):
    names = ("found", "missed", "false alarm", "passed")
    return {name: page.run(f"document.querySelector('[data-count=\"{name}\"]').textContent") for name in names}


def expected(rows, limit):
    flagged = {row["name"]: np.float32(row["score"]) >= np.float32(limit) for row in rows}
    kinds = {(True, True): "found", (True, False): "missed", (False, True): "false alarm", (False, False): "passed"}
    totals = dict.fromkeys(kinds.values(), 0)
    for row in rows:
        totals[kinds[row["defect"] != "good", bool(flagged[row["name"]])]] += 1
    return {name: str(count) for name, count in totals.items()}


def listed(page):
    return page.run(
        "[...document.querySelectorAll('.thumbs')[0].querySelectorAll('.file')].map(file => file.textContent)"
    )


def choose(page, name, value):
    page.run(
        f"(() => {{ const select = document.querySelector('.thumb-block [name={name}]');"
        f"select.value = {json.dumps(value)};"
        "select.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def dot(page, row, image):
    """Centre of the dot of an image on the screen."""
    return page.run(
        "(() => { const data = JSON.parse(document.querySelector('.scores-data').textContent);"
        f"const score = data.images.find(image => image[0] === '{image}')[2];"
        f"const svg = document.querySelector('.score-row[data-defect={row}] svg');"
        "svg.scrollIntoView({block: 'center'});"
        "const box = svg.getBoundingClientRect();"
        "return [box.left + (score - data.low) / (data.high - data.low) * box.width, box.top + box.height / 2]; })()"
    )


# ------------------------------------------------------------------------------------------------ threshold


def test_the_page_starts_at_the_threshold_of_the_run(page, rows):
    assert counts(page) == expected(rows, 5.0)
    assert page.run("document.querySelector('.slider [name=slider]').value") == "5"
    assert page.complaints == []


@pytest.mark.parametrize("limit", [-10, 3.25, 5.5, 20])
def test_the_confusion_matrix_follows_the_threshold(page, rows, limit):
    set_threshold(page, limit)
    assert counts(page) == expected(rows, limit)
    missed, defects = int(counts(page)["missed"]), TYPES["cut"] + TYPES["dent"]
    assert page.run("document.querySelector('[data-rate=missed]').textContent") == f"{100 * missed / defects:.1f} %"
    tally = page.run("document.querySelector('.score-row[data-defect=good] .tally').textContent")
    wrong = expected(rows, limit)["false alarm"]
    assert tally == f"{wrong} of {TYPES['good']}"


def test_dots_and_types_follow_the_threshold(page, rows):
    set_threshold(page, 20)
    assert page.run("document.querySelectorAll('.score-row[data-defect=cut] .dots:not(.wrong)').length") == 0
    assert page.run("document.querySelector('td[data-type=cut]').textContent") == str(TYPES["cut"])
    assert page.run("document.querySelector('.scores').querySelectorAll('rect.good.wrong').length") == 0


def test_the_slider_moves_by_keyboard_and_the_threshold_of_the_run_comes_back(page, rows):
    page.run("document.querySelector('.slider [name=slider]').focus()")
    page.press("End")
    assert counts(page)["found"] in ("0", "1")  # the highest score is at the end
    page.run("document.querySelector('[data-reset]').focus()")
    page.press("Enter")
    assert counts(page) == expected(rows, 5.0)


def test_the_advice_counts_held_back_images_and_names_the_command(page):
    advice = "document.querySelector('[data-advice]').textContent"
    assert "0 of 4 held-back normal training images" in page.run(advice)
    assert "at most 20.0 %" in page.run(advice)
    set_threshold(page, 2.5)
    assert "2 of 4 held-back" in page.run(advice)
    assert "at most 60.0 %" in page.run(advice)
    assert "--mode threshold --checkpoint RUN --threshold.value 2.5" in page.run(advice)


def test_a_run_without_threshold_can_be_explored(browser, folder, tmp_path, change, rows):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    change(copy / "results/felt.json", lambda tree: tree.update(threshold=None))
    browser.open(write_report(copy))
    assert set(counts(browser).values()) == {NONE}
    set_threshold(browser, 5)
    assert counts(browser) == expected(rows, 5.0)
    assert browser.run("document.querySelectorAll('.score-row svg .threshold').length") > 0
    assert browser.complaints == []


# ------------------------------------------------------------------------------------------------ all test images


def test_wrong_decisions_come_first_then_every_type(page, rows):
    wrong = expected(rows, 5.0)
    first = int(wrong["missed"]) + int(wrong["false alarm"])
    badges = page.run(
        "[...document.querySelectorAll('.thumbs')[0].querySelectorAll('.badge')].map(badge => badge.textContent)"
    )
    assert badges[:first] == ["missed"] * int(wrong["missed"]) + ["false alarm"] * int(wrong["false alarm"])
    assert {name.split("/")[0] for name in listed(page)[first : first + 3]} == set(TYPES)


def test_every_image_is_reachable(page, rows):
    assert len(listed(page)) == 60
    page.run("document.querySelector('.thumb-block .more').click()")
    assert sorted(listed(page)) == sorted(row["name"] for row in rows)
    assert page.run("document.querySelector('.thumb-block .more').hidden")


def test_images_are_filtered_and_sorted(page, rows):
    choose(page, "type", "dent")
    assert sorted(listed(page)) == [f"dent/{i:03d}.png" for i in range(3)]
    choose(page, "type", "")
    choose(page, "decision", "missed")
    assert len(listed(page)) == int(expected(rows, 5.0)["missed"])
    choose(page, "decision", "")
    choose(page, "sort", "high")
    order = [row["name"] for row in sorted(rows, key=lambda row: -row["score"])]
    assert listed(page) == order[:60]


def test_a_thumbnail_is_its_part_of_the_sheet(page):
    choose(page, "sort", "name")
    style = "getComputedStyle(document.querySelector('.thumbs [data-image=\"53\"] .sheet'))"
    assert page.run(f"{style}.backgroundSize") == "2000% 1100%"
    x, y = (float(part.removesuffix("%")) for part in page.run(f"{style}.backgroundPosition").split())
    assert x == pytest.approx(100 * 6 / 19, abs=0.01)  # the 54th: fourth pair of the sixth row
    assert y == pytest.approx(100 * 5 / 10, abs=0.01)


def test_an_image_without_thumbnail_says_so(page):
    choose(page, "type", "dent")
    assert page.run("document.querySelectorAll('.thumbs .none').length") == 1


def test_a_thumbnail_is_enlarged_and_arrows_move_on(page):
    page.run("document.querySelector('.thumbs button').focus()")
    page.press("Enter")
    caption = "document.querySelector('#zoom-caption .file').textContent"
    first, second = listed(page)[:2]
    assert page.run(caption) == first
    page.press("ArrowRight")
    assert page.run(caption) == second
    assert page.run("document.querySelectorAll('#zoom .panels figure').length") in (2, 4)
    page.press("Escape")
    page.wait("document.activeElement === document.querySelectorAll('.thumbs button')[1]")


# ------------------------------------------------------------------------------------------------ dots


def test_a_dot_shows_its_image_and_a_click_goes_to_it(page):
    x, y = dot(page, "cut", "cut/017.png")
    page.move(x, y)
    page.wait("!document.querySelector('.dot-tip').hidden")
    assert "cut/" in page.run("document.querySelector('.dot-tip').textContent")
    name = page.run("document.querySelector('.dot-tip p').textContent").split(",")[0]
    page.click(x, y)
    page.wait("document.activeElement.classList.contains('thumb')")
    assert name in page.run("document.activeElement.getAttribute('aria-label')")
    top, bottom = page.run("(box => [box.top, box.bottom])(document.activeElement.getBoundingClientRect())")
    assert 0 <= top < bottom <= 900
    assert page.complaints == []


def test_dots_are_reached_by_keyboard(page, rows):
    page.run("document.querySelector('.score-row[data-defect=dent] svg').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    dents = sorted((row for row in rows if row["defect"] == "dent"), key=lambda row: row["score"])
    assert dents[1]["name"] in page.run("document.querySelector('.dot-tip').textContent")
    page.press("Enter")
    assert dents[1]["name"] in page.run("document.activeElement.getAttribute('aria-label')")


# ------------------------------------------------------------------------------------------------ links and layout


@pytest.fixture(scope="module")
def many(folder, tmp_path_factory):
    """A report of eight categories."""
    copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("many") / "run"))
    metrics = json.loads((copy / "metrics.json").read_text())
    for name in "abcdef":
        metrics["categories"][name] = metrics["categories"]["felt"]
        for place in ("results/{}.json", "pictures/{}"):
            source, target = copy / place.format("felt"), copy / place.format(name)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (copy / "metrics.json").write_text(json.dumps(metrics))
    return write_report(copy)


@pytest.mark.parametrize("width", [1280, 390])
def test_links_of_categories_land_where_they_say(browser, many, width):
    browser.open(many, width, smooth=True)  # the sections between are shown on the way, and must not grow then
    links = browser.run("[...document.querySelectorAll('.metrics tbody th a')].map(link => link.hash)")
    assert len(links) == 8
    for link in [links[5], links[1]]:
        browser.run(f"document.querySelector('.metrics a[href=\"{link}\"]').click()")
        assert resting_top(browser, link) == pytest.approx(16, abs=2), link  # scroll-padding-top is 1rem


def resting_top(browser, link):
    """Distance of a section from the top of the window, when the page has stopped to scroll."""
    tops = [None, browser.run(f"document.querySelector('{link}').getBoundingClientRect().top")]
    while tops[-1] != tops[-2]:
        time.sleep(0.3)
        tops.append(browser.run(f"document.querySelector('{link}').getBoundingClientRect().top"))
    return tops[-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_an_address_with_a_category_lands_there(browser, many, written, width):
    browser.open(written)  # another page: a page that is opened again keeps the place to which it was scrolled
    browser.open(many, width, fragment="#category-5")
    browser.wait("Math.abs(document.querySelector('#category-5').getBoundingClientRect().top - 16) < 2")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_explorer_fits_the_window(browser, written, width, dark):
    browser.open(written, width, dark=dark)
    set_threshold(browser, 3.3333333)
    assert browser.run("document.documentElement.scrollWidth") == width
    x, y = dot(browser, "cut", "cut/003.png")
    browser.move(x, y)
    box = browser.run("(box => [box.left, box.right])(document.querySelector('.dot-tip').getBoundingClientRect())")
    assert 0 <= box[0] <= box[1] <= width
    assert browser.complaints == []
