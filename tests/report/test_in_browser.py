"""The pages in a real browser: no complaints, layout, sorting, filters and zoom, by keyboard as well."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from stream_example import stream_example

from anoframe.report.compare import read_finished
from anoframe.report.comparison_page import write_comparison
from anoframe.report.grid_page import grid_page
from anoframe.report.grid_table import summarise
from anoframe.report.write import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(full_folder, tmp_path_factory, change):
    """The report of a run with different AUPRO values and a failed category."""
    folder = Path(shutil.copytree(full_folder, tmp_path_factory.mktemp("report") / "run"))
    change(folder / "metrics.json", lambda tree: tree["categories"]["felt"].update(aupro=0.25))
    change(folder / "metrics.json", lambda tree: tree["categories"]["mesh"].update(aupro=0.75))
    change(folder / "run.json", lambda tree: tree.update(failed={"rope": "no test images"}))
    return write_report(folder)


@pytest.fixture(scope="module")
def stream_report(full_folder, tmp_path_factory):
    """The report of a continual run with a method summary."""
    folder = Path(shutil.copytree(full_folder, tmp_path_factory.mktemp("stream") / "run"))
    (folder / "results/continual.json").write_text(json.dumps(stream_example()), encoding="utf-8")
    return write_report(folder)


@pytest.fixture
def page(browser, report):
    browser.open(report)
    return browser


def head_of(title):
    """Expression for the head of a column."""
    return f"[...document.querySelectorAll('th[data-sort]')].find(head => head.title === {json.dumps(title)})"


def row_names(page):
    return page.run("[...document.querySelectorAll('.metrics tbody th')].map(head => head.textContent)")


def visible(page, field):
    """A data field of each visible picture of the first category."""
    figures = "[...document.querySelector('.gallery').querySelectorAll('figure')].filter(figure => !figure.hidden)"
    return page.run(f"{figures}.map(figure => figure.dataset.{field})")


def choose(page, name, value):
    """Choose an option of a filter."""
    page.run(
        f"(() => {{ const select = document.querySelector('.filters [name={name}]');"
        f"select.value = {json.dumps(value)}; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
    )


def show_all(page):
    """Lay out sections outside the window as well."""
    page.run("document.querySelectorAll('section').forEach(section => section.style.contentVisibility = 'visible')")


# ------------------------------------------------------------------------------------------------ page and layout


def test_page_opens_without_complaints(page):
    assert page.complaints == []


def test_page_requests_nothing_but_itself(page):
    assert {address.split(":")[0] for address in page.requests} == {"file", "data"}
    assert len([address for address in page.requests if address.startswith("file")]) == 1


def test_all_pictures_are_drawn(page):
    show_all(page)
    page.wait("[...document.images].length === 12 && [...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 390])
def test_training_fits_the_window(browser, trained_run, width):
    browser.open(write_report(trained_run), width)
    sizes = browser.run("[...document.querySelectorAll('.training svg')].map(svg => svg.getBoundingClientRect().right)")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert 0 < max(sizes) < width


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_the_window(page, report, width):
    page.open(report, width)
    show_all(page)
    page.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.run("document.documentElement.scrollWidth") == width


def test_style_follows_light_and_dark_mode(page, report):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    page.open(report, dark=True)
    assert page.run(colour) != light


def test_every_control_has_a_name(page):
    unnamed = page.run(
        "[...document.querySelectorAll('button, select, a, dialog, svg[role]')].filter(element =>"
        "!(element.ariaLabel || element.labels?.length || element.textContent.trim()))"
        ".map(element => element.outerHTML)"
    )
    assert unnamed == []


def test_hostile_names_run_no_script(browser, full_run, change):
    attack = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    change(full_run / "results/felt.json", lambda tree: [image.update(defect=attack) for image in tree["images"]])
    change(full_run / "pictures/felt/pictures.json", lambda rows: [row.update(defect=attack) for row in rows])
    browser.open(write_report(full_run))
    choose(browser, "defect", attack)
    browser.run("document.querySelector('.gallery button').click()")
    assert "broken" not in browser.run("document.title")
    assert browser.complaints == []


# ------------------------------------------------------------------------------------------------ sorting and filters


def test_column_is_sorted_by_keyboard_and_announces_it(page):
    head = head_of("aupro")
    page.run(f"{head}.querySelector('button').focus()")
    page.press("Enter")
    assert (row_names(page), page.run(f"{head}.ariaSort")) == (["mesh", "felt", "rope"], "descending")
    page.press("Enter")
    assert (row_names(page), page.run(f"{head}.ariaSort")) == (["felt", "mesh", "rope"], "ascending")


def test_table_is_sorted_by_one_column_at_a_time(page):
    page.run(f"{head_of('aupro')}.querySelector('button').click()")
    page.run("document.querySelector('th.name button').click()")
    assert row_names(page) == ["felt", "mesh", "rope"]
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_wrong_pictures_come_first(page):
    assert visible(page, "outcome")[:2] == ["wrong", "wrong"]
    assert set(visible(page, "outcome")[2:]) == {"right"}


def test_pictures_are_filtered_by_defect_type(page):
    total = len(visible(page, "defect"))
    choose(page, "defect", "cut")
    assert set(visible(page, "defect")) == {"cut"}
    assert (
        page.run("document.querySelector('.filters output').value")
        == f"{len(visible(page, 'defect'))} of {total} pictures"
    )


def test_pictures_are_filtered_by_decision(page):
    choose(page, "outcome", "wrong")
    assert sorted(map(float, visible(page, "score"))) == [4.0, 6.0]


@pytest.mark.parametrize(("order", "reverse"), [("high", True), ("low", False)])
def test_pictures_are_sorted_by_score(page, order, reverse):
    choose(page, "order", order)
    scores = [float(score) for score in visible(page, "score")]
    assert scores == sorted(scores, reverse=reverse)


def test_single_panel_is_a_square(page):
    choose(page, "panel", "2")
    width, height = page.run(
        "(box => [box.width, box.height])(document.querySelector('.strip').getBoundingClientRect())"
    )
    assert width == pytest.approx(height, abs=1)


# ------------------------------------------------------------------------------------------------ zoom

CAPTION = "document.getElementById('zoom-caption').textContent"


def test_zoom_opens_moves_and_closes_by_keyboard(page):
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


def test_zoom_continues_at_the_first_picture_after_the_last(page):
    page.run("document.querySelector('.gallery button').click()")
    first = page.run(CAPTION)
    for _ in visible(page, "score"):
        page.press("ArrowRight")
    assert page.run(CAPTION) == first


def test_zoom_shows_only_pictures_of_the_filter(page):
    choose(page, "defect", "cut")
    page.run("document.querySelector('.gallery figure:not([hidden]) button').click()")
    page.press("ArrowRight")
    assert "cut/" in page.run(CAPTION)


def test_zoom_fits_the_window(page, report):
    for width, height in ((1280, 900), (390, 844), (1600, 600)):
        page.open(report, width, height)
        page.run("document.querySelector('.gallery button').click()")
        zoom = "document.getElementById('zoom')"
        overflow = page.run(f"[{zoom}.scrollWidth - {zoom}.clientWidth, {zoom}.scrollHeight - {zoom}.clientHeight]")
        assert overflow == [0, 0]


# ------------------------------------------------------------------------------------------------ other pages


def test_comparison_opens_and_sorts(browser, full_folder, tmp_path, change):
    other = Path(shutil.copytree(full_folder, tmp_path / "other"))
    change(other / "metrics.json", lambda tree: tree["provenance"].update(seed=1))
    write_comparison([full_folder, other], tmp_path / "both.html")
    browser.open(tmp_path / "both.html")
    browser.run("document.querySelector('th.name button').click()")
    browser.run("document.querySelector('th.name button').click()")
    assert row_names(browser)[:2] == ["mesh", "felt"]
    assert browser.complaints == []


@pytest.mark.parametrize("width", [1280, 390])
def test_grid_opens_sorts_and_fits_the_window(browser, full_folder, tmp_path, width):
    (tmp_path / "grid.html").write_text(grid_page(summarise([read_finished(full_folder)], (0,)), tmp_path))
    browser.open(tmp_path / "grid.html", width)
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") == width
    for _ in range(2):
        browser.run("document.querySelector('th.name button').click()")
    assert row_names(browser) == ["mesh", "felt"]


@pytest.mark.parametrize("width", [1280, 390])
def test_stream_fits_the_window(browser, stream_report, width):
    browser.open(stream_report, width)
    figures = "[...document.querySelectorAll('.matrix, #stream .curve')]"
    edges = browser.run(f"{figures}.map(figure => figure.getBoundingClientRect().right)")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert len(edges) == 9  # 4 matrices, 3 charts over tasks, and 2 charts of the method
    assert max(edges) < width
    assert browser.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_on_shaded_cells_has_enough_contrast(browser, stream_report, dark):
    browser.open(stream_report, dark=dark)
    cells = "[...document.querySelectorAll('.matrix td')].map(cell => getComputedStyle(cell))"
    pairs = browser.run(f"{cells}.map(style => [style.color, style.backgroundColor])")
    card = browser.run("getComputedStyle(document.querySelector('.matrix')).backgroundColor")
    assert min(contrast(text, card if paper == "rgba(0, 0, 0, 0)" else paper) for text, paper in pairs) >= 4.5


def contrast(first, second):
    """Contrast ratio of two computed colours. WCAG 2.2 (AA) requires 4.5 for text."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    values = [float(value) for value in re.findall(r"[\d.]+", colour)[:3]]
    shares = values if colour.startswith("color(") else [value / 255 for value in values]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
