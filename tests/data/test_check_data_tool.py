"""`tools/check_data.py`: the picture is an extra, and its failure changes neither the report nor the status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_data.py"


def check(root, picture, folder):
    words = ["--data.name", "folder", "--data.root", str(root), "--picture", str(picture)]
    return subprocess.run([sys.executable, str(TOOL), *words], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("picture", ["taken/x.png", ".", "a" * 300 + ".png"])
def test_a_picture_that_cannot_be_written_is_a_warning(tiny_root, tmp_path, picture):
    (tmp_path / "taken").write_text("a file in place of the folder")
    done = check(tiny_root, picture, tmp_path)
    assert done.returncode == 0
    assert "0 problems" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: the picture could not be written: ")
    assert line.endswith("; choose another --picture")


def test_the_picture_is_written(tiny_root, tmp_path):
    done = check(tiny_root, "new/x.png", tmp_path)
    assert (done.returncode, done.stderr, (tmp_path / "new/x.png").is_file()) == (0, "", True)
