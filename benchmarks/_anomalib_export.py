"""Export anomalib's PatchCore with a given memory bank. Runs in anomalib's own environment, never imports anoframe.

    python _anomalib_export.py bank.npy FOLDER

The backbone, its weights and its normalisation are those of `_anomalib_side.py`, and the bank replaces the one that
training would make, so that only the exported models are compared. Writes `FOLDER/weights/onnx/model.onnx` and
`FOLDER/weights/openvino/model.xml`, with anomalib's own export and no post-processing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import torch
from _anomalib_side import CROP, Stages, build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path, help="[M, D] float32")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    model = build_model(0.01, Stages()).eval()
    model.model.memory_bank = torch.from_numpy(np.load(options.bank))
    single = {"dynamic_axes": {}, "dynamic_shapes": None}  # its default is a batch of two, which takes no single image
    files = [
        model.to_onnx(options.folder, input_size=(CROP, CROP), **single),
        model.to_openvino(options.folder, input_size=(CROP, CROP), onnx_kwargs=single),
    ]
    versions = {name: importlib.metadata.version(name) for name in ("anomalib", "torch", "onnx", "openvino")}
    print(json.dumps({"files": [str(file) for file in files], "versions": versions}))


if __name__ == "__main__":
    main()
