"""Train anomalib's reverse distillation on one batch. Runs in anomalib's own environment, never imports anoframe.

    python _rd4ad_peer.py START.safetensors --images 4 --steps 5

One training step as in `Engine`, without the overhead of Lightning: teacher, bottleneck and decoder, loss, backward
pass, Adam. The teacher has random weights. Writes the initial state and the teacher's features of the batch to START,
so that the other side can start from the same state. The last line of the output is JSON with the loss of each step.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import time
from pathlib import Path

import torch
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from safetensors.torch import save_file

LAYERS = ("layer1", "layer2", "layer3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    mode = AnomalyMapGenerationMode.ADD
    model = ReverseDistillationModel("wide_resnet50_2", (256, 256), LAYERS, mode, pre_trained=False).train()
    images = torch.rand(options.images, 3, 256, 256)
    trained = {
        f"{module}.{n}": v
        for module in ("bottleneck", "decoder")
        for n, v in getattr(model, module).state_dict().items()
    }
    with torch.no_grad():
        model.encoder.eval()
        features = {f"features.{i}": level for i, level in enumerate(model.encoder(images).values())}
    save_file({name: value.contiguous() for name, value in {**trained, **features}.items()}, options.start)

    parameters = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005, betas=(0.5, 0.99))
    loss_function, losses, seconds = ReverseDistillationLoss(), [], []
    for _ in range(options.steps):
        started = time.perf_counter()
        loss = loss_function(*model(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    versions = {name: importlib.metadata.version(name) for name in ("anomalib", "torch")}
    step = statistics.median(seconds[1:])  # the first step is a warm-up
    print(
        json.dumps({"seconds": step, "images": f"{options.images / step:.2f}", "losses": losses, "versions": versions})
    )


if __name__ == "__main__":
    main()
