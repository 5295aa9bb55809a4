"""Runtimes of exported models: ONNX Runtime and OpenVINO, each imported when a model of its kind is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anoframe.deploy.description import INPUT, KEY
from anoframe.errors import AnoframeError
from anoframe.utils.openvino_core import openvino_core

SUFFIXES = {".onnx": "onnxruntime", ".xml": "openvino"}


class Runtime(ABC):
    """A loaded model.

    Attributes:
        metadata: JSON text of its description; empty if the file has none.
    """

    metadata: str

    @abstractmethod
    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the outputs, in the order of the model, for images `[B, H, W, 3]`."""


class OnnxRuntime(Runtime):
    """Model in `model.onnx`.

    Args:
        path: of the file.
        threads: number of threads; 0 leaves it to the runtime.
        device: execution provider of ONNX Runtime without `ExecutionProvider`, for example `"CPU"` or `"CUDA"`.
    """

    def __init__(self, path: Path, threads: int, device: str):
        try:
            import onnxruntime
        except ImportError as error:
            raise AnoframeError(f"{path} needs ONNX Runtime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        provider = f"{device}ExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
            raise AnoframeError(f"ONNX Runtime here has no device {device!r}: choose one of {', '.join(names)}")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # the runtime has its own types
            raise AnoframeError(f"{path} cannot be loaded ({_first_line(error)}): export it again") from error
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(KEY, "")

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs: Sequence[Any] = self._session.run(None, {INPUT: images})
        return list(outputs)


class OpenVino(Runtime):
    """Model in `model.xml` and `model.bin`; it computes in float32 unless it was quantised.

    Args:
        path: of the XML file.
        threads: number of threads; 0 leaves it to the runtime.
        device: of OpenVINO, for example `"CPU"` or `"GPU"`.
    """

    def __init__(self, path: Path, threads: int, device: str):
        if find_spec("openvino") is None:
            raise AnoframeError(f"{path} needs OpenVINO: pip install openvino")
        # Without the hint, processors with bfloat16 instructions would compute in bfloat16
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads and device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._core = openvino_core()
            model = self._core.read_model(path)
            self._model, self._settings, self._device = model.clone(), settings, device
            height, width, channels = (int(side.get_length()) for side in list(model.input(0).partial_shape)[1:])
            model.reshape([1, height, width, channels])
            self._single = self._core.compile_model(model, device, settings)
        except Exception as error:  # the runtime has its own types
            raise AnoframeError(f"{path} cannot be loaded ({_first_line(error)}): export it again") from error
        self.metadata = str(model.get_rt_info(KEY).astype(str)) if model.has_rt_info(KEY) else ""
        self._num_outputs = len(model.outputs)

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        compiled = self._single if len(images) == 1 else self._batched
        outputs = compiled([np.ascontiguousarray(images)])
        return [outputs[i] for i in range(self._num_outputs)]

    @cached_property
    def _batched(self) -> Any:
        """The model for any batch size: one size alone is faster."""
        return self._core.compile_model(self._model, self._device, self._settings)


def open_runtime(path: Path, threads: int = 0, device: str = "CPU") -> Runtime:
    """Open a model file with the runtime of its suffix.

    Raises:
        AnoframeError: another kind of file, the runtime is not installed, or the file is damaged.
    """
    if path.suffix not in SUFFIXES:
        raise AnoframeError(f"{path}: a model is a file {' or '.join(SUFFIXES)}, or a folder that has one")
    return (OnnxRuntime if path.suffix == ".onnx" else OpenVino)(path, threads, device)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
