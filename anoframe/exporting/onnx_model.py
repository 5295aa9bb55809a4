"""ONNX files: conversion of a traced graph, weights in half precision, metadata."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch

from anoframe.deploy.description import INPUT, KEY
from anoframe.errors import AnoframeError

OPSET = 18  # of 2022: read by ONNX Runtime 1.14 and later
_MAX_BYTES = 2**31 - 2**20  # of a protobuf message
_LEAST_HALVED = 256  # values; smaller tensors stay float32
_HALF = "_half"  # suffix of a tensor in half precision


def to_onnx(program: torch.export.ExportedProgram, outputs: Sequence[str]) -> Any:
    """Convert a traced detector to an ONNX model without the names of source files.

    Raises:
        AnoframeError: the extra is not installed, or the weights are larger than an ONNX file can be.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise AnoframeError(
            f"this format needs the package {error.name}: pip install 'anoframe[onnx]' (or 'anoframe[openvino]')"
        ) from error
    _check_size(program)
    with _quiet():
        converted = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=list(outputs), opset_version=OPSET, verbose=False
        )
    assert converted is not None
    model = converted.model_proto
    _strip(model)
    return model


def _check_size(program: torch.export.ExportedProgram) -> None:
    tensors = [*program.state_dict.values(), *program.constants.values()]
    size = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
    if size > _MAX_BYTES:
        raise AnoframeError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file holds 2 GB (OpenVINO's is made from one): "
            "--format torch, or train with fewer values (a smaller bank, fewer channels)"
        )


def _strip(model: Any) -> None:
    """Remove what is not needed to compute: stack traces with paths, and descriptions of shapes."""
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for values in (model.graph.input, model.graph.output, model.graph.value_info, model.graph.initializer):
        for value in values:
            del value.metadata_props[:]
            value.ClearField("doc_string")
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]


def halve_weights(model: Any) -> None:
    """Store large float32 tensors in half precision, with a cast to float32 behind each; computing stays float32.

    A tensor with values beyond the range of half precision stays as it is.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < _LEAST_HALVED or not np.isfinite(half).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def serialise(model: Any, description: str) -> bytes:
    """Return the bytes of a model file with its description; equal for equal models."""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, description
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress lines and warnings of the converter about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as sink, redirect_stdout(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
