"""`tools/show_synthesis.py`: the contact sheet, and errors as one line with status 2."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anoframe.data.synthesis.contact_sheet import TITLE_HEIGHT, parse_settings, save_contact_sheet
from anoframe.data.synthesis.mixture import build_generator
from anoframe.errors import AnoframeError

TOOL = Path(__file__).parents[3] / "tools" / "show_synthesis.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("show_synthesis", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def show(main, tiny_root, tmp_path):
    def run(*words, output="sheet.png"):
        given = ["--data.name", "folder", "--data.root", str(tiny_root), "--size", "64", "--count", "3"]
        return main([*given, "--output", str(tmp_path / output), *words])

    return run


def test_the_sheet_has_three_rows_per_category(show, tmp_path, capsys):
    assert show("--name", "cutpaste_patch", "--set", "jitter=0.0", output="new/sheet.png") == 0
    sheet = Image.open(tmp_path / "new/sheet.png")
    assert sheet.size == (3 * 66, 2 * (TITLE_HEIGHT + 3 * 66))
    assert "felt: 3 of 3 images have an anomaly" in capsys.readouterr().out


def test_rows_are_original_edited_image_and_mask(texture_256, tmp_path):
    from anoframe.data.synthesis.base import item_rng

    result = build_generator({"name": "cutpaste_patch"}).generate(texture_256, item_rng(0, 0, 0))
    save_contact_sheet([("felt", [result])], "title", tmp_path / "x.png")
    sheet = np.asarray(Image.open(tmp_path / "x.png"))[TITLE_HEIGHT:, :256]
    assert np.array_equal(sheet[:256], texture_256)
    assert np.array_equal(sheet[258:514], result.image)
    assert np.array_equal(sheet[516:772, :, 0] > 0, result.mask)


def test_the_seed_changes_the_sheet_and_repeats_it(show, tmp_path):
    words = ["--name", "cdo", "--cls_names", "felt", "--seed"]
    contents = []
    for number, seed in enumerate(["1", "1", "2"]):
        assert show(*words, seed, output=f"{number}.png") == 0
        contents.append((tmp_path / f"{number}.png").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_the_note_about_textures_is_printed(show, capsys):
    assert show("--name", "draem", "--cls_names", "felt") == 0
    assert "note: draem: texture_root is not set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "nas"], "did you mean 'nsa'"),
        (["--name", "nsa", "--set", "labl=binary"], "did you mean 'label'"),
        (["--name", "nsa", "--set", "label"], "'label' is not NAME=VALUE"),
        (["--name", "nsa", "--set", "label=a", "label=b"], "'label=b' is given twice"),
        (["--name", "nsa", "--cls_names", "flet"], "did you mean 'felt'"),
        (["--name", "nsa", "--data.root", "nowhere"], "nowhere does not exist"),
        (["--name", "nsa", "--size", "16"], "16 x 16 pixels, but each side needs at least 32"),
        (["--name", "nsa", "--seed", "-1"], "seed of a synthetic image must be from 0"),
    ],
)
def test_errors_are_one_line_with_status_2(show, capsys, words, message):
    assert show(*words) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.startswith("error: ")
    assert "Traceback" not in captured


def test_an_output_that_cannot_be_written_is_an_error(show, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file in place of the folder")
    assert show("--name", "cdo", output="taken/x.png") == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_settings_are_literals_or_text():
    words = ["beta=[0, 0.2]", "texture_root=data/dtd", "rotate_mask=False", "retry_empty=3", "like=tile=x"]
    assert parse_settings(words) == {
        "beta": [0, 0.2],
        "texture_root": "data/dtd",
        "rotate_mask": False,
        "retry_empty": 3,
        "like": "tile=x",
    }
    with pytest.raises(AnoframeError, match="is not NAME=VALUE"):
        parse_settings(["=3"])
