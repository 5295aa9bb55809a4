"""Whole runs of WinCLIP on tiny data, with a small random CLIP model in place of the real one."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from fake_clip import FakeCLIP
from tiny_data import TINY_DATA

import anoframe
from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.models import factory
from anoframe.models.winclip.model import WinCLIP
from anoframe.utils.tensor_files import read_tensors

pytestmark = pytest.mark.slow

SHIPPED = ("winclip_zero_shot", "winclip_2shot", "winclip_fast", "clip_single_prompt")


@pytest.fixture(scope="module")
def train(tmp_path_factory, tiny_root):
    """Runs a shipped config on the tiny data, with images of 32 pixels."""
    folder = tmp_path_factory.mktemp("configs")

    def run(name, categories=("felt",), output=None, root=tiny_root, **changes):
        path = folder / f"tiny_{name}.py"
        data = TINY_DATA.format(root=str(root)) + "cfg.data.resize = cfg.data.crop = 32\ncfg.cache.features = True\n"
        path.write_text(f'from anoframe.config import inherit\n\ncfg = inherit("winclip/{name}.py")\n{data}')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(factory, "build_backbone", lambda section: FakeCLIP())
            cfg = anoframe.load_config(path, changes)
            return anoframe.train(cfg, list(categories), output or tmp_path_factory.mktemp("runs"))

    return run


@pytest.fixture(scope="module")
def zero_shot(train):
    return train("winclip_zero_shot", ["felt", "mesh"])


@pytest.fixture(scope="module")
def few_shot(train):
    return train("winclip_2shot", ["felt", "mesh"])


def provenance_of(run):
    return json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["provenance"]


def result_of(run, category="felt"):
    return json.loads((run.folder / f"results/{category}.json").read_text(encoding="utf-8"))


def stages_of(run):
    return json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["stages"]


def learned(run, category="felt"):
    return read_tensors(run.folder / f"checkpoint/{category}/learned.safetensors")


def test_zero_shot_has_all_metrics_and_no_training_stage(zero_shot):
    metrics = zero_shot.metrics["felt"]
    assert {"image_auroc", "pixel_auroc", "aupro"} <= metrics.keys()
    assert None not in (metrics["image_auroc"], metrics["pixel_auroc"], metrics["aupro"])
    assert set(learned(zero_shot)) == {"prompts_sha256"}
    assert "references" not in stages_of(zero_shot)


def test_zero_shot_estimates_no_threshold(zero_shot):
    assert result_of(zero_shot)["threshold"] is None


def test_each_category_is_scored_with_its_own_name(zero_shot, tiny_root):
    detector = WinCLIP(FakeCLIP())
    for category in ("felt", "mesh"):
        reader = Reader(Preprocessing(32, 32, keep_aspect=False, interpolation="bicubic"))
        images = {entry["name"]: entry["score"] for entry in result_of(zero_shot, category)["images"]}
        for name, score in images.items():
            pixels = reader.image(tiny_root / category / "test" / name).pixels[None]
            assert float(detector.predict(pixels, [category]).score[0]) == pytest.approx(score, abs=1e-6)


def test_few_shot_learns_from_its_shots_and_lists_both_scores(few_shot):
    assert "references" in stages_of(few_shot)
    assert len(learned(few_shot)["reference_patches"]) == 2 * 16
    assert result_of(few_shot)["counts"]["train"] == 2
    entry = result_of(few_shot)["images"][0]
    assert entry["score"] == pytest.approx(sum(entry["extra_scores"].values()) / 2, abs=1e-6)
    assert {"image_auroc_text", "image_auroc_references"} <= few_shot.metrics["felt"].keys()


def test_the_text_part_of_few_shot_is_the_zero_shot_score(few_shot, zero_shot):
    assert [entry["extra_scores"]["text"] for entry in result_of(few_shot)["images"]] == [
        entry["score"] for entry in result_of(zero_shot)["images"]
    ]


def test_another_seed_draws_other_references_from_the_same_cached_features(train, few_shot, monkeypatch):
    def fail(*_):
        raise AssertionError("an image was encoded again")

    train("winclip_2shot", ["felt"], seed=1)  # encodes the references of this seed
    monkeypatch.setattr(FakeCLIP, "image_tokens", fail)
    again = train("winclip_2shot", ["felt"], seed=1)
    assert not torch.equal(learned(again)["reference_patches"], learned(few_shot)["reference_patches"])


def test_zero_shot_and_few_shot_share_their_cached_features(train, few_shot, monkeypatch):
    monkeypatch.setattr(FakeCLIP, "image_tokens", None)
    train("winclip_zero_shot", ["felt"])


def test_a_loaded_run_predicts_as_the_run_did(few_shot, tiny_root, monkeypatch):
    monkeypatch.setattr(factory, "build_backbone", lambda section: FakeCLIP())
    entry = result_of(few_shot)["images"][0]
    prediction = anoframe.load_run(few_shot.folder).predict(tiny_root / "felt/test" / entry["name"], "felt")
    assert float(prediction.score) == pytest.approx(entry["score"], abs=1e-6)
    assert prediction.anomaly_map.shape == (32, 32)


def test_the_single_prompt_has_image_metrics_only_and_a_note(train):
    run = train("clip_single_prompt")
    assert run.metrics["felt"]["image_auroc"] is not None
    assert run.metrics["felt"]["pixel_auroc"] is None
    assert any(note.startswith("clip_single_prompt is not WinCLIP") for note in provenance_of(run)["notes"])


def test_the_single_prompt_can_be_tested_on_the_pooled_split_of_raml(train):
    changes = {"data.split": "raml_pooled", "data.split_seed": 42, "data.interpolation": "bilinear"}
    run = train("clip_single_prompt", **changes, **{"model.raw_names": True})
    counts = result_of(run)["counts"]
    assert (counts["test_good"], counts["test_defect"]) == (2, 1)
    assert run.metrics["felt"]["image_auroc"] is not None


def test_the_fast_version_says_that_it_is_not_winclip(train):
    notes = provenance_of(train("winclip_fast"))["notes"]
    assert any(note.startswith("winclip_fast is not WinCLIP") for note in notes)


def test_renamed_categories_stand_in_the_results(train, tmp_path):
    path = tmp_path / "prompts.yaml"
    lists = "templates: ['a {}']\nnormal: ['{}']\ndefect: ['bad {}']\n"
    path.write_text(lists + "names: {felt: green carpet}\n")
    notes = provenance_of(train("winclip_zero_shot", **{"model.prompts": str(path)}))["notes"]
    assert any("'felt' is 'green carpet'" in note for note in notes)
    assert any("sha256" in note for note in notes)


def test_references_of_several_categories_in_one_detector_are_an_error(train):
    with pytest.raises(AnoframeError, match=r"references of 2 categories \(felt, mesh\).*--protocol separate"):
        train("winclip_2shot", ["felt", "mesh"], **{"protocol.name": "unified"})


def test_another_image_size_is_an_error_before_the_run(train, tmp_path):
    with pytest.raises(AnoframeError, match=r"data.crop is 48, and fake_clip takes images of 32 pixels"):
        train("winclip_zero_shot", output=tmp_path, **{"data.resize": 48, "data.crop": 48})
    assert list(tmp_path.iterdir()) == []


def test_zero_shot_needs_no_training_image_and_few_shot_does(train, tiny_root, tmp_path):
    shutil.copytree(tiny_root / "felt", tmp_path / "felt")
    shutil.rmtree(tmp_path / "felt" / "train")
    run = train("winclip_zero_shot", root=tmp_path)
    assert run.metrics["felt"]["image_auroc"] is not None
    assert result_of(run)["counts"]["train"] == 0
    with pytest.raises(AnoframeError, match=r"felt: no training image|data\.shots 2 is more than the training images"):
        train("winclip_2shot", root=tmp_path)
