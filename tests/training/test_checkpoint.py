"""Checkpoints: whole or refused, with the file's name."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from anoframe.errors import AnoframeError
from anoframe.training.checkpoint import find_checkpoints, holder_of, load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def fit(run_copy):
    """The folder of one fit, to break."""
    return run_copy / "checkpoint" / "felt"


def describe(fit, **changes):
    """Change values of a fit's `detector.json`; None removes one."""
    path = fit / "detector.json"
    tree = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))


# ------------------------------------------------------------------------------------------------ there and back


def test_a_checkpoint_loads_without_its_run_or_data(fit, tmp_path):
    moved = shutil.move(fit, tmp_path / "elsewhere")
    assert load_checkpoint(moved, CPU).categories == ("felt",)


def test_what_was_learned_comes_back(fit):
    bank = load_file(fit / "learned.safetensors")["bank"]
    assert load_checkpoint(fit, CPU).detector.bank.equal(bank)


def test_what_must_be_known_comes_back(fit, finished):
    found = load_checkpoint(fit, CPU)
    assert (found.preprocessing.resize, found.preprocessing.crop, found.preprocessing.keep_aspect) == (64, 64, False)
    assert (found.seed, found.train_images) == (0, {"felt": 6})


def test_a_loaded_detector_is_in_eval_mode(fit):
    assert not load_checkpoint(fit, CPU).detector.training


def test_saving_again_writes_equal_bytes(fit, tmp_path):
    save_checkpoint(tmp_path / "again", load_checkpoint(fit, CPU))
    for file in ("learned.safetensors", "detector.json"):
        assert (tmp_path / "again" / file).read_bytes() == (fit / file).read_bytes()


def test_the_encoder_is_not_stored(fit):
    assert list(load_file(fit / "learned.safetensors")) == ["bank"]


def test_the_description_is_written_last(fit, tmp_path, monkeypatch):
    found = load_checkpoint(fit, CPU)
    written = []
    monkeypatch.setattr("os.replace", lambda source, target: written.append(target.name))
    save_checkpoint(tmp_path / "again", found)
    assert written == ["learned.safetensors", "detector.json"]


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("place", ["length", "header", "middle", "end"])
def test_a_flipped_byte_is_found(fit, place):
    path = fit / "learned.safetensors"
    data = bytearray(path.read_bytes())
    data[{"length": 1, "header": 20, "middle": len(data) // 2, "end": -1}[place]] ^= 1
    path.write_bytes(data)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is .*damaged"):
        load_checkpoint(fit, CPU)


def test_every_byte_of_the_header_counts(fit):
    path = fit / "learned.safetensors"
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for position in range(length):
        if whole[position : position + 1] == b" ":  # padding behind the header
            continue
        data = bytearray(whole)
        data[position] ^= 0x15
        path.write_bytes(data)
        with pytest.raises(AnoframeError, match=r"learned\.safetensors"):
            load_checkpoint(fit, CPU)


def test_a_file_cut_short_is_found(fit):
    path = fit / "learned.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is missing or damaged"):
        load_checkpoint(fit, CPU)


def test_a_file_of_another_fit_is_found(fit):
    shutil.copy(fit.parent / "mesh" / "learned.safetensors", fit)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is damaged or was exchanged"):
        load_checkpoint(fit, CPU)


def test_another_tensor_beside_is_found(fit):
    path = fit / "learned.safetensors"
    save_file(load_file(path) | {"more": torch.zeros(1)}, path)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is damaged or was exchanged"):
        load_checkpoint(fit, CPU)


def test_a_pickle_is_refused_and_not_run(fit, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    (fit / "learned.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(AnoframeError, match=r"learned\.safetensors: a pickle, not safetensors"):
        load_checkpoint(fit, CPU)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("file", ["learned.safetensors", "detector.json"])
def test_a_missing_file_is_named(fit, file):
    (fit / file).unlink()
    with pytest.raises(AnoframeError, match=file):
        load_checkpoint(fit, CPU)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_a_damaged_description_is_named(fit, text):
    (fit / "detector.json").write_text(text)
    with pytest.raises(AnoframeError, match=r"detector\.json"):
        load_checkpoint(fit, CPU)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_told(fit, number):
    describe(fit, format=number)
    with pytest.raises(AnoframeError, match=r"detector\.json is not of checkpoint format 1"):
        load_checkpoint(fit, CPU)


def test_other_weights_of_the_backbone_are_told(fit):
    model = json.loads((fit / "detector.json").read_text())["model"]
    describe(fit, model=model | {"backbone": model["backbone"] | {"weights": "random:1"}})
    with pytest.raises(AnoframeError, match=r"felt: learned on other weights of tf_efficientnet_lite0 \(random, "):
        load_checkpoint(fit, CPU)


def test_a_checkpoint_of_another_method_is_told(fit):
    model = json.loads((fit / "detector.json").read_text())["model"]
    del model["squared"]
    describe(fit, model=model | {"name": "patchcore_noising"})
    with pytest.raises(AnoframeError, match="of another method or version: bank_images, deviation, quantiles"):
        load_checkpoint(fit, CPU)


# ------------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("below", ["", "checkpoint"])
def test_every_fit_of_a_run_is_found(finished, below):
    home = finished.folder / "checkpoint"
    assert find_checkpoints(finished.folder / below) == {"felt": home / "felt", "mesh": home / "mesh"}


def test_the_folder_of_one_fit_is_found(finished):
    fit = finished.folder / "checkpoint" / "mesh"
    assert find_checkpoints(fit) == {"mesh": fit}


def test_a_fit_that_was_cut_short_is_not_found(run_copy):
    (run_copy / "checkpoint" / "mesh" / "detector.json").unlink()
    assert list(find_checkpoints(run_copy)) == ["felt"]


def test_a_fit_that_knows_less_than_another_is_left_out(run_copy):
    """As of the tasks of a stream: by what each has learned, whatever it is called."""
    home = run_copy / "checkpoint"
    for old, new in (("felt", "task_00"), ("mesh", "task_01")):
        (home / old).rename(home / new)
    assert list(find_checkpoints(run_copy)) == ["task_00", "task_01"]
    description = json.loads((home / "task_01/detector.json").read_text())
    description["train_images"] = {"felt": 6, "mesh": 6}
    (home / "task_01/detector.json").write_text(json.dumps(description))
    assert list(find_checkpoints(run_copy)) == ["task_01"]


@pytest.mark.parametrize("name", ["", "gone", "file"])
def test_a_path_without_checkpoints_is_told(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnoframeError, match="no checkpoint in"):
        find_checkpoints(tmp_path / name)


def test_the_detector_of_a_category(finished):
    both = [load_checkpoint(finished.folder / "checkpoint" / name, CPU) for name in ("felt", "mesh")]
    assert holder_of(both, "mesh") is both[1]
    assert holder_of(both, "tile") is None
