"""Time of a training step of UniAD, compared with torch's attention layers and with running the encoder in each step.

    python benchmarks/uniad_speed.py
    python benchmarks/uniad_speed.py --size small --steps 40

Sizes: the published one (7.7 million parameters, 14 x 14 tokens, EfficientNet-b4 with random weights), or the small one
that `continual_table.py` trains on a CPU (1.9 million, 8 x 8 tokens of 128 pixels, EfficientNet-Lite0). Batches of 8
photographs, AdamW, dropout and noise as published. All sides start from the same weights and use the same trainer:

- anoframe: features come from memory, as in every epoch after the cache is filled;
- nn.MultiheadAttention: the same model with torch's layer for each attention, without attention weights (fast path);
- all of torch: with torch's dropout too, and with attention weights, as in the authors' code, which does not set that
  argument;
- encoder each step: features are computed in each step, from images in memory;
- files each step: images are also read, decoded and resized in each step, as without any cache, from PNG files of
  1024 x 1024 pixels, the size of most images of MVTec AD;
- bfloat16, and bfloat16, files each step: the first and the previous side with the trainer's option, for a processor
  that supports it. The encoder stays in float32, as it does here.

The time of a step is the median of all but the first. Cost: 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from _rounds import Side, alternate, keep, table

MULTIHEAD, TORCH, ENCODER, FILES = "nn.MultiheadAttention", "all of torch", "encoder each step", "files each step"
LOW, LOW_FILES = "bfloat16", "bfloat16, files each step"
# Size -> name of a marker in README.md, image side in pixels, and changes of the config uniad_224.
SIZES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "published": ("uniad", 224, {"model.backbone.name": "tf_efficientnet_b4"}),
    "small": (
        "uniad_small",
        128,
        {
            "model.backbone.name": "tf_efficientnet_lite0",
            "model.width": 128,
            "model.hidden": 512,
            "model.heads": 4,
            "model.window": 3,
        },
    ),
}
SIDES = ("anoframe", MULTIHEAD, TORCH, ENCODER, FILES, LOW, LOW_FILES)


def use_torch_layers(module: Any, everything: bool) -> None:
    """Replace every attention of a module by torch's, with the same weights.

    Args:
        module: changed in place.
        everything: use torch's dropout too, and compute attention weights.
    """
    from torch import nn

    from anoframe.models.uniad.attention import Attention
    from anoframe.models.uniad.dropout import Dropout

    class TorchAttention(nn.Module):
        def __init__(self, source: Attention):
            super().__init__()
            self.attention = nn.MultiheadAttention(source.width, source.heads, source.dropout, batch_first=True)
            self.attention.load_state_dict(source.state_dict())

        def forward(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
            query = query if query is key else query.expand_as(key)
            return self.attention(query, key, value, attn_mask=mask, need_weights=everything)[0]

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Attention):
                setattr(parent, name, TorchAttention(child))
            elif isinstance(child, Dropout) and everything:
                setattr(parent, name, nn.Dropout(child.p))


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Write `count` PNG files of 1024 x 1024 pixels, shifted copies of one photograph."""
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    large = np.asarray(Image.fromarray(astronaut()).resize((1024, 1024), Image.Resampling.LANCZOS))
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(np.roll(large, 100 * number, axis=1)).save(path)
    return paths


def run(side: str, size: str, count: int, steps: int, folder: Path) -> None:
    """Train one side and print its measurements as JSON."""
    import torch

    from anoframe.config import load_config, to_plain
    from anoframe.data.cached_reader import Reader
    from anoframe.data.preprocessing import Preprocessing
    from anoframe.evaluation.provenance import versions
    from anoframe.features.extraction import FeatureBatch
    from anoframe.features.store import FeatureStore
    from anoframe.models.factory import build_detector
    from anoframe.tracking.tracker import Trackers
    from anoframe.training.context import FitContext
    from anoframe.training.loop import PhaseTrainer
    from anoframe.training.seeding import seed_everything
    from anoframe.training.settings import phase_settings
    from anoframe.types import Sample

    seed_everything(0)
    _, pixels, changes = SIZES[size]
    changes = changes | {"model.backbone.weights": "random", "data.resize": pixels, "data.crop": pixels}
    changes |= {"trainer.precision": "bfloat16"} if side.startswith(LOW) else {}
    cfg = load_config("uniad/uniad_224.py", {**changes, "trainer.steps": steps, "trainer.batch_size": count})
    detector: Any = build_detector(to_plain(cfg.model)).eval()
    reader, pool, paths = Reader(Preprocessing(pixels, pixels)), ThreadPoolExecutor(2), write_photographs(folder, count)

    def read() -> Any:
        return torch.stack([photograph.pixels for photograph in pool.map(reader.image, paths)])

    images = read()
    features = detector.encode(images)
    if side in (MULTIHEAD, TORCH):
        use_torch_layers(detector.reconstruction, everything=side == TORCH)
    (phase,) = detector.training_stages()
    if side == ENCODER or side.endswith(FILES):
        load_images = read if side.endswith(FILES) else lambda: images

        def loss_with_encoder(batch: Any) -> Any:
            with torch.autocast("cpu", enabled=False):
                features = detector.encode(load_images())
            return detector.losses(replace(batch, features=features))

        phase = replace(phase, loss=loss_with_encoder)
    samples = tuple(Sample(Path(f"{i}.png"), "noise", "train") for i in range(count))
    store = FeatureStore([FeatureBatch(features, torch.zeros(0), samples)], count, torch.device("cpu"))
    training = FitContext("noise", 0, to_plain(cfg.trainer), Trackers())
    PhaseTrainer(detector, phase, 0, store, phase_settings(training.section, phase.name), training).run()
    epochs = training.curves["phases"][0]["epochs"]
    step = statistics.median(epoch["seconds"] for epoch in epochs[1:])
    losses = {"first": f"{epochs[0]['losses']['mse']:.5f}", "last": f"{epochs[-1]['losses']['mse']:.5f}"}
    print(
        json.dumps(
            {"seconds": step, "images": f"{count / step:.1f}", **losses, "versions": {"torch": versions()["torch"]}}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--images", type=int, default=8, help="images per batch")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            run(options.side, options.size, options.images, options.steps, Path(folder))
        return
    arguments = ["--size", options.size, "--images", str(options.images), "--steps", str(options.steps)]
    script = str(Path(__file__).resolve())
    sides = [Side(name, [sys.executable, script, "--side", name, *arguments]) for name in SIDES]
    alternate(sides, options.rounds)
    extra = {"images per second": "images", "loss of the first step": "first", "of the last": "last"}
    text = f"A training step on {options.images} images, {options.size} size.\n\n{table(sides, extra)}"
    print(text)
    keep(SIZES[options.size][0], text)


if __name__ == "__main__":
    main()
