"""OpenVINO files, made from an ONNX model; int8 by post-training quantisation."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anoframe.deploy.description import KEY, STEM
from anoframe.errors import AnoframeError
from anoframe.utils.files import write_atomic
from anoframe.utils.openvino_core import openvino_core

_CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")  # those with groups have types of their own
_NOT_COMPUTED = ("Parameter", "Constant", "Result")  # types of operations
_LEAST_WEIGHTS = 100_000  # values of a product's constant; smaller ones resize and smooth maps


def to_openvino(onnx_model: bytes) -> Any:
    """Read an ONNX model as an OpenVINO model.

    Raises:
        AnoframeError: the extra is not installed.
    """
    if find_spec("openvino") is None:
        raise AnoframeError("--format openvino needs the extra: pip install 'anoframe[openvino]'")
    model = openvino_core().read_model(onnx_model)
    _fold_transposes(model)
    return model


def _fold_transposes(model: Any) -> None:
    """Give products with a transposed constant the constant itself, which quantisation then recognises as weights."""
    from openvino import opset13

    for op in model.get_ordered_ops():
        transpose = op.input_value(1).get_node() if op.get_type_name() == "MatMul" else None
        if transpose is None or transpose.get_type_name() != "Transpose":
            continue
        source, order = (transpose.input_value(i).get_node() for i in range(2))
        if source.get_type_name() == order.get_type_name() == "Constant" and list(order.data) == [1, 0]:
            product = opset13.matmul(op.input_value(0), source, False, True)
            product.set_friendly_name(op.get_friendly_name())
            for target in op.output(0).get_target_inputs():
                target.replace_source_output(product.output(0))


def quantise(model: Any, images: Sequence[NDArray[np.uint8]], products: bool) -> Any:
    """Quantise the convolutions of a model to 8 bits, with ranges measured on images.

    The first convolution and depthwise ones stay in float32, because they are small and their rounding changes all
    features; so does everything that is not a convolution: NNCF would also round sums, norms and distances.

    Args:
        model: from `to_openvino`.
        images: `[H, W, 3]` each, resized and cropped.
        products: quantise products with large constant matrices too; all others stay in float32.

    Raises:
        AnoframeError: the extra is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports its use to its authors otherwise
    try:
        import nncf
    except ImportError as error:
        raise AnoframeError("--precision int8 needs the extra: pip install 'anoframe[openvino]'") from error
    nncf.set_log_level(logging.ERROR)
    operations = [op for op in model.get_ordered_ops() if op.get_type_name() not in _NOT_COMPUTED]
    rounded = [op for op in operations if _is_rounded(op, products)]
    first = next((op for op in rounded if op.get_type_name() in _CONVOLUTIONS), None)
    ignored = [op.get_friendly_name() for op in operations if op not in rounded or op is first]
    # Weights have 8 bits in all layers; 7 in the first one, NNCF's default, are for processors without VNNI, where sums
    # of the first layer overflow
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE)
    dataset = nncf.Dataset([image[None] for image in images])
    with redirect_stdout(sys.stderr):  # its progress bar
        return nncf.quantize(
            model,
            dataset,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=ignored),
            advanced_parameters=advanced,
        )


def _number_operations(model: Any) -> None:
    """Number operations without a name of their own by their place; OpenVINO counts those of a whole process."""
    for number, op in enumerate(model.get_ordered_ops()):
        if op.get_friendly_name() == op.get_name():
            op.set_friendly_name(f"{op.get_type_name()}_{number}")


def _is_rounded(op: Any, products: bool) -> bool:
    """Whether an operation is an ungrouped convolution, or, if asked for, a product with a large constant matrix."""
    if op.get_type_name() in _CONVOLUTIONS:
        return True
    if not products or op.get_type_name() != "MatMul":
        return False
    sources = [op.input_value(i) for i in range(2)]
    sizes = [int(np.prod(v.get_shape())) for v in sources if v.get_node().get_type_name() == "Constant"]
    return max(sizes, default=0) >= _LEAST_WEIGHTS


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
    _number_operations(model)
    written = []
    with TemporaryDirectory() as scratch:
        openvino.save_model(model, Path(scratch) / f"{STEM}.xml", compress_to_fp16=halve_weights)
        for suffix in (".bin", ".xml"):
            path = folder / f"{STEM}{suffix}"
            write_atomic(path, (Path(scratch) / path.name).read_bytes())
            written.append(path)
    return written
