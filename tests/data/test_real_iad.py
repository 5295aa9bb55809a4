"""Real-IAD: the split of the JSON files, views, and the choice of a resolution."""

from __future__ import annotations

import json

import pytest
from published_layouts import build_real_iad

from anoframe.data.dataset import open_dataset
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
