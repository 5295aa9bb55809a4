"""The graph of every method gives the prediction of the method, before it is traced."""

import pytest
import torch
from graph_detectors import SIZE, build_fitted, images_of_size

from anoframe.exporting.graph import ExportedDetector
from anoframe.registry import MODELS

OPTIONS = {
    "patchcore": [
        {"image_score": "reweight"},
        {"neighbours": 3, "squared": True},
        {"neighbours": 2, "image_score": "reweight", "embedding": {"method": "concat"}, "sigma": 0.0},
        {"image_score": "reweight", "reweight_neighbours": 1},
    ],
    "patchcore_noising": [
        {"neighbours": 2, "image_score": "reweight"},
        {"lambda_noise": 0.0, "lambda_influence": 0.0},
        {"noise": {"candidates": 9, "amplitude": "reversed", "samples": 2}, "lambda_influence": 0.0},
        {"student": {"enable": True, "levels": (1, 2)}},
    ],
    "padim": [{"num_channels": 5}, {"num_channels": 1}],
    "rd4ad": [{"combine": "product"}, {"sigma": 0.0}],
    "sema_uniad": [{"sema": {"routing": "reconstruction"}}],
    "winclip": [{"use_references": True}],
    "uniad": [{"memory": {"kind": "prototype"}}, {"memory": {"kind": "series", "topk": 3}, "image_score": "std"}],
}
CASES = [(name, {}) for name in MODELS.names()] + [(name, option) for name in OPTIONS for option in OPTIONS[name]]


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{list(option)}" for name, option in CASES])
def test_the_graph_of_a_method_equals_its_prediction_for_images_that_are_not_square(name, options):
    size = SIZE if name in ("raml", "winclip", "winclip_fast", "clip_single_prompt") else (32, 48)
    detector = build_fitted(name, size, **options)
    images = images_of_size(1, 3, size)
    outputs = ExportedDetector(detector, size, "bottle").eval()(images.permute(0, 2, 3, 1))
    expected = detector.predict(images, ["bottle"] * 3)
    torch.testing.assert_close(outputs[0], expected.score, rtol=1e-5, atol=1e-6)
    if expected.anomaly_map is None:
        assert len(outputs) == 1
    else:
        torch.testing.assert_close(outputs[1], expected.anomaly_map, rtol=1e-4, atol=1e-5)
