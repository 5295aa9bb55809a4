"""Exported models of every method equal torch, for batches of 1 and 3."""

import numpy as np
import pytest
import torch
from graph_detectors import SIZE, build_fitted, images_of_size
from tiny_clip import register_tiny_models

from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import is_defect
from anoframe.exporting import onnx_model, openvino_model
from anoframe.exporting.graph import ExportedDetector, trace
from anoframe.registry import MODELS
from anoframe.utils.openvino_core import openvino_core

pytestmark = pytest.mark.slow
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

NO_GRAPH = ("class_incremental",)  # its number of classes and adapters depends on the tasks it has learned
CASES = [
    *((name, {}) for name in MODELS.names() if name not in NO_GRAPH),
    ("patchcore", {"neighbours": 2, "image_score": "reweight"}),
    ("sema_uniad", {"sema": {"routing": "reconstruction"}}),
    ("winclip", {"use_references": True}),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def exported(request):
    """Detector, and its ONNX model."""
    name, options = request.param
    detector = build_fitted(name, **options)
    return detector, *_convert(detector, name)


@pytest.mark.parametrize("name", NO_GRAPH)
def test_a_method_that_is_no_graph_says_so(name):
    with pytest.raises(AnoframeError, match=f"{name} cannot be exported.*--mode predict"):
        _convert(build_fitted(name), name)


def _convert(detector, name, size=SIZE):
    module = ExportedDetector(detector.requires_grad_(False), size, "bottle").eval()
    program = trace(module, size, name)
    model = onnx_model.to_onnx(program, module.outputs)
    return program, onnx_model.serialise(model, "{}"), module.outputs


def check(detector, run, size=SIZE):
    images = images_of_size(7, 3, size)
    expected = detector.predict(images, ["bottle"] * 3)
    limit = float(expected.score.sort().values[1]) * (1 - 1e-6)
    for count in (1, 3):
        score, *maps = run(images[:count].permute(0, 2, 3, 1).contiguous().numpy())
        torch.testing.assert_close(torch.as_tensor(score), expected.score[:count], rtol=1e-4, atol=0)
        decisions = is_defect(score, limit * (1 - 1e-5))
        assert np.array_equal(decisions, is_defect(expected.score[:count].numpy(), limit * (1 - 1e-5)))
        assert bool(maps) == (expected.anomaly_map is not None)
        for values in maps:
            torch.testing.assert_close(torch.as_tensor(values), expected.anomaly_map[:count], rtol=0, atol=1e-3)


def run_onnx(data):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})


def run_openvino(data):
    pytest.importorskip("openvino")
    model = openvino_model.to_openvino(data)
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: [compiled([images])[i].copy() for i in range(len(model.outputs))]


def test_onnx_equals_torch(exported):
    detector, _, data, _ = exported
    check(detector, run_onnx(data))


def test_openvino_equals_torch(exported):
    detector, _, data, _ = exported
    check(detector, run_openvino(data))


def test_torch_export_equals_torch(exported):
    detector, program, _, _ = exported
    module = program.module()
    check(detector, lambda images: module(torch.from_numpy(images)))


def test_a_clip_model_of_open_clip_is_exported_with_its_windows(tmp_path):
    from anoframe.backbones import build_backbone

    register_tiny_models(tmp_path)
    backbone = build_backbone({"name": "open_clip:tiny", "weights": "random"})
    detector = build_fitted("winclip", backbone=backbone)
    check(detector, run_onnx(_convert(detector, "winclip")[1]))
