"""A detector as one traced graph: pixels in, scores and maps out, with encoder, normalisation and detection inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.deploy.description import INPUT, MAP, SCORE
from anoframe.errors import AnoframeError
from anoframe.models.base import Detector, Features
from anoframe.utils.parallel import first_tensor

_MAX_BATCH = 1024


class ExportedDetector(nn.Module):
    """Encoder and detection in one module, for tracing.

    Args:
        detector: trained, in eval mode, on the CPU.
        size: height and width of the images, after resizing and cropping.
        category: whose texts a method with `uses_category` uses; they become constants of the graph.

    Attributes:
        products_may_be_rounded: whether products with large constant matrices may be computed in 8 bits.
        outputs: names of the outputs; a method that scores images only has no `anomaly_map`.
    """

    def __init__(self, detector: Detector, size: tuple[int, int], category: str):
        super().__init__()
        detector.prepare_detection()
        getattr(detector.backbone, "network", None)  # built now, if an engine has computed in its place
        self.backbone, self.detection = detector.backbone, detector.detection_graph(size)
        self.products_may_be_rounded = bool(getattr(self.detection, "products_may_be_rounded", False))
        self._extract_features = detector.extract_features
        features = detector.encode(torch.zeros(1, 3, *size, dtype=torch.uint8))
        self._names: dict[str, bool] | None = None
        if detector.uses_category:
            self._names = {}
            for name, value in detector.add_category(features, [category]).items():
                own = features is value or (isinstance(features, Mapping) and features.get(name) is value)
                self._names[name] = not own
                if not own:
                    self.register_buffer(f"constant_{name}", value)
        outputs = self(torch.zeros(1, *size, 3, dtype=torch.uint8))
        self.outputs = (SCORE, MAP)[: len(outputs)]

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute `score [B]` and, of a method with maps, `anomaly_map [B, H, W]` from uint8 `[B, H, W, 3]` RGB."""
        features = self._extract_features(image.permute(0, 3, 1, 2))
        prediction = self.detection(self._with_category(features))
        outputs = [prediction.score, prediction.anomaly_map]
        return tuple(values.float() for values in outputs if values is not None)

    def _with_category(self, features: Features) -> Features:
        """Add the constants of the category to features, as `Detector.add_category` does."""
        if self._names is None:
            return features
        extended: dict[str, Any] = {}
        for name, is_constant in self._names.items():
            if is_constant:
                constant = self.get_buffer(f"constant_{name}")
                extended[name] = constant.expand(first_tensor(features).shape[0], *constant.shape[1:])
            else:
                extended[name] = features if isinstance(features, Tensor) else features[name]
        return extended


def trace(module: ExportedDetector, size: tuple[int, int], method: str) -> torch.export.ExportedProgram:
    """Trace a detector for batches of any size.

    Raises:
        AnoframeError: the method does something that a graph cannot express.
    """
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes={INPUT: {0: batch}}, strict=False)
    except AnoframeError:
        raise
    except Exception as error:  # torch raises many types for what it cannot trace
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise AnoframeError(
            f"the method {method} cannot be exported, because it is no graph for a batch of any size ({reason}): use "
            "the checkpoint with --mode predict, or override `detection_graph` of the method"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    return program
