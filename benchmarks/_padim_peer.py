"""Fit and apply anomalib's PaDiM to given features. Runs in anomalib's own environment, never imports anoframe.

    python _padim_peer.py FOLDER

Reads FOLDER/features.safetensors of `padim_against_anomalib.py`; writes FOLDER/anomalib.safetensors: distances, maps.
The embedding, fit and map are anomalib's, without the overhead of Lightning and without its encoder. The last line of
the output is JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path

import torch
from anomalib.models.image.padim.torch_model import PadimModel
from safetensors.torch import load_file, save_file

BACKBONE, LAYERS, BATCH = "tf_efficientnet_lite0", ["blocks.1", "blocks.2", "blocks.4"], 32


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tensors = load_file(folder / "features.safetensors")

    def batches(split: str) -> list[dict[str, torch.Tensor]]:
        levels = [tensors[f"{split}.{level}"].split(BATCH) for level in range(len(LAYERS))]
        return [dict(zip(LAYERS, batch, strict=True)) for batch in zip(*levels, strict=True)]

    model = PadimModel(BACKBONE, LAYERS, pre_trained=False, n_features=len(tensors["channels"])).eval()
    model.idx = tensors["channels"]
    train, test = batches("train"), batches("test")
    started, cpu = time.perf_counter(), time.process_time()
    for features in train:
        model.memory_bank.append(model.generate_embedding(features))
    model.fit()
    fitted, cpu = time.perf_counter(), time.process_time() - cpu
    gaussian, generator = model.gaussian, model.anomaly_map_generator
    maps = []
    for features in test:
        embedding = model.generate_embedding(features)
        maps.append(
            generator(
                embedding=embedding, mean=gaussian.mean, inv_covariance=gaussian.inv_covariance, image_size=(224, 224)
            )
        )
    detected = time.perf_counter()
    distances = [
        generator.compute_distance(model.generate_embedding(features), [gaussian.mean, gaussian.inv_covariance])
        for features in test
    ]
    results = {"maps": torch.cat(maps)[:, 0], "distances": torch.cat(distances)[:, 0]}
    save_file({name: value.contiguous() for name, value in results.items()}, folder / "anomalib.safetensors")
    detection = (detected - fitted) / len(tensors["test.0"])
    seconds = {"seconds": fitted - started, "cpu": f"{cpu:.1f}", "detection": f"{detection:.3f}"}
    versions = {name: importlib.metadata.version(name) for name in ("anomalib", "torch")}
    print(json.dumps({**seconds, "versions": versions}))


if __name__ == "__main__":
    main()
