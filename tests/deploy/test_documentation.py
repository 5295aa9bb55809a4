"""The script in docs/deploy.md is complete and gives the decisions of `--mode predict`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


def script():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return code


def test_the_script_imports_nothing_but_onnxruntime_numpy_and_pillow():
    packages = set(re.findall(r"^(?:import|from) (\w+)", script(), re.MULTILINE))
    assert packages - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_the_script_scores_as_the_run_does(train_tiny, enough_root, tmp_path, keep_aspect):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from PIL import Image

    from anoframe import deploy, export

    options = {"data__resize": 72, "data__crop": 64, "data__keep_aspect": keep_aspect, "threshold__held_back": 0.3}
    run = train_tiny(["felt"], data__root=str(enough_root), **options)
    folder = export(run.folder, output=tmp_path / "model").folder
    (tmp_path / "score.py").write_text(script(), encoding="utf-8")
    files = []
    for number, path in enumerate(sorted((enough_root / "felt/test").rglob("*.png"))[::3]):
        files.append(str(tmp_path / f"{number}.png"))
        exif = Image.Exif()
        exif[0x0112] = 6 if number else 1  # turned
        Image.open(path).resize((150, 90)).save(files[-1], exif=exif)
    command = [sys.executable, str(tmp_path / "score.py"), str(folder / "model.onnx"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    model = deploy.load(folder)
    for line, path in zip(map(json.loads, done.stdout.splitlines()), files, strict=True):
        result, expected = model.predict(path), run.predict(path)
        assert line["score"] == pytest.approx(float(expected.score), rel=1e-4)
        assert (line["file"], line["defect"]) == (path, result.is_defect)
        assert line["defect_pixels"] == int(result.defect_pixels.sum())
