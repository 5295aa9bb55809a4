"""A CSV table of images: columns, splits, labels, and errors that name the line."""

from __future__ import annotations

import pytest
from published_layouts import build_csv, photo

from anoframe.data.dataset import open_dataset
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError

HEADER = "image,category,split,label,mask\n"


def test_the_table_defines_categories_splits_and_labels(tmp_path):
    dataset = open_dataset("csv", build_csv(tmp_path))
    assert dataset.categories == ("cap", "nut")
    assert [(sample.split, sample.image.name, sample.defect) for sample in dataset.samples("cap")] == [
        ("train", "0.png", "good"),
        ("train", "1.png", "good"),
        ("test", "3.png", "good"),
        ("test", "4.png", "scratch"),
    ]
    assert dataset.samples("cap")[3].mask == tmp_path / "masks/4.png"


def test_left_out_images_are_counted_and_other_categories_are_not(tmp_path):
    photo(tmp_path / "photos/new.png")
    dataset = open_dataset("csv", build_csv(tmp_path))
    report = check_dataset(dataset, dataset.categories)
    assert report.problems == []
    assert "cap: 1 image of split val, used neither for training nor for testing" in report.remarks
    unused = [remark for remark in report.remarks if "not used" in remark]
    assert all("1 image in neither" in remark and remark.endswith("photos/new.png") for remark in unused)
    assert unused


def test_the_root_is_a_folder_with_one_table_or_the_table(tmp_path):
    root = build_csv(tmp_path)
    (root / "notes.csv").write_text("name,price\n")
    assert open_dataset("csv", root).root == root
    build_csv(root, "other.csv")
    with pytest.raises(AnoframeError, match=r"several tables, other\.csv, parts\.csv: choose one.*other\.csv"):
        open_dataset("csv", root)
    dataset = open_dataset("csv", root / "other.csv")
    assert dataset.root == root
    assert len(dataset.samples("nut")) == 3


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_capitals_a_byte_order_mark_and_backslashes_are_read(tmp_path, delimiter):
    text = "Image, Category ,SPLIT,Label\r\nphotos\\0.png,cap,Train,Good\r\n\r\n photos/1.png,cap,TEST,0\r\n"
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(",", delimiter).encode())
    samples = open_dataset("csv", tmp_path).samples("cap")
    assert [(sample.image, sample.split, sample.defect) for sample in samples] == [
        (tmp_path / "photos/0.png", "train", "good"),
        (tmp_path / "photos/1.png", "test", "good"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split\n", "no column category, label; expected image,category,split,label,mask"),
        ("", "no column"),
        (HEADER + "a.png,cap,train,good,\na.png,cap,dev,good,", "line 3: split 'dev'; expected train, test or val"),
        (HEADER + "a.png,cap,train,dent,m.png", "line 2: label 'dent' in split train"),
        (HEADER + "a.png,cap,train,,", "line 2: no label"),
        (HEADER + "a.png,cap", "line 2: no split, label"),
        (HEADER + "a.png,cap,train,good,,x", "line 2: 6 cells, but 5 columns"),
        (HEADER + "a.png,a/b,train,good,", "line 2: category 'a/b'"),
        (HEADER + "a.png,cap,train,good,\na.png,cap,test,good,", "line 3: .*a.png is in line 2 as well"),
    ],
)
def test_error_of_an_invalid_table_names_the_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(AnoframeError, match=rf"t\.csv.*{message}"):
        open_dataset("csv", tmp_path / "t.csv")


def test_a_table_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes((HEADER + "gr\xfcn.png,cap,train,good,").encode("latin-1"))
    with pytest.raises(AnoframeError, match=r"t\.csv: not a readable table .*UTF-8"):
        open_dataset("csv", tmp_path)


def test_a_category_without_a_split_is_an_error_of_that_category(tmp_path):
    root = build_csv(tmp_path)
    with (root / "parts.csv").open("a") as file:
        file.write("photos/9.png,rod,test,good,\n")
    dataset = open_dataset("csv", root)
    assert check_dataset(dataset, ["cap"]).problems == []
    with pytest.raises(AnoframeError, match="no row of category 'rod' has split train"):
        dataset.samples("rod")


def test_an_image_outside_of_the_root_is_a_problem(tmp_path):
    photo(tmp_path / "elsewhere.png")
    root = build_csv(tmp_path / "data")
    with (root / "parts.csv").open("a") as file:
        file.write(f"../elsewhere.png,cap,test,good,\n{tmp_path}/elsewhere2.png,cap,test,good,\n")
    problems = check_dataset(open_dataset("csv", root), ["cap"]).problems
    assert any("elsewhere.png: lies outside" in problem for problem in problems)
    assert any("elsewhere2.png" in problem for problem in problems)
