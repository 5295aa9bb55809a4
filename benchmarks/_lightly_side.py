"""Train lightly's SimCLR on one batch of views. Runs in lightly's own environment, never imports anoframe.

    python _lightly_side.py START.safetensors RESULT.safetensors --steps 5 --precision float32

torchvision's ResNet-18, lightly's projection head without BatchNorm and its NTXentLoss, torch's Adam: the training step
of its example, without the loading of images. Writes the weights after the last step to RESULT; the last line of the
output is JSON with the loss of each step.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import time
from pathlib import Path

import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from safetensors.torch import load_file, save_file
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--precision", choices=("float32", "float64"), required=True)
    options = parser.parse_args()
    dtype = getattr(torch, options.precision)
    tensors = load_file(options.start)
    backbone = torchvision.models.resnet18()
    backbone.fc = nn.Identity()
    head = SimCLRProjectionHead(512, 512, 128, num_layers=2, batch_norm=False)
    backbone.load_state_dict({n[9:]: v for n, v in tensors.items() if n.startswith("backbone.")})
    head.load_state_dict({f"layers.{n[5:]}": v for n, v in tensors.items() if n.startswith("head.")})
    backbone, head = backbone.to(dtype).train(), head.to(dtype).train()
    views = [tensors[name].to(dtype) for name in ("first", "second")]
    criterion = NTXentLoss(temperature=0.1)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, weight_decay=1e-4)
    losses, seconds, processor = [], [], []
    for _ in range(options.steps):
        started, started_processor = time.perf_counter(), time.process_time()
        embeddings = head(backbone(torch.cat(views)).flatten(1)).chunk(2)
        loss = criterion(*embeddings)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - started_processor)
        losses.append(float(loss.detach()))
    state = {f"backbone.{n}": v for n, v in backbone.state_dict().items()}
    state |= {f"head.{n[7:]}": v for n, v in head.state_dict().items()}
    save_file(state, options.result)
    versions = {name: importlib.metadata.version(name) for name in ("lightly", "torch")}
    step, cpu = (statistics.median(times[1:] or times) for times in (seconds, processor))
    shown = {"seconds": step, "cpu_step": f"{cpu:.3f}", "least_cpu": min(processor), "losses": losses}
    print(json.dumps({**shown, "versions": versions}))


if __name__ == "__main__":
    main()
