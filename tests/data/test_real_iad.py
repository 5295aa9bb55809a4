"""Real-IAD: the split of the JSON files, views, and the choice of a resolution."""

from __future__ import annotations

import json

import pytest
from published_layouts import build_real_iad

from anoframe.data.dataset import open_dataset
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError


def test_the_json_file_defines_the_split(tmp_path):
    samples = open_dataset("real_iad", build_real_iad(tmp_path)).samples("mint")
    assert [(sample.split, sample.defect, sample.name) for sample in samples] == [
        ("train", "good", "S0001/mint_0001_OK_C1_2023.jpg"),
        ("train", "good", "S0001/mint_0001_OK_C2_2023.jpg"),
        ("test", "BX", "S0001/mint_0001_NG_BX_C1_2023.jpg"),
        ("test", "BX", "S0001/mint_0001_NG_BX_C2_2023.jpg"),
        ("test", "good", "S0002/mint_0002_OK_C1_2023.jpg"),
    ]
    assert samples[2].mask.name == "mint_0001_NG_BX_C1_2023_mask.png"


def test_json_files_may_be_nested_and_images_lie_in_the_root(tmp_path):
    nested = build_real_iad(tmp_path / "nested", jsons="realiad_jsons/realiad_jsons")
    flat = build_real_iad(tmp_path / "flat", images="")
    for root in (nested, flat, nested / "realiad_256"):
        dataset = open_dataset("real_iad", root)
        assert dataset.categories == ("mint",)
        assert all(sample.image.is_file() for sample in dataset.samples("mint"))


def test_one_of_several_resolutions_must_be_named(tmp_path):
    root = build_real_iad(build_real_iad(tmp_path), images="realiad_512")
    with pytest.raises(
        AnoframeError, match=r"realiad_256, realiad_512: choose one resolution, for example --data\.root"
    ):
        open_dataset("real_iad", root)
    samples = open_dataset("real_iad", root / "realiad_512").samples("mint")
    assert {sample.image.relative_to(root).parts[0] for sample in samples} == {"realiad_512"}


@pytest.mark.parametrize("jsons", ["realiad_jsons_sv", "realiad_jsons/realiad_jsons_sv"])
def test_another_split_is_chosen_by_its_folder(tmp_path, jsons):
    root = build_real_iad(tmp_path)
    content = json.loads((root / "realiad_jsons/mint.json").read_text())
    for split in ("train", "test"):
        content[split] = [entry for entry in content[split] if "_C1_" in entry["image_path"]]
    (root / jsons).mkdir()
    (root / jsons / "mint.json").write_text(json.dumps(content))
    dataset = open_dataset("real_iad", root / jsons)
    assert [sample.name for sample in dataset.samples("mint")] == [
        "S0001/mint_0001_OK_C1_2023.jpg",
        "S0001/mint_0001_NG_BX_C1_2023.jpg",
        "S0002/mint_0002_OK_C1_2023.jpg",
    ]
    assert check_dataset(dataset, ["mint"]).problems == [], "images lie in the root"
    assert len(open_dataset("real_iad", root).samples("mint")) == 5
    build_real_iad(root, images="realiad_512")
    with pytest.raises(AnoframeError, match=r"realiad_256, realiad_512: choose one resolution, move the others out of"):
        open_dataset("real_iad", root / jsons)


def test_a_view_that_does_not_show_the_defect_is_normal(tmp_path):
    root = build_real_iad(tmp_path)
    path = root / "realiad_jsons/mint.json"
    content = json.loads(path.read_text())
    content["test"][-1] |= {"anomaly_class": "OK", "mask_path": None}
    path.write_text(json.dumps(content))
    hidden = next(s for s in open_dataset("real_iad", root).samples("mint") if "NG_BX_C2" in s.name)
    assert (hidden.split, hidden.defect, hidden.mask) == ("test", "good", None)


def test_a_category_without_images_is_not_on_disk(tmp_path):
    root = build_real_iad(tmp_path)
    (root / "realiad_jsons/zipper.json").write_text("{}")
    assert open_dataset("real_iad", root).categories == ("mint",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not a readable split"),
        ("{}", "not a readable split"),
        ('{"train": [{"image_path": "a.jpg"}], "test": []}', "not a readable split"),
    ],
)
def test_a_damaged_json_file_is_named(tmp_path, text, message):
    root = build_real_iad(tmp_path)
    (root / "realiad_jsons/mint.json").write_text(text)
    with pytest.raises(AnoframeError, match=rf"mint\.json: {message}"):
        open_dataset("real_iad", root).samples("mint")


def test_a_defect_in_the_train_split_is_refused(tmp_path):
    root = build_real_iad(tmp_path)
    path = root / "realiad_jsons/mint.json"
    content = json.loads(path.read_text())
    content["train"].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(AnoframeError, match="is a defect in the train split"):
        open_dataset("real_iad", root).samples("mint")
