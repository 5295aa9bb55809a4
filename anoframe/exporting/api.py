"""Export of a trained detector to one self-contained model, see docs/deploy.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import anoframe
from anoframe.deploy.description import JSON_FILE, Description
from anoframe.errors import AnoframeError, suggest
from anoframe.exporting import onnx_model, openvino_model, torch_model
from anoframe.exporting.calibration import calibration_images
from anoframe.exporting.graph import ExportedDetector, trace
from anoframe.runs.disclosure import list_notes
from anoframe.runs.thresholds import Asked, threshold_options, with_thresholds
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.utils.files import read_json, write_atomic, write_error
from anoframe.utils.paths import expand_path

FORMATS = {"onnx": ("fp32", "fp16"), "openvino": ("fp32", "fp16", "int8"), "torch": ("fp32",)}  # -> precisions
PRECISIONS = ("fp32", "fp16", "int8")
FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin"), "torch": ("model.pt2",)}
_ALL_FILES = (JSON_FILE, *(name for names in FILES.values() for name in names))
_PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        files: the model's file or files, and `model.json`.
        description: content of `model.json`.
        notes: sentences about the detector that stand beside its results, for example on random weights.
    """

    files: tuple[Path, ...]
    description: Description
    notes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def export(
    checkpoint: str | Path,
    format: str = "onnx",
    precision: str = "fp32",
    output: str | Path = "exported",
    category: str | None = None,
    data_root: str | None = None,
    overwrite: bool = False,
    threshold: Asked = None,
) -> Exported:
    """Export a trained detector, with its encoder, as one model that needs no anoframe.

    Args:
        checkpoint: a run folder, its `checkpoint/`, or the folder of one fit.
        format: `"onnx"` (`model.onnx`), `"openvino"` (`model.xml` and `model.bin`) or `"torch"` (`model.pt2`).
        precision: `"fp32"`; `"fp16"` halves the file and computes in float32; `"int8"` (OpenVINO) quantises
            convolutions, and products that only choose a neighbour, with ranges measured on the training images.
        output: folder of the files.
        category: whose detector and threshold to export; needed if there are several of either.
        data_root: for `"int8"`: folder of the dataset, if it is not where the run had it.
        overwrite: replace an earlier model in `output`.
        threshold: write another threshold than the stored one into the model, as for `anoframe.predict`.

    Raises:
        AnoframeError: the method is no graph, the format does not have this precision, a package is missing, or there
            is no checkpoint, category or training image.
    """
    _check_choice(format, precision)
    checkpoint, output = expand_path(checkpoint, "checkpoint"), expand_path(output, "output")
    _check_output(output, overwrite)
    options = threshold_options(threshold)
    folder = find_checkpoint(checkpoint, category)
    trained = load_checkpoint(folder, torch.device("cpu"))
    if category is None and len(trained.categories) > 1 and any(trained.thresholds.values()):
        names = ", ".join(trained.categories)
        raise AnoframeError(f"{checkpoint} has one threshold per category, choose a category: {names} (--cls_names)")
    category = category or trained.categories[0]
    trained = with_thresholds(trained, [category], options)
    _check_shape(trained, checkpoint)
    size = Description(trained.preprocessing, None, category, (), {}).size
    method = str(trained.model["name"])
    trained.detector.requires_grad_(False)  # nor do the outputs of the torch format
    module = ExportedDetector(trained.detector.eval(), size, category).eval()
    program = trace(module, size, method)
    description = _describe(folder, trained, category, format, precision, module.outputs)
    images = None
    if precision == "int8":
        images = calibration_images(folder, trained.categories, trained.preprocessing, data_root)
    write = _build(program, description, format, precision, images, module.products_may_be_rounded)
    _make_room(output)
    files = [*write(output), output / JSON_FILE]
    write_atomic(output / JSON_FILE, description.to_json() + "\n")
    return Exported(tuple(files), description, tuple(description.details["notes"]))


def _check_shape(trained: Checkpoint, checkpoint: Path) -> None:
    """Check that a single image of one size is all that the detector needs.

    Raises:
        AnoframeError: it was trained with tiles, padding or ignored regions, which a model file does not have.
    """
    parts = {"tiles": trained.tiling, "padding": trained.preprocessing.pads, "ignored regions": trained.ignored}
    if used := [name for name, value in parts.items() if value]:
        raise AnoframeError(
            f"{checkpoint} was trained with {' and '.join(used)}, which an exported model does not have: use --mode "
            "predict, or train without"
        )


def _check_choice(format: str, precision: str) -> None:
    if format not in FORMATS:
        raise AnoframeError(f"unknown format {format!r}: {suggest(format, FORMATS)}")
    if precision not in FORMATS[format]:
        formats = [name for name, precisions in FORMATS.items() if precision in precisions]
        way_out = f"--format {formats[0]}, or" if formats else "choose"
        raise AnoframeError(
            f"--format {format} has no precision {precision!r}: {way_out} --precision {' or '.join(FORMATS[format])}"
        )


def _check_output(output: Path, overwrite: bool) -> None:
    if not overwrite and any((output / name).exists() for name in _ALL_FILES):
        raise AnoframeError(f"{output} has an exported model: choose another --output, or --overwrite")


def _make_room(output: Path) -> None:
    """Remove an earlier model, which may have another format."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in _ALL_FILES:
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(output, error) from error


def _describe(
    folder: Path, trained: Checkpoint, category: str, format: str, precision: str, outputs: Sequence[str]
) -> Description:
    packages = ("torch", "timm", *_PACKAGES[format], *(("nncf",) if precision == "int8" else ()))
    details = {
        "method": trained.model["name"],
        "precision": precision,
        "backbone": trained.detector.backbone.describe(),  # type: ignore[operator]
        "learned_sha256": read_json(folder / "detector.json")["learned_sha256"],
        "train_images": trained.train_images,
        "notes": list_notes(trained.detector),
        "versions": {"anoframe": anoframe.__version__, **{name: version(name) for name in packages}},
    }
    return Description(trained.preprocessing, trained.thresholds.get(category), category, tuple(outputs), details)


def _build(
    program: torch.export.ExportedProgram,
    description: Description,
    format: str,
    precision: str,
    images: Sequence[NDArray[np.uint8]] | None,
    quantise_products: bool,
) -> Callable[[Path], list[Path]]:
    """Convert a graph; returns a function that writes the files to a folder and returns their paths."""
    text = description.to_json()
    if format == "torch":
        data = torch_model.serialise(program, text)
        return lambda output: [_write(output / FILES["torch"][0], data)]
    model = onnx_model.to_onnx(program, description.outputs)
    if format == "onnx":
        if precision == "fp16":
            onnx_model.halve_weights(model)
        data = onnx_model.serialise(model, text)
        return lambda output: [_write(output / FILES["onnx"][0], data)]
    converted = openvino_model.to_openvino(model.SerializeToString(deterministic=True))
    if images is not None:
        converted = openvino_model.quantise(converted, images, quantise_products)
    return lambda output: openvino_model.save(converted, output, text, halve_weights=precision == "fp16")


def _write(path: Path, data: bytes) -> Path:
    write_atomic(path, data)
    return path
