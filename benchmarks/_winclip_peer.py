"""Run anomalib's WinCLIP on given weights and images. Runs in anomalib's own environment, never imports anoframe.

    python _winclip_peer.py WEIGHTS.safetensors IMAGES.npz OUTPUT.npz --category bottle --batch 4

IMAGES holds `test` and `references`, uint8 RGB `[n, 240, 240, 3]`. OUTPUT gets prompts, text prototypes, window
embeddings, maps and scores. The last line of standard output is JSON with the seconds of each pass over the images,
from pixels to scores. anomalib 2.7.0 needs open-clip-torch below 2.26.1 and does not check it: with a later version, in
which the transformer takes the batch as first axis, its windows attend to each other.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.winclip import prompting, torch_model
from safetensors.torch import load_file

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """Normalise uint8 `[n, H, W, 3]` to `[n, 3, H, W]`."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def predict(model: torch.nn.Module, pixels: np.ndarray, batch: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return maps and scores of all images, and the seconds of the pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    outputs = [model(normalised(pixels[i : i + batch])) for i in range(0, len(pixels), batch)]
    seconds = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    maps = torch.cat([output.anomaly_map for output in outputs]).numpy()
    return {"maps": maps, "scores": torch.cat([output.pred_score for output in outputs]).numpy()}, seconds


def window_embeddings(model: torch.nn.Module, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return unit embeddings of one image and of its windows."""
    with torch.no_grad():
        image, windows, patches = model.encode_image(normalised(pixels))
    named = {"image": image, "patches": patches, "windows2": windows[0], "windows3": windows[1]}
    return {name: torch.nn.functional.normalize(value, dim=-1).numpy() for name, value in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--category", required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    torch_model.PRETRAINED = ""  # random weights, replaced at once
    model = torch_model.WinClipModel().eval()
    model.clip.load_state_dict(load_file(options.weights))
    images = np.load(options.images)
    started = time.process_time()
    model.setup(options.category)
    text_cpu = time.process_time() - started
    prototypes = torch.nn.functional.normalize(model.text_embeddings, dim=1).numpy()
    values = {"prompts": np.array([*chain(*prompting.create_prompt_ensemble(options.category))]), "text": prototypes}
    values |= window_embeddings(model, images["test"][:1])  # also a warm-up
    times = {"text": {"cpu": text_cpu}}
    for shots in (0, 1, 2):
        if shots:
            model.setup(options.category, normalised(images["references"][:shots]))
        if shots == 1:  # values only: the time is that of two references
            outputs, _ = predict(model, images["test"][:2], options.batch)
        else:
            outputs, times[f"{shots} references"] = predict(model, images["test"], options.batch)
        values |= {f"{name}{shots}": value for name, value in outputs.items()}
    lists = {"templates": "TEMPLATES", "normal": "NORMAL_STATES", "defect": "ANOMALOUS_STATES"}
    lists = {key: list(getattr(prompting, name)) for key, name in lists.items()}
    np.savez(options.output, **values, lists=json.dumps(lists))
    versions = {name: importlib.metadata.version(name) for name in ("anomalib", "torch", "open-clip-torch")}
    print(json.dumps({"seconds": times["0 references"]["seconds"], "times": times, "versions": versions}))


if __name__ == "__main__":
    main()
