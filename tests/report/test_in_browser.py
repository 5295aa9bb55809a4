"""The page in a real browser, from a file, by keyboard: no complaint, sorting, filtering, zoom."""

from __future__ import annotations

import json
import re

import pytest
from stream_example import stream_example

from anoframe.report.compare import read_finished
from anoframe.report.comparison_page import write_comparison
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import summarise
from anoframe.report.write import write_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("fcntl", reason="the browser is driven through POSIX pipes")
    from browser import BROWSERS, Browser, find_browser

    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}, or set ANOFRAME_BROWSER to one")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def page(browser, full_run, change):
    change(full_run / "metrics.json", lambda tree: tree["categories"]["felt"].update(aupro=0.25))
    change(full_run / "metrics.json", lambda tree: tree["categories"]["mesh"].update(aupro=0.75))
    change(full_run / "run.json", lambda tree: tree.update(failed={"rope": "no test images"}))
    browser.open(write_report(full_run))
    return browser


def column(page, title):
    """The head of a column, as an expression."""
    return f"[...document.querySelectorAll('th[data-sort]')].find(one => one.title === {json.dumps(title)})"


def rows(page):
    return page.run("[...document.querySelectorAll('.metrics tbody th')].map(one => one.textContent)")


def shown(page, what):
    """A fact of each visible picture of the first category."""
    visible = "[...document.querySelector('.gallery').querySelectorAll('figure')].filter(one => !one.hidden)"
    return page.run(f"{visible}.map(one => one.dataset.{what})")


