"""Export of a finished run: files, metadata, precisions, errors, and equality with `--mode predict`."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import anoframe
from anoframe import deploy
from anoframe.errors import AnoframeError
from anoframe.exporting.api import export
from anoframe.exporting.graph import ExportedDetector, trace
from anoframe.utils.openvino_core import openvino_core

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def run(train_tiny, enough_root):
    """A run with a threshold."""
    return train_tiny(["felt"], data__root=str(enough_root), threshold__held_back=0.3)


@pytest.fixture(scope="module")
def onnx_folder(run, tmp_path_factory):
    return export(run.folder, output=tmp_path_factory.mktemp("onnx")).folder


@pytest.fixture(scope="module")
def test_images(enough_root):
    return sorted((enough_root / "felt/test").rglob("*.png"))


def relative(values, expected):
    return np.abs(np.asarray(values) - np.asarray(expected)).max() / np.abs(expected).max()


def test_the_file_and_model_json_hold_the_same_description(onnx_folder, run):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_folder / "model.onnx")
    (entry,) = model.metadata_props
    assert entry.key == "anoframe"
    description = json.loads(entry.value)
    assert description == json.loads((onnx_folder / "model.json").read_text())
    assert {"resize", "crop", "keep_aspect", "interpolation", "threshold", "category", "method"} <= description.keys()
    assert description["threshold"].keys() >= {"image", "pixel"}
    assert description["method"] == "patchcore"
    checkpoint = json.loads((run.folder / "checkpoint/felt/detector.json").read_text())
    assert description["learned_sha256"] == checkpoint["learned_sha256"]
    assert description["backbone"] == checkpoint["backbone"]
    assert description["notes"]  # random weights are named


def test_the_model_has_the_documented_inputs_and_outputs(onnx_folder):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(onnx_folder / "model.onnx")
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(uint8)", [64, 64, 3])
    assert isinstance(image.shape[0], str)  # any batch size
    assert [output.name for output in session.get_outputs()] == ["score", "anomaly_map"]


def test_the_file_has_no_paths_of_this_machine(onnx_folder):
    data = (onnx_folder / "model.onnx").read_bytes()
    assert anoframe.__file__.rpartition("/")[0].encode() not in data
    assert b"site-packages" not in data


def test_the_same_checkpoint_gives_the_same_bytes(onnx_folder, run, tmp_path):
    again = export(run.folder, output=tmp_path / "again").folder
    for name in ("model.onnx", "model.json"):
        assert (again / name).read_bytes() == (onnx_folder / name).read_bytes()


def test_scores_and_maps_equal_those_of_the_run(onnx_folder, run, test_images):
    pytest.importorskip("onnxruntime")
    model = deploy.load(onnx_folder)
    for path in test_images:
        result, expected = model.predict(path), run.predict(path)
        assert result.score == pytest.approx(float(expected.score), rel=1e-4)
        assert relative(result.anomaly_map, expected.anomaly_map.numpy()) < 1e-3


def test_lines_equal_those_of_predict(onnx_folder, run, enough_root, tmp_path):
    pytest.importorskip("onnxruntime")
    source = tmp_path / "parts"
    (source / "sub").mkdir(parents=True)
    for number, path in enumerate(sorted((enough_root / "felt/test").rglob("*.png"))):
        Image.open(path).save(source / ("sub" if number % 2 else ".") / f"{number}.png")
    (source / "broken.png").write_bytes(b"no image")
    anoframe.predict(run.folder, source, tmp_path / "predicted", maps="none", overlays=False, device="cpu")
    expected = [json.loads(line) for line in (tmp_path / "predicted/scores.jsonl").read_text().splitlines()]
    bad = deploy.load(onnx_folder).write_scores(source, tmp_path / "scores.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    expected.sort(key=lambda line: line["file"])  # it writes images that cannot be read first in their batch
    assert bad == 1
    assert [list(line) for line in lines] == [list(line) for line in expected]
    for line, other in zip(lines, expected, strict=True):
        assert line.pop("score", 0) == pytest.approx(other.pop("score", 0), rel=1e-4)
        peaks = [[region.pop("peak") for region in each.get("regions", ())] for each in (line, other)]
        assert peaks[0] == pytest.approx(peaks[1], rel=1e-4)
        assert line == other


def test_half_precision_halves_the_file_and_hardly_changes_scores(onnx_folder, run, test_images, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = export(run.folder, precision="fp16", output=tmp_path / "half").folder
    sizes = [(path / "model.onnx").stat().st_size for path in (folder, onnx_folder)]
    assert sizes[0] < 0.6 * sizes[1]
    full, half = (deploy.load(path).predict(test_images[0]) for path in (onnx_folder, folder))
    assert half.score != full.score
    assert half.score == pytest.approx(full.score, rel=0.02)


def test_torch_format_runs_without_anoframe(run, test_images, tmp_path):
    import torch

    folder = export(run.folder, "torch", output=tmp_path / "torch").folder
    extra = {"anoframe": ""}
    program = torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["anoframe"]) == json.loads((folder / "model.json").read_text())
    pixels = np.array(Image.open(test_images[0]))
    score, _ = program.module()(torch.from_numpy(pixels)[None])
    assert float(score) == pytest.approx(float(run.predict(pixels).score), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_openvino_gives_the_scores_of_torch_and_the_same_bytes(run, test_images, precision, tmp_path):
    pytest.importorskip("openvino")
    folder = export(run.folder, "openvino", precision, tmp_path / "one").folder
    result, expected = deploy.load(folder).predict(test_images[0]), run.predict(test_images[0])
    assert result.score == pytest.approx(float(expected.score), rel=1e-4 if precision == "fp32" else 0.02)
    again = export(run.folder, "openvino", precision, tmp_path / "two").folder
    for name in ("model.bin", "model.xml"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def rounded_operations(folder):
    """Types of the operations that get inputs in 8 bits."""
    operations = openvino_core().read_model(folder / "model.xml").get_ordered_ops()
    quantisers = [op for op in operations if op.get_type_name() == "FakeQuantize"]
    return {target.get_node().get_type_name() for op in quantisers for target in op.output(0).get_target_inputs()}


@pytest.mark.slow
def test_int8_is_calibrated_with_the_training_images(run, test_images, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    folder = export(run.folder, "openvino", "int8", tmp_path / "int8").folder
    assert rounded_operations(folder) == {"Convolution"}
    model = deploy.load(folder)
    assert model.description.details["precision"] == "int8"
    assert model.description.details["versions"].keys() >= {"openvino", "nncf"}
    assert np.isfinite(model.predict(test_images[0]).score)  # with random weights, rounding changes much


# ------------------------------------------------------------------------------------------------ errors and options


def test_an_earlier_model_is_kept_unless_overwritten(onnx_folder, run):
    with pytest.raises(AnoframeError, match="has an exported model: choose another --output, or --overwrite"):
        export(run.folder, output=onnx_folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onxx"}, "unknown format 'onxx': did you mean 'onnx'"),
        (
            {"precision": "int8"},
            "--format onnx has no precision 'int8': --format openvino, or --precision fp32 or fp16",
        ),
        ({"format": "torch", "precision": "fp16"}, "--format torch has no precision 'fp16'"),
        ({"category": "mesh"}, "has no detector for category 'mesh'"),
    ],
)
def test_wrong_choices_are_errors_that_say_what_is_allowed(run, tmp_path, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        export(run.folder, output=tmp_path / "model", **arguments)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("format", "package"), [("onnx", "onnxscript"), ("openvino", "openvino")], ids=["onnx", "openvino"]
)
def test_a_missing_package_is_an_error_that_names_its_extra(run, tmp_path, monkeypatch, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AnoframeError, match=rf"pip install 'anoframe\[{format}\]'"):
        export(run.folder, format, output=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_with_a_threshold_per_category_asks_for_one(finished, tmp_path):
    with pytest.raises(AnoframeError, match=r"one detector per category: choose one with --cls_names, of felt, mesh"):
        export(finished.folder, output=tmp_path / "model")


def test_a_method_that_is_no_graph_is_an_error_that_names_it():
    import torch
    from graph_detectors import SIZE, build_fitted

    detector = build_fitted("rd4ad")
    original = detector.compute_prediction

    def depends_on_values(features, size):
        return original(features, size) if float(features[0].sum()) > 0 else original(features[::-1], size)

    detector.compute_prediction = depends_on_values
    module = ExportedDetector(detector, SIZE, "bottle")
    with (
        torch.no_grad(),
        pytest.raises(AnoframeError, match="the method odd cannot be exported, because it is no graph"),
    ):
        trace(module, SIZE, "odd")


def test_the_command_line_exports_and_lists_the_files(run, cli, tmp_path):
    done = cli("--mode", "export", "--checkpoint", run.folder, "--output", tmp_path / "model")
    assert done.status == 0
    assert "model.onnx" in done.out
    assert "note: the backbone weights are random" in done.out
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.onnx"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "export"], "--checkpoint is needed here"),
        (["--mode", "export", "--checkpoint", "x", "--trainer.epochs", "3"], "takes no --trainer.epochs"),
        (["--mode", "export", "--checkpoint", "x", "--resume"], "--resume goes with --mode train or test"),
        (["--mode", "export", "--checkpoint", "x", "--cls_names", "a", "b"], "uses one detector"),
        (["--mode", "test", "--checkpoint", "x", "--format", "onnx"], "--format goes with --mode export"),
    ],
)
def test_options_that_have_no_effect_are_errors(cli, words, message):
    done = cli(*words)
    assert done.status == 2
    assert message in done.err
