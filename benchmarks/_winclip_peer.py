"""Run anomalib's WinCLIP on given weights and images. Runs in anomalib's own environment, never imports anoframe.

    python _winclip_peer.py WEIGHTS.safetensors IMAGES.npz OUTPUT.npz --category bottle --batch 4

IMAGES holds `test` and `references`, uint8 RGB `[n, 240, 240, 3]`. OUTPUT gets prompts, text prototypes, window
embeddings, maps and scores. The last line of standard output is JSON with the seconds of encoding, and of scoring with
0, 1 and 2 references; each image is encoded once.

anomalib 2.7.0 needs open-clip-torch below 2.26.1 and does not check it: later versions take the batch as the first axis
of the transformer, and then its windows attend to each other.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.winclip import prompting, torch_model
from safetensors.torch import load_file

SIDE = 240
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """Normalise uint8 `[n, H, W, 3]` to `[n, 3, H, W]`."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


class Clock:
    """Wall and CPU seconds of named parts."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


@torch.no_grad()
def encode(model: torch.nn.Module, pixels: np.ndarray, batch: int) -> list[tuple]:
    """Return anomalib's embeddings of each batch: of images, windows and patches."""
    return [model.encode_image(normalised(pixels[i : i + batch])) for i in range(0, len(pixels), batch)]


def score(model: torch.nn.Module, encoded: list[tuple]) -> dict[str, np.ndarray]:
    """Return maps and scores from embeddings: anomalib's forward pass without its encoder."""
    outputs = []
    for embeddings in encoded:
        model.encode_image = lambda _, embeddings=embeddings: embeddings
        outputs.append(model(torch.empty(len(embeddings[0]), 3, SIDE, SIDE)))
    return {
        "maps": torch.cat([output.anomaly_map for output in outputs]).numpy(),
        "scores": torch.cat([output.pred_score for output in outputs]).numpy(),
    }


def unit(encoded: list[tuple]) -> dict[str, np.ndarray]:
    """Return the embeddings of all batches, of unit length."""
    parts = {"image": [e[0] for e in encoded], "patches": [e[2] for e in encoded]}
    parts |= {"windows2": [e[1][0] for e in encoded], "windows3": [e[1][1] for e in encoded]}
    return {name: torch.nn.functional.normalize(torch.cat(part), dim=-1).numpy() for name, part in parts.items()}


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
    images, clock = np.load(options.images), Clock()
    with clock.measure("text"):
        model.setup(options.category)
    references = encode(model, images["references"], options.batch)  # also a warm-up
    with clock.measure("encode"):
        encoded = encode(model, images["test"], options.batch)
    values = {"prompts": np.array([*chain(*prompting.create_prompt_ensemble(options.category))])}
    values |= {"text": torch.nn.functional.normalize(model.text_embeddings, dim=1).numpy(), **unit(encoded)}
    for shots in (0, 1, 2):
        model.k_shot = shots
        model._visual_embeddings = [torch.cat([e[1][i] for e in references])[:shots] for i in (0, 1)]
        model._patch_embeddings = torch.cat([e[2] for e in references])[:shots]
        with clock.measure(f"score {shots}"):
            values |= {f"{name}{shots}": value for name, value in score(model, encoded).items()}
    lists = {"templates": "TEMPLATES", "normal": "NORMAL_STATES", "defect": "ANOMALOUS_STATES"}
    lists = {key: list(getattr(prompting, name)) for key, name in lists.items()}
    np.savez(options.output, **values, lists=json.dumps(lists))
    versions = {name: importlib.metadata.version(name) for name in ("anomalib", "torch", "open-clip-torch")}
    print(json.dumps({"seconds": clock.parts["encode"]["seconds"], "parts": clock.parts, "versions": versions}))


if __name__ == "__main__":
    main()