def choose(page, name, value):
    page.run(
        f"(() => {{ const one = document.querySelector('.filters [name={name}]'); one.value = {json.dumps(value)};"
        "one.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def test_it_opens_without_a_complaint(page):
    assert page.complaints == []


def test_it_asks_for_nothing_but_itself(page):
    assert {one.split(":")[0] for one in page.requests} == {"file", "data"}
    assert len([one for one in page.requests if one.startswith("file")]) == 1


def test_every_picture_is_drawn(page):
    page.run("document.querySelectorAll('section').forEach(one => one.style.contentVisibility = 'visible')")
    page.wait("[...document.images].length === 12 && [...document.images].every(one => one.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 390])
def test_training_is_not_wider_than_the_window(browser, trained_run, width):
    browser.open(write_report(trained_run), width)
    sizes = browser.run("[...document.querySelectorAll('.training svg')].map(one => one.getBoundingClientRect().right)")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert 0 < max(sizes) < width


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page, full_run, width):
    page.open(full_run / "report.html", width)
    page.run("document.querySelectorAll('section').forEach(one => one.style.contentVisibility = 'visible')")
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.run("document.documentElement.scrollWidth") == width


def test_the_style_follows_light_and_dark(page, full_run):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    page.open(full_run / "report.html", dark=True)
    assert page.run(colour) != light


def test_a_column_is_sorted_by_keyboard_and_says_so(page):
    head = column(page, "aupro")
    page.run(f"{head}.querySelector('button').focus()")
    page.press("Enter")
    assert (rows(page), page.run(f"{head}.ariaSort")) == (["mesh", "felt", "rope"], "descending")
    page.press("Enter")
    assert (rows(page), page.run(f"{head}.ariaSort")) == (["felt", "mesh", "rope"], "ascending")


def test_one_column_is_sorted_at_a_time(page):
    page.run(f"{column(page, 'aupro')}.querySelector('button').click()")
    page.run("document.querySelector('th.name button').click()")
    assert rows(page) == ["felt", "mesh", "rope"]
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_wrong_pictures_stand_first(page):
    assert shown(page, "outcome")[:2] == ["wrong", "wrong"]
    assert set(shown(page, "outcome")[2:]) == {"right"}


def test_a_defect_type_is_filtered(page):
    total = len(shown(page, "defect"))
    choose(page, "defect", "cut")
    assert set(shown(page, "defect")) == {"cut"}
    assert (
        page.run("document.querySelector('.filters output').value")
        == f"{len(shown(page, 'defect'))} of {total} pictures"
    )


def test_wrong_and_right_are_filtered(page):
    choose(page, "outcome", "wrong")
    assert sorted(map(float, shown(page, "score"))) == [4.0, 6.0]


@pytest.mark.parametrize(("order", "reverse"), [("high", True), ("low", False)])
def test_pictures_are_sorted_by_score(page, order, reverse):
    choose(page, "order", order)
    scores = [float(score) for score in shown(page, "score")]
    assert scores == sorted(scores, reverse=reverse)


def test_one_panel_alone_is_a_square(page):
    choose(page, "panel", "2")
    width, height = page.run(
        "(box => [box.width, box.height])(document.querySelector('.strip').getBoundingClientRect())"
    )
    assert width == pytest.approx(height, abs=1)


CAPTION = "document.getElementById('zoom-caption').textContent"


def test_the_zoom_opens_moves_and_closes_by_keyboard(page):
    page.run("document.querySelector('.gallery button').focus()")
    page.press("Enter")
    assert page.run("document.getElementById('zoom').open")
    assert page.run("document.querySelectorAll('#zoom img').length") == 4
    first = page.run(CAPTION)
    page.press("ArrowRight")
    second = page.run(CAPTION)
    page.press("ArrowLeft")
    assert (page.run(CAPTION), second != first) == (first, True)
    page.press("ArrowRight")
    page.press("Escape")
    assert not page.run("document.getElementById('zoom').open")
    page.wait("document.activeElement === document.querySelectorAll('.gallery button')[1]")


def test_the_zoom_goes_round(page):
    page.run("document.querySelector('.gallery button').click()")
    first = page.run(CAPTION)
    for _ in shown(page, "score"):
        page.press("ArrowRight")
    assert page.run(CAPTION) == first


def test_the_zoom_stays_among_what_the_filter_shows(page):
    choose(page, "defect", "cut")
    page.run("document.querySelector('.gallery figure:not([hidden]) button').click()")
    page.press("ArrowRight")
    assert "cut/" in page.run(CAPTION)


def test_the_zoom_fits_the_window(page, full_run):
    for width, height in ((1280, 900), (390, 844), (1600, 600)):
        page.open(full_run / "report.html", width, height)
        page.run("document.querySelector('.gallery button').click()")
        zoom = "document.getElementById('zoom')"
        assert page.run(f"[{zoom}.scrollWidth - {zoom}.clientWidth, {zoom}.scrollHeight - {zoom}.clientHeight]") == [
            0,
            0,
        ]


def test_every_control_has_a_name(page):
    unnamed = page.run(
        "[...document.querySelectorAll('button, select, a, dialog, svg[role]')].filter(one =>"
        "!(one.ariaLabel || one.labels?.length || one.textContent.trim())).map(one => one.outerHTML)"
    )
    assert unnamed == []


def test_hostile_names_run_nothing(browser, full_run, change):
    attack = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    change(full_run / "results/felt.json", lambda tree: [image.update(defect=attack) for image in tree["images"]])
    change(full_run / "pictures/felt/pictures.json", lambda rows: [row.update(defect=attack) for row in rows])
    browser.open(write_report(full_run))
    choose(browser, "defect", attack)
    browser.run("document.querySelector('.gallery button').click()")
    assert "broken" not in browser.run("document.title")
    assert browser.complaints == []


def test_a_comparison_opens_and_sorts(browser, full_run, tmp_path, change):
    other = tmp_path / "other"
    other.mkdir()
    for path in full_run.iterdir():
        (other / path.name).symlink_to(path)
    (other / "metrics.json").unlink()
    (other / "metrics.json").write_text((full_run / "metrics.json").read_text())
    change(other / "metrics.json", lambda tree: tree["provenance"].update(seed=1))
    write_comparison([full_run, other], tmp_path / "both.html")
    browser.open(tmp_path / "both.html")
    browser.run("document.querySelector('th.name button').click()")
    browser.run("document.querySelector('th.name button').click()")
    assert rows(browser)[:2] == ["mesh", "felt"]
    assert browser.complaints == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_grid_opens_sorts_and_fits_the_window(browser, full_run, tmp_path, width):
    (tmp_path / "grid.html").write_text(grid_page(summarise([read_finished(full_run)], (0,)), tmp_path))
    browser.open(tmp_path / "grid.html", width)
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") == width
    for _ in range(2):
        browser.run("document.querySelector('th.name button').click()")
    assert rows(browser) == ["mesh", "felt"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_stream_is_not_wider_than_the_window(browser, full_run, width):
    (full_run / "results/continual.json").write_text(json.dumps(stream_example()), encoding="utf-8")
    browser.open(write_report(full_run), width)
    figures = "[...document.querySelectorAll('.matrix, #stream .curve')]"
    edges = browser.run(f"{figures}.map(one => one.getBoundingClientRect().right)")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert len(edges) == 7
    assert max(edges) < width
    assert browser.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_values_of_a_matrix_can_be_read(browser, full_run, dark):
    (full_run / "results/continual.json").write_text(json.dumps(stream_example()), encoding="utf-8")
    browser.open(write_report(full_run), dark=dark)
    cells = "[...document.querySelectorAll('.matrix td')].map(one => getComputedStyle(one))"
    pairs = browser.run(f"{cells}.map(one => [one.color, one.backgroundColor])")
    card = browser.run("getComputedStyle(document.querySelector('.matrix')).backgroundColor")
    assert min(contrast(ink, card if paper == "rgba(0, 0, 0, 0)" else paper) for ink, paper in pairs) >= 4.5


def contrast(one, other):
    """Of two colours as a browser tells them; 4.5 is what WCAG 2.2 asks of text (AA)."""
    light, deep = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (deep + 0.05)


def luminance(colour):
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    shares = parts if colour.startswith("color(") else [part / 255 for part in parts]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
