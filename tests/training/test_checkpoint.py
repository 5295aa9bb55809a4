"""Checkpoints: complete, or an error that names the file."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from anoframe.errors import AnoframeError
from anoframe.training.checkpoint import (
    FORMAT,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    select_checkpoint,
)

CPU = torch.device("cpu")


@pytest.fixture
def fit(run_copy):
    """Folder of one checkpoint, for tests that damage it."""
    return run_copy / "checkpoint" / "felt"


def change_description(fit, **changes):
    """Change values of a checkpoint's `detector.json`; None removes one."""
    path = fit / "detector.json"
    tree = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))


# ------------------------------------------------------------------------------------------------ saving and loading


def test_checkpoint_loads_without_its_run_or_data(fit, tmp_path):
    moved = shutil.move(fit, tmp_path / "elsewhere")
    assert load_checkpoint(moved, CPU).categories == ("felt",)


def test_learned_state_is_restored(fit):
    bank = load_file(fit / "learned.safetensors")["bank"]
    assert load_checkpoint(fit, CPU).detector.bank.equal(bank)


def test_description_is_restored(fit, finished):
    loaded = load_checkpoint(fit, CPU)
    assert (loaded.preprocessing.resize, loaded.preprocessing.crop, loaded.preprocessing.keep_aspect) == (64, 64, False)
    assert (loaded.seed, loaded.train_images) == (0, {"felt": 6})


def test_loaded_detector_is_in_eval_mode(fit):
    assert not load_checkpoint(fit, CPU).detector.training


def test_saving_again_writes_equal_bytes(fit, tmp_path):
    save_checkpoint(tmp_path / "again", load_checkpoint(fit, CPU))
    for file in ("learned.safetensors", "detector.json"):
        assert (tmp_path / "again" / file).read_bytes() == (fit / file).read_bytes()


def test_encoder_is_not_stored(fit):
    assert list(load_file(fit / "learned.safetensors")) == ["bank"]


