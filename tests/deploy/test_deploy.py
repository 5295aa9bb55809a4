"""Use of exported models without torch: loading, pixels, decisions, errors."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from anoframe import deploy
from anoframe.data.loader import load_image
from anoframe.data.preprocessing import Preprocessing
from anoframe.deploy.description import Description, parse_description
from anoframe.deploy.images import load_pixels
from anoframe.deploy.runtimes import Runtime
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import Threshold

SETTINGS = Preprocessing(24, 16, keep_aspect=True)
LIMITS = Threshold(image=100.0, pixel=120.0, false_positive_rate=0.01, images=9)


class MeanRuntime(Runtime):
    """The score is the mean of an image; the map is its first channel."""

    metadata = ""

    def __call__(self, images):
        return [images.mean((1, 2, 3), dtype=np.float32), images[..., 0].astype(np.float32)]


def model(threshold=LIMITS):
    description = Description(SETTINGS, threshold, "bottle", ("score", "anomaly_map"), {"method": "mean"})
    return deploy.Model(MeanRuntime(), description)


@pytest.mark.parametrize(
    "preprocessing",
    [
        SETTINGS,
        Preprocessing(24, 24, keep_aspect=False),
        Preprocessing(24, 16, interpolation="bicubic"),
        Preprocessing(16, 16, jpeg_draft=True),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pixels_equal_those_of_training_to_the_bit(tmp_path, preprocessing, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 61, 3), np.uint8)
    path = tmp_path / f"part.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.fromarray(pixels).save(path, exif=exif)
    for image in (path, str(path), Image.open(path), pixels, pixels[..., 0]):
        expected = load_image(image, preprocessing).permute(1, 2, 0).numpy()
        assert np.array_equal(load_pixels(image, preprocessing), expected)


def test_a_decision_includes_the_threshold_itself():
    pixels = np.full((3, 16, 16, 3), 100, np.uint8)
    pixels[1] = 99
    pixels[2, 0, 0] = 120
    results = model().predict_pixels(pixels)
    assert [result.is_defect for result in results] == [True, False, True]
    assert [int(result.defect_pixels.sum()) for result in results] == [0, 0, 1]


def test_without_a_threshold_there_is_no_decision():
    (result,) = model(None).predict_pixels(np.zeros((1, 16, 16, 3), np.uint8))
    assert (result.is_defect, result.defect_pixels) == (None, None)


@pytest.mark.parametrize("shape", [(1, 17, 16, 3), (16, 16, 3), (1, 3, 16, 16)])
def test_pixels_of_another_size_are_an_error_that_names_the_size(shape):
    with pytest.raises(AnoframeError, match=r"takes uint8 \[B, 16, 16, 3\]"):
        model().predict_pixels(np.zeros(shape, np.uint8))


def test_a_prediction_that_is_not_finite_is_an_error_of_its_image(tmp_path, monkeypatch):
    monkeypatch.setattr(MeanRuntime, "__call__", lambda self, images: [np.array([np.nan], np.float32)])
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (entry,) = model().predict_folder(tmp_path)
    assert entry == {"file": "a.png", "error": "the prediction is not finite; check that image"}


def test_a_folder_gives_a_line_per_image_with_its_path(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, value in (("b.png", 10), ("sub/a.png", 200)):
        Image.new("RGB", (30, 30), (value,) * 3).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    lines = list(model().predict_folder(tmp_path))
    assert [line["file"] for line in lines] == ["b.png", "bad.png", "sub/a.png"]
    assert lines[0].items() >= {"file": "b.png", "score": 10.0, "defect": False, "threshold": 100.0}.items()
    assert (lines[0]["width"], lines[0]["regions"]) == (30, [])
    assert lines[2]["defect"] is True
    assert len(lines[2]["regions"]) == 1
    assert "zero bytes" in lines[1]["error"]


def test_one_file_is_a_line_with_its_name(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    assert [line["file"] for line in model().predict_folder(tmp_path / "a.png")] == ["a.png"]


# ------------------------------------------------------------------------------------------------ description


def test_a_description_survives_its_json():
    description = model().description
    again = parse_description(description.to_json(), "test")
    assert (again.preprocessing, again.threshold, again.category) == (SETTINGS, LIMITS, "bottle")
    assert again.outputs == ("score", "anomaly_map")
    assert again.details == {"method": "mean"}
    assert again.size == (16, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 99}', "has format 99, and this version of anoframe reads 1: export it again"),
        (
            '{"format": 1, "resize": 8, "crop": 9, "threshold": null, "category": "a", "outputs": []}',
            "crop 9 is larger",
        ),
    ],
)
def test_a_damaged_description_is_an_error_with_its_place(text, message):
    with pytest.raises(AnoframeError, match=f"model.json.*{message}"):
        parse_description(text, "model.json")


# ------------------------------------------------------------------------------------------------ loading


def test_importing_loads_no_torch_and_takes_less_than_a_second_of_the_processor():
    script = (
        "import sys, time; import anoframe.deploy; "
        "print(time.process_time(), *[m for m in ('torch', 'onnxruntime', 'openvino', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, *heavy = done.stdout.split()
    assert heavy == []
    assert float(seconds) < 1


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match=r"no model: model\.onnx, model\.xml"):
        deploy.load(tmp_path)


def test_a_folder_with_two_models_asks_for_one(tmp_path):
    for name in ("model.onnx", "model.xml"):
        (tmp_path / name).touch()
    with pytest.raises(AnoframeError, match="several models, choose one"):
        deploy.load(tmp_path)


def test_another_file_is_an_error(tmp_path):
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(AnoframeError, match=r"a model is a file \.onnx or \.xml"):
        deploy.load(path)


@pytest.mark.parametrize(("name", "package"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino")])
def test_damaged_files_and_missing_runtimes_are_errors(tmp_path, name, package, monkeypatch):
    pytest.importorskip(package)
    path = tmp_path / name
    path.write_text("damaged")
    with pytest.raises(AnoframeError, match="cannot be loaded"):
        deploy.load(path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AnoframeError, match=f"pip install {package}"):
        deploy.load(path)


def test_an_unknown_device_lists_those_that_there_are(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(AnoframeError, match=r"no device 'TPU': choose one of .*CPU"):
        deploy.load(tmp_path, device="TPU")


def test_the_command_line_prints_lines_and_returns_1_for_a_bad_image(tmp_path, monkeypatch, capsys):
    from anoframe.deploy import __main__

    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    monkeypatch.setattr(__main__, "load", lambda *arguments: model())
    monkeypatch.setattr(sys, "argv", ["deploy", "model", str(tmp_path)])
    assert __main__.main() == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["a.png", "b.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="programs that end send no signal")
def test_a_signal_can_be_handled_after_openvino_models_are_gone(tmp_path):
    pytest.importorskip("openvino")
    script = """
import gc, signal, subprocess, sys
from pathlib import Path
import numpy as np, openvino
from openvino import opset13 as operations
from anoframe.deploy.runtimes import OpenVino

path = Path(sys.argv[1])
image = operations.parameter([-1, 4, 4, 3], np.uint8, name="image")
openvino.save_model(openvino.Model([operations.convert(image, "f32")], [image]), path)
models = [OpenVino(path, 1, "CPU"), OpenVino(path, 1, "CPU")]
while models:
    del models[0]
    gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
subprocess.run([sys.executable, "-c", ""])
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model.xml"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
