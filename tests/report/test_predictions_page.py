"""The page of a prediction: which images it lists, its thumbnails, and what an earlier one leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from anoframe.report import predictions_page
from anoframe.report.predictions_page import remove_predictions_page, write_predictions_page

BOX = {"x": 1, "y": 2, "width": 3, "height": 4, "area": 9, "peak_x": 2, "peak_y": 3, "peak": 7.5}


def write_prediction(folder: Path, rows, size=(40, 20)):
    """Write `scores.jsonl` and an overlay for each row that names one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        if "overlay" in row:
            path = folder / row["overlay"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (200, 30, 30)).save(path)
    return folder


def row(name, score, limit=0.5, **others):
    return {"file": name, "score": score, "defect": score >= limit, "threshold": limit, **others}


def listed(folder):
    page = (folder / "predictions.html").read_text(encoding="utf-8")
    text = re.search(r'id="predictions-data">(.*?)</script>', page, re.DOTALL)[1]
    return json.loads(text)["images"]


def test_files_that_were_not_read_come_first_then_defects_by_score(tmp_path):
    rows = [row("a", 0.2), row("b", 0.9), row("c", 0.6), {"file": "d", "error": "zero bytes"}, row("e", 0.3)]
    write_predictions_page(write_prediction(tmp_path, rows))
    assert [image[0] for image in listed(tmp_path)] == ["d", "b", "c", "e", "a"]
    assert [image[2] for image in listed(tmp_path)] == ["not read", "defect", "defect", "good", "good"]
    assert listed(tmp_path)[0][6] == "zero bytes"


def test_a_thumbnail_is_a_small_upright_copy_of_the_overlay(tmp_path):
    write_prediction(tmp_path, [row("a.png", 0.9, overlay="overlays/line 1/a.jpg")], size=(900, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (900, 300)).save(tmp_path / "overlays/line 1/a.jpg", exif=exif)
    write_predictions_page(tmp_path)
    (image,) = listed(tmp_path)
    assert image[3:5] == ["overlays/line 1/a.jpg", "thumbnails/line 1/a.jpg"]
    with Image.open(tmp_path / image[4]) as picture:
        assert (picture.size, picture.getexif().get(0x0112)) == ((64, 192), None)


def test_an_overlay_that_cannot_be_read_has_no_thumbnail(tmp_path):
    write_prediction(tmp_path, [row("a", 0.9, overlay="overlays/a.jpg"), row("b", 0.8, overlay="overlays/b.jpg")])
    (tmp_path / "overlays/a.jpg").write_bytes(b"damaged")
    write_predictions_page(tmp_path)
    assert [image[4] for image in listed(tmp_path)] == [None, "thumbnails/b.jpg"]


def test_regions_are_counted_with_the_first(tmp_path):
    rows = [row("a", 0.9, regions=[BOX, BOX]), row("b", 0.8, regions=[]), row("c", 0.7), row("d", 0.6, regions=["x"])]
    write_predictions_page(write_prediction(tmp_path, rows))
    assert [image[5] for image in listed(tmp_path)] == [[2, 1, 2, 3, 4, 9, 7.5], [0], None, [1]]


def test_the_list_is_bounded_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_page, "MOST", 5)
    write_predictions_page(write_prediction(tmp_path, [row(f"{i}", i / 20) for i in range(20)]))
    assert [image[0] for image in listed(tmp_path)] == ["19", "18", "17", "16", "15"]
    assert "15 images with lower scores are not in this list" in (tmp_path / "predictions.html").read_text()


def test_the_head_counts_decisions_and_names_the_threshold(tmp_path):
    rows = [row("a", 0.9), row("b", 0.2), row("c", 0.1), {"file": "d", "error": "x"}]
    write_predictions_page(write_prediction(tmp_path, rows), "patchcore, bottle")
    page = (tmp_path / "predictions.html").read_text()
    assert "patchcore, bottle · 1 defect · 2 good · 1 not read · threshold 0.5" in page


def test_without_threshold_there_are_no_decisions(tmp_path):
    rows = [{"file": "a", "score": 1.0, "defect": None}, {"file": "b", "score": 2.0, "defect": None}]
    write_predictions_page(write_prediction(tmp_path, rows))
    assert [(image[0], image[2]) for image in listed(tmp_path)] == [("b", ""), ("a", "")]
    assert "no threshold, so no decisions" in (tmp_path / "predictions.html").read_text()


def test_ten_thousand_images_are_a_page_of_bounded_size(tmp_path):
    name = "line1/2026-01-01/part_{:05d}.png"
    write_prediction(tmp_path, [])
    rows = [row(name.format(i), i / 10_000, overlay=f"overlays/{name.format(i)}.jpg") for i in range(10_000)]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    write_predictions_page(tmp_path)
    assert len(listed(tmp_path)) == 10_000
    assert (tmp_path / "predictions.html").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    "overlay", ["../../x.jpg", "/etc/x.jpg", "overlays/../../x.jpg", "overlays", 7, "pictures/x.jpg"]
)
def test_a_name_that_leads_elsewhere_is_no_overlay(tmp_path, overlay):
    write_prediction(tmp_path / "out", [])
    (tmp_path / "out/scores.jsonl").write_text(json.dumps(row("a", 0.9) | {"overlay": overlay}) + "\n")
    write_predictions_page(tmp_path / "out")
    assert listed(tmp_path / "out")[0][3:5] == [None, None]


def test_lines_of_other_programs_are_skipped(tmp_path):
    write_prediction(tmp_path, [row("a", 0.9)])
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('no json\n[]\n{"file": 7}\n{"file": "b", "score": "high"}\n')
    write_predictions_page(tmp_path)
    assert [(image[0], image[2]) for image in listed(tmp_path)] == [("b", "not read"), ("a", "defect")]


def test_names_cannot_leave_their_element(tmp_path):
    attack = "</script><script>alert(1)</script>"
    write_predictions_page(write_prediction(tmp_path, [row(attack, 0.9)]), attack)
    page = (tmp_path / "predictions.html").read_text()
    assert page.count("<script") == 2
    assert listed(tmp_path)[0][0] == attack


def test_an_earlier_page_is_removed_with_its_thumbnails_alone(tmp_path):
    write_prediction(tmp_path, [row("a", 0.9, overlay="overlays/deep/a.jpg")])
    write_predictions_page(tmp_path)
    (tmp_path / "thumbnails/own.txt").write_text("of the user")
    remove_predictions_page(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.jpg", "own.txt", "scores.jsonl"]
    assert not (tmp_path / "thumbnails/deep").exists()