def test_description_is_written_last(fit, tmp_path, monkeypatch):
    loaded = load_checkpoint(fit, CPU)
    written = []
    monkeypatch.setattr("os.replace", lambda source, target: written.append(target.name))
    save_checkpoint(tmp_path / "again", loaded)
    assert written == ["learned.safetensors", "detector.json"]


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("place", ["length", "header", "middle", "end"])
def test_flipped_bit_raises_an_error(fit, place):
    path = fit / "learned.safetensors"
    data = bytearray(path.read_bytes())
    data[{"length": 1, "header": 20, "middle": len(data) // 2, "end": -1}[place]] ^= 1
    path.write_bytes(data)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is .*damaged"):
        load_checkpoint(fit, CPU)


def test_every_changed_byte_of_the_header_raises_an_error(fit):
    path = fit / "learned.safetensors"
    original = path.read_bytes()
    length = 8 + int.from_bytes(original[:8], "little")
    for position in range(length):
        if original[position : position + 1] == b" ":  # padding after the header
            continue
        data = bytearray(original)
        data[position] ^= 0x15
        path.write_bytes(data)
        with pytest.raises(AnoframeError, match=r"learned\.safetensors"):
            load_checkpoint(fit, CPU)


def test_truncated_file_raises_an_error(fit):
    path = fit / "learned.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is missing or damaged"):
        load_checkpoint(fit, CPU)


def test_file_of_another_checkpoint_raises_an_error(fit):
    shutil.copy(fit.parent / "mesh" / "learned.safetensors", fit)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is damaged or was replaced"):
        load_checkpoint(fit, CPU)


def test_additional_tensor_raises_an_error(fit):
    path = fit / "learned.safetensors"
    save_file(load_file(path) | {"more": torch.zeros(1)}, path)
    with pytest.raises(AnoframeError, match=r"learned\.safetensors is damaged or was replaced"):
        load_checkpoint(fit, CPU)


def test_pickle_raises_an_error_and_is_not_executed(fit, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (fit / "learned.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(AnoframeError, match=r"learned\.safetensors: a pickle, not safetensors"):
        load_checkpoint(fit, CPU)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("file", ["learned.safetensors", "detector.json"])
def test_error_names_a_missing_file(fit, file):
    (fit / file).unlink()
    with pytest.raises(AnoframeError, match=file):
        load_checkpoint(fit, CPU)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", f'{{"format": {FORMAT}}}'])
def test_error_names_a_damaged_description(fit, text):
    (fit / "detector.json").write_text(text)
    with pytest.raises(AnoframeError, match=r"detector\.json is damaged"):
        load_checkpoint(fit, CPU)


@pytest.mark.parametrize("number", [0, 1, 3, "2"])
def test_another_format_raises_an_error_with_folder_and_both_formats(fit, number):
    change_description(fit, format=number)
    with pytest.raises(AnoframeError) as error:
        load_checkpoint(fit, CPU)
    assert str(error.value) == (
        f"{fit} has checkpoint format {number!r}, and this version of anoframe reads format 2: fit the detector again, "
        "or open the checkpoint with the version that wrote it"
    )


def test_description_without_a_format_raises_an_error(fit):
    change_description(fit, format=None)
    with pytest.raises(AnoframeError, match=r"detector\.json is damaged: it has no key 'format'"):
        load_checkpoint(fit, CPU)


def test_other_weights_of_the_backbone_raise_an_error(fit):
    model = json.loads((fit / "detector.json").read_text())["model"]
    change_description(fit, model=model | {"backbone": model["backbone"] | {"weights": "random:1"}})
    with pytest.raises(AnoframeError, match=r"felt: trained on other weights of tf_efficientnet_lite0 \(random, "):
        load_checkpoint(fit, CPU)


def test_checkpoint_of_another_method_raises_an_error(fit):
    model = json.loads((fit / "detector.json").read_text())["model"]
    del model["squared"]
    change_description(fit, model=model | {"name": "patchcore_noising"})
    with pytest.raises(AnoframeError, match="of another method or version: bank_images, deviation, quantiles"):
        load_checkpoint(fit, CPU)


# ------------------------------------------------------------------------------------------------ finding checkpoints


@pytest.mark.parametrize("below", ["", "checkpoint"])
def test_all_checkpoints_of_a_run_are_listed(finished, below):
    folder = finished.folder / "checkpoint"
    assert list_checkpoints(finished.folder / below) == {"felt": folder / "felt", "mesh": folder / "mesh"}


def test_the_folder_of_one_checkpoint_is_listed(finished):
    fit = finished.folder / "checkpoint" / "mesh"
    assert list_checkpoints(fit) == {"mesh": fit}


def test_incomplete_checkpoint_is_not_listed(run_copy):
    (run_copy / "checkpoint" / "mesh" / "detector.json").unlink()
    assert list(list_checkpoints(run_copy)) == ["felt"]


def test_checkpoint_with_fewer_categories_than_another_is_not_listed(run_copy):
    """As for the tasks of a stream: the categories decide, not the names."""
    folder = run_copy / "checkpoint"
    for old, new in (("felt", "task_00"), ("mesh", "task_01")):
        (folder / old).rename(folder / new)
    assert list(list_checkpoints(run_copy)) == ["task_00", "task_01"]
    change_description(folder / "task_01", train_images={"felt": 6, "mesh": 6})
    assert list(list_checkpoints(run_copy)) == ["task_01"]


@pytest.mark.parametrize("name", ["", "gone", "file"])
def test_path_without_checkpoints_raises_an_error(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnoframeError, match="no checkpoint in"):
        list_checkpoints(tmp_path / name)


def test_checkpoint_of_a_category_is_found(finished):
    folder = finished.folder / "checkpoint"
    assert find_checkpoint(finished.folder, "mesh") == folder / "mesh"
    assert find_checkpoint(folder / "mesh", None) == folder / "mesh"


@pytest.mark.parametrize(
    ("category", "message"),
    [(None, "one detector per category: choose one with --cls_names, of felt, mesh"), ("mush", "did you mean 'mesh'")],
)
def test_ambiguous_or_unknown_category_raises_an_error(finished, category, message):
    with pytest.raises(AnoframeError, match=message):
        find_checkpoint(finished.folder, category)


def test_a_category_is_asked_for_unless_it_is_optional(fit):
    change_description(fit, uses_category=True, train_images={"felt": 6, "mesh": 6})
    with pytest.raises(AnoframeError, match="uses the name of the product: give it with --cls_names, of felt, mesh"):
        find_checkpoint(fit, None)
    change_description(fit, category_is_optional=True)
    assert find_checkpoint(fit, None) == fit


def test_checkpoint_of_a_category_is_selected(finished):
    checkpoints = [load_checkpoint(finished.folder / "checkpoint" / name, CPU) for name in ("felt", "mesh")]
    assert select_checkpoint(checkpoints, "mesh") is checkpoints[1]
    assert select_checkpoint(checkpoints, "tile") is None
