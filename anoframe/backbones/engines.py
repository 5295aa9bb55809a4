"""Engines that run a frozen network on a CPU faster than torch: ONNX Runtime and OpenVINO.

The network is exported to ONNX once per image size and kept on disk by the hash of its weights. Each image is computed
alone and in one thread, so its features do not depend on its batch or on the number of threads, to the bit. They differ
from torch's by rounding: another engine or version is another encoding of the cache and of the provenance.
"""

from __future__ import annotations

import importlib.metadata
import io
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anoframe.errors import AnoframeError, suggest
from anoframe.utils.openvino_core import openvino_core
from anoframe.utils.tensor_cache import ENGINE_CACHE, TensorCache, cache_key, cache_root

ENGINES = ("torch", "onnxruntime", "openvino")
_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}  # of the project, which install what an engine needs
_FORMAT = 1  # of the kept graphs: raise it if the export changes
_OPSET = 17
_MAX_BYTES = 4 * 10**9  # of all kept graphs; one of EfficientNet-Lite0 has 13 MB, of WideResNet-50-2 260 MB


def check_engine(engine: str) -> None:
    """Check that an engine is known and installed.

    Raises:
        AnoframeError: it is not; names the extra.
    """
    if engine not in ENGINES:
        raise AnoframeError(f"model.backbone.engine: {suggest(engine, ENGINES)}, got {engine!r}")
    if engine == "torch":
        return
    for package in ("onnx", engine):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise AnoframeError(
                f"model.backbone.engine {engine} needs the package {package}: pip install "
                f"'anoframe[{_EXTRAS[engine]}]'; or "
                "--model.backbone.engine torch, whose features differ by rounding"
            ) from error


def engine_version(engine: str) -> str:
    """Return the version that features of an engine depend on."""
    return importlib.metadata.version(engine)


class EngineNetwork:
    """A frozen network in another engine: normalised float32 images in, a list of feature maps out.

    Threads may share it. The graph of an image size is made, or read from disk, when the first such image arrives.

    Args:
        engine: `"onnxruntime"` or `"openvino"`.
        network: returns the network, in eval mode, on the CPU; it maps `[B, 3, H, W]` to a list of maps. Called only
            if no graph of it is kept.
        identity: JSON types that determine the network besides the image size: architecture, levels, hash of weights.
    """

    def __init__(self, engine: str, network: Callable[[], nn.Module], identity: Sequence[Any]):
        check_engine(engine)
        self.engine = engine
        self._network, self._identity = network, list(identity)
        self._sessions: dict[tuple[int, int], _Session] = {}
        self._lock = threading.Lock()

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Compute the maps of `[B, 3, H, W]`, on the CPU, one image at a time.

        Raises:
            AnoframeError: the network cannot be exported.
        """
        session = self._session((pixels.shape[-2], pixels.shape[-1]))
        images = [session.run(image[None]) for image in pixels.float().contiguous().numpy()]
        return [torch.from_numpy(np.concatenate(maps)) for maps in zip(*images, strict=True)]

    def _session(self, size: tuple[int, int]) -> _Session:
        with self._lock:
            if size not in self._sessions:
                self._sessions[size] = _SESSIONS[self.engine](self._graph(size))
            return self._sessions[size]

    def _graph(self, size: tuple[int, int]) -> bytes:
        """Return the ONNX graph for an image size, from disk if it was exported before."""
        version = importlib.metadata.version("onnx")
        key = cache_key("graph", _FORMAT, self._identity, size, torch.__version__, version)
        cache = TensorCache(cache_root() / ENGINE_CACHE, _MAX_BYTES)
        if kept := cache.read(key):
            return kept["graph"].numpy().tobytes()
        graph = export_graph(self._network(), size)
        cache.write(key, {"graph": torch.frombuffer(bytearray(graph), dtype=torch.uint8)})
        return graph


def export_graph(network: nn.Module, size: tuple[int, int]) -> bytes:
    """Export a network to ONNX for one image of a size, height and width in pixels.

    Raises:
        AnoframeError: the network has an operation that ONNX lacks.
    """
    buffer = io.BytesIO()
    file: Any = buffer  # the exporter accepts it with dynamo=False, its annotation does not
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # about the exporter by tracing, which needs a tenth of the time of the newer one
            warnings.simplefilter("ignore")
            example = (torch.zeros(1, 3, *size),)
            torch.onnx.export(_Tuple(network), example, file, input_names=["image"], opset_version=_OPSET, dynamo=False)
    except Exception as error:  # whatever the exporter raises, the way out is the same
        raise AnoframeError(
            f"this network cannot be exported for another engine ({type(error).__name__}: {error}): "
            "--model.backbone.engine torch"
        ) from error
    return buffer.getvalue()


class _Tuple(nn.Module):
    """A network whose maps are a tuple, as the exporter wants."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(image))


class _Session(ABC):
    """A graph that is ready to run in one thread."""

    @abstractmethod
    def __init__(self, graph: bytes):
        """Compile a graph."""

    @abstractmethod
    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Compute the maps of one image `[1, 3, H, W]`; they are the caller's."""


class _OnnxRuntime(_Session):
    def __init__(self, graph: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(self._session.run(None, {"image": image}))


class _OpenVino(_Session):
    def __init__(self, graph: bytes):
        core = openvino_core()
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", settings)
        self._requests = threading.local()  # a request computes one image at a time

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        results = self._requests.own.infer([image])
        return [results[output].copy() for output in self._model.outputs]


_SESSIONS: dict[str, type[_Session]] = {"onnxruntime": _OnnxRuntime, "openvino": _OpenVino}
