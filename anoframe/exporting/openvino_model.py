"""OpenVINO files, made from an ONNX model; int8 by post-training quantisation."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anoframe.deploy.description import KEY, STEM
from anoframe.errors import AnoframeError
from anoframe.utils.files import write_atomic

# Differences of large numbers, as in distances to a bank, lose everything in 8 bits
_KEPT_TYPES = ["MatMul"]


def to_openvino(onnx_model: bytes) -> Any:
    """Read an ONNX model as an OpenVINO model.

    Raises:
        AnoframeError: the extra is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise AnoframeError("--format openvino needs the extra: pip install 'anoframe[openvino]'") from error
    return openvino.Core().read_model(onnx_model)


def quantise(model: Any, images: Sequence[NDArray[np.uint8]]) -> Any:
    """Quantise the convolutions of a model to 8 bits, with ranges measured on images; matrix products stay float32.

    Args:
        model: from `to_openvino`.
        images: `[H, W, 3]` each, resized and cropped.

    Raises:
        AnoframeError: the extra is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports its use to its authors otherwise
    try:
        import nncf
    except ImportError as error:
        raise AnoframeError("--precision int8 needs the extra: pip install 'anoframe[openvino]'") from error
    nncf.set_log_level(logging.ERROR)
    ignored = nncf.IgnoredScope(types=_KEPT_TYPES, validate=False)
    dataset = nncf.Dataset([image[None] for image in images])
    return nncf.quantize(model, dataset, subset_size=len(images), ignored_scope=ignored)


def save(model: Any, folder: Path, description: str, halve_weights: bool) -> list[Path]:
    """Write `model.bin` and `model.xml`, the latter last.

    Args:
        model: from `to_openvino` or `quantise`.
        folder: of the files.
        description: JSON for the metadata.
        halve_weights: store weights as float16; computing stays float32.
    """
    import openvino

    model.set_rt_info(description, KEY)
    written = []
    with TemporaryDirectory() as scratch:
        openvino.save_model(model, Path(scratch) / f"{STEM}.xml", compress_to_fp16=halve_weights)
        for suffix in (".bin", ".xml"):
            path = folder / f"{STEM}{suffix}"
            write_atomic(path, (Path(scratch) / path.name).read_bytes())
            written.append(path)
    return written
