"""Datasets: which samples are indexed in which order, and the errors for a wrong root or category."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.data.mvtec import MVTEC_COUNTS
from anoframe.data.visa import VISA_COUNTS
from anoframe.errors import AnoframeError

HEADER = "object,split,label,image,mask\n"


def counts(dataset, category):
    samples = dataset.samples(category)
    test = [sample for sample in samples if sample.split == "test"]
    defects = sum(sample.is_defect for sample in test)
    return len(samples) - len(test), len(test) - defects, defects


def test_official_counts_add_up_to_the_published_totals():
    assert [sum(column) for column in zip(*MVTEC_COUNTS.values(), strict=True)] == [3629, 467, 1258]
    assert [sum(column) for column in zip(*VISA_COUNTS.values(), strict=True)] == [8659, 962, 1200]


@pytest.mark.parametrize(
    ("name", "root", "category"),
    [("mvtec", "mvtec_ad", "bottle"), ("mvtec", "mvtec_ad", "screw"), ("visa", "visa", "capsules")],
)
def test_real_datasets_have_the_official_counts(shared_data, name, root, category):
    dataset = open_dataset(name, shared_data(root))
    assert counts(dataset, category) == dataset.official_counts[category]
    for sample in dataset.samples(category):
        assert sample.image.is_file()
        assert sample.is_defect == (sample.mask is not None)


def test_all_selects_the_categories_on_disk(shared_data):
    dataset = open_dataset("visa", shared_data("visa"))
    assert choose_categories(dataset, ["all"]) == ["capsules"]
    assert len(dataset.missing_categories) == 11


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".bmp", ".tif", ".TIFF", ".webp"])
def test_samples_are_sorted_by_split_and_path(tmp_path, category, suffix):
    folder = category(tmp_path / "bottle", suffix)
    dataset = open_dataset("mvtec", tmp_path)
    samples = dataset.samples("bottle")
    assert dataset.categories == ("bottle",)
    assert counts(dataset, "bottle") == (3, 2, 4)
    assert [s.defect for s in samples] == ["good"] * 3 + ["crack"] * 2 + ["good"] * 2 + ["hole"] * 2
    assert samples[3].mask == folder / "ground_truth/crack/000_mask.png"
    assert [s.image for s in samples] == sorted(s.image for s in samples if s.split == "train") + sorted(
        s.image for s in samples if s.split == "test"
    )


def test_masks_without_suffix_are_found_and_missing_masks_are_none(tmp_path, category):
    masks = category(tmp_path / "nut") / "ground_truth"
    (masks / "crack/000_mask.png").rename(masks / "crack/000.png")
    (masks / "hole/001_mask.png").unlink()
    by_image = {f"{s.defect}/{s.image.stem}": s.mask for s in open_dataset("folder", tmp_path).samples("nut")}
    assert by_image["crack/000"] == masks / "crack/000.png"
    assert by_image["hole/001"] is None


def test_names_with_spaces_and_other_scripts_are_indexed(tmp_path, category):
    category(tmp_path / "Schraube größe 2/")
    samples = open_dataset("folder", tmp_path).samples("Schraube größe 2")
    assert all(sample.image.is_file() for sample in samples)


def test_only_subfolders_with_the_layout_are_categories(tmp_path, category):
    category(tmp_path / "b")
    category(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".cache/train/good").mkdir(parents=True)
    assert open_dataset("folder", tmp_path).categories == ("a", "b")


def test_root_with_the_layout_is_the_only_category(tmp_path, category, monkeypatch):
    category(tmp_path / "my part")
    dataset = open_dataset("folder", tmp_path / "my part")
    assert dataset.categories == ("my part",)
    assert counts(dataset, "my part") == (3, 2, 4)
    monkeypatch.chdir(tmp_path / "my part")
    assert open_dataset("folder", ".").categories == ("my part",)


def test_visa_is_read_in_the_layout_of_mvtec(tmp_path, category):
    category(tmp_path / "pcb1", ".JPG")
    assert counts(open_dataset("visa", tmp_path), "pcb1") == (3, 2, 4)


@pytest.fixture
def visa(tmp_path, picture, drawn_mask):
    """VisA as downloaded, with one category on disk; returns a function that writes its split table."""
    rows = ["candle,train,normal,candle/Data/Images/Normal/0.JPG,", "pcb1,train,normal,pcb1/Data/Images/Normal/1.JPG,"]
    for number in (2, 1):
        rows.append(f"pcb1,test,anomaly,pcb1/Data/Images/Anomaly/{number}.JPG,pcb1/Data/Masks/Anomaly/{number}.png")
        picture(tmp_path / f"pcb1/Data/Images/Anomaly/{number}.JPG", seed=number)
        drawn_mask(tmp_path / f"pcb1/Data/Masks/Anomaly/{number}.png", value=3)
    picture(tmp_path / "pcb1/Data/Images/Normal/1.JPG", seed=9)

    def write(text=None):
        (tmp_path / "split_csv").mkdir(exist_ok=True)
        (tmp_path / "split_csv/1cls.csv").write_text(text if text is not None else HEADER + "\n".join(rows))
        return open_dataset("visa", tmp_path)

    return write


def test_visa_is_read_as_downloaded(visa):
    dataset = visa()
    samples = dataset.samples("pcb1")
    assert dataset.categories == ("pcb1",)
    assert counts(dataset, "pcb1") == (1, 0, 2)
    assert [sample.image.name for sample in samples] == ["1.JPG", "1.JPG", "2.JPG"]
    assert samples[1].defect == "anomaly"
    assert samples[1].mask.is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object,split,image\n", "no column label, mask"),
        ("", "no column"),
        (HEADER + "pcb1,train,normal,a.JPG,\npcb1,valid,normal,b.JPG,", "line 3: expected split"),
        (HEADER + "pcb1,test", "line 2"),
        (HEADER + "pcb1,train,anomaly,a.JPG,m.png", "line 2: an anomaly in the train split"),
    ],
)
def test_error_of_an_invalid_split_table_names_the_line(visa, text, message):
    dataset = visa(text)
    with pytest.raises(AnoframeError, match=f"1cls.csv.*{message}"):
        dataset.samples("pcb1")


def test_error_of_a_missing_root_shows_the_expected_layout(tmp_path):
    for name in ("mvtec", "visa", "folder"):
        with pytest.raises(AnoframeError, match=r"nowhere does not exist(.|\n)*train/good/000\.png"):
            open_dataset(name, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(AnoframeError, match="is a file"):
        open_dataset("mvtec", tmp_path / "file")


def test_error_of_a_wrong_root_suggests_the_right_one(tmp_path, category):
    category(tmp_path / "sets/mvtec/bottle")
    category(tmp_path / "own/gear")
    cases = {
        ("mvtec", "sets/mvtec/bottle"): "give its parent folder, and --cls_names bottle",
        ("mvtec", "sets"): "sets/mvtec: give that as the root",
        ("folder", "sets"): "sets/mvtec: give that as the root",
        ("mvtec", "own"): "--data.name folder",
        ("visa", "own/gear"): "--data.name folder",
        ("visa", "sets/mvtec"): "looks like MVTec AD: --data.name mvtec",
        ("folder", "own/gear/train"): "no category found",
    }
    for (name, root), message in cases.items():
        with pytest.raises(AnoframeError, match=message):
            open_dataset(name, tmp_path / root)


def test_error_of_an_unknown_dataset_suggests_a_name(tmp_path):
    with pytest.raises(AnoframeError, match="did you mean 'mvtec'"):
        open_dataset("mvtecad", tmp_path)


def test_categories_are_selected_and_wrong_names_are_errors(tmp_path, category):
    for name in ("screw", "bottle", "cable"):
        category(tmp_path / name)
    dataset = open_dataset("mvtec", tmp_path)
    assert choose_categories(dataset, ["all"]) == ["bottle", "cable", "screw"]
    assert choose_categories(dataset, "bottle") == ["bottle"]
    assert choose_categories(dataset, ["screw", "bottle"]) == ["screw", "bottle"]
    wrong = {
        ("botle",): "did you mean 'bottle'",
        ("zipper",): "'zipper' of 'mvtec' is not on disk",
        ("screw", "screw"): "twice: screw",
        ("all", "screw"): "'all' stands alone",
        (): "no category given",
    }
    for names, message in wrong.items():
        with pytest.raises(AnoframeError, match=message):
            choose_categories(dataset, names)
    with pytest.raises(AnoframeError, match="did you mean 'cable'"):
        dataset.samples("cabel")


def test_indexing_imports_neither_torch_nor_skimage():
    modules = "dataset, mvtec, visa, folder, demo, validation, mask_preview, masks, preprocessing"
    heavy = "{'torch', 'skimage', 'scipy'}"
    code = f"import sys; from anoframe.data import {modules}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.strip() == "[]"
