"""Ablations A0 to A8 of PatchCore-noising, all variants on the same features and banks.

    python benchmarks/noising_ablations.py --data.name mvtec --data.root MVTec --cls_names bottle --output ablations
    python benchmarks/noising_ablations.py --table --output ablations

Writes one JSON file per category, backbone and seed; existing files are kept, so the same command resumes an
interrupted run. `--table` prints the means and standard deviations over seeds as Markdown. Cost on two cores, for a
category of 200 to 550 training images: some minutes per seed at 1 %, many times more with `--ratios 0.01 0.1 0.25`,
because the cost of the greedy selection grows quadratically. Expected: docs/patchcore_noising.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _over_seeds import gain, mean
from scipy.stats import rankdata
from torch import Tensor

from anoframe.config import ConfigDict, load_config, to_plain
from anoframe.data.dataset import choose_categories, open_dataset
from anoframe.data.loader import make_loader
from anoframe.data.preprocessing import Preprocessing
from anoframe.metrics import auroc, pixel_metrics
from anoframe.metrics.catalogue import SUMMARY
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.models.components.nearest import Search, nearest
from anoframe.models.factory import build_detector
from anoframe.models.patchcore.coreset import coreset_size, greedy_coreset, random_projection
from anoframe.models.patchcore.reweighting import reweight
from anoframe.models.patchcore_noising.noise import (
    CALIBRATION_IMAGES,
    Calibration,
    NoiseSettings,
    calibrate,
    influence_gradient,
    noise_amplitude,
    noise_shape,
    noise_vectors,
    response,
)
from anoframe.utils.files import write_json
from anoframe.utils.parallel import map_images
from anoframe.utils.progress import progress

CONFIG = "patchcore_noising/patchcore_noising_lite0_256.py"
COMPARED = ("image_auroc", "aupro")  # metrics with a column of differences to A0
NEIGHBOURS, CANDIDATES = 9, 64


@dataclass(frozen=True)
class Bank:
    """A memory bank and its calibration.

    Attributes:
        search: nearest-neighbour search in its rows [M, D].
        normal: calibration on training images.
        gradient: mean and standard deviation of |g| over patches of training images, for A8.
        distance: the same of the mean distance to nine neighbours.
    """

    search: Search
    normal: Calibration
    gradient: tuple[float, float]
    distance: tuple[float, float]


@dataclass(frozen=True)
class Patches:
    """Patches of one test image.

    Attributes:
        z: descriptors [N, D].
        distances: to the nine nearest entries of the bank, ascending [N, 9].
        offsets: patch minus each of the candidate entries for the noised patch [N, 64, D].
        gradient: influence gradient [N, D].
    """

    bank: Bank
    z: Tensor
    distances: Tensor
    offsets: Tensor
    gradient: Tensor

    @property
    def d(self) -> Tensor:
        return self.distances[:, 0]

    @property
    def influence(self) -> Tensor:
        return self.gradient.norm(dim=1)

    def amplitude(self, noise: NoiseSettings) -> Tensor:
        return noise_amplitude(self.d, self.bank.normal.q50, self.bank.normal.q95, noise)


Variant = Callable[[Patches], Tensor]


# ------------------------------------------------------------------------------------------------ variants


def noised(influence: float = 0.0, **noise: float | str) -> Variant:
    """Score `[d + R] * [1 + lambda_influence I]` with other noise settings."""
    settings = replace(NoiseSettings(), **noise)  # type: ignore[arg-type]

    def score(p: Patches) -> Tensor:
        scale = settings.tau * p.amplitude(settings)[:, None] * p.bank.normal.deviation
        scale = scale * noise_shape(p.gradient, settings.alpha)
        xi = noise_vectors(settings.samples, p.z.shape[1], settings.seed)
        change = response(p.offsets, scale, xi)
        return (p.d + change) * (1 + influence * p.influence)

    return score


def influenced(weight: float) -> Variant:
    return lambda p: p.d * (1 + weight * p.influence)


def analytic(p: Patches) -> Tensor:
    """A6: expected distance in high dimension instead of sampled noise; a monotone function of d."""
    return (p.d.square() + p.amplitude(NoiseSettings()).square() * p.bank.normal.deviation.square().sum()).sqrt()


def prototype(p: Patches) -> Tensor:
    """A8: 0.4 influence + 0.4 distance + 0.2 noise, as in the public prototype, with z-scores of training images."""
    mean9 = p.distances.mean(1)
    strength = p.gradient.abs().mean(1)
    z_scores = _z_score(strength, p.bank.gradient) + _z_score(mean9, p.bank.distance)
    return 0.4 * torch.sigmoid(z_scores) + 0.4 * mean9 + 0.2 * p.amplitude(NoiseSettings())


def _z_score(values: Tensor, moments: tuple[float, float]) -> Tensor:
    return (values - moments[0]) / moments[1]


def plain_distance(p: Patches) -> Tensor:
    return p.d


CORE: dict[str, Variant] = {
    "A0 PatchCore": plain_distance,
    "A4 influence 1": influenced(1.0),
    "A1 noise, tau 1": noised(),
    "default: noise and influence": noised(influence=1.0),
}
VARIANTS: dict[str, Variant] = {
    "A0 PatchCore": plain_distance,
    "A1 noise, tau 0.25": noised(tau=0.25),
    "A1 noise, tau 0.5": noised(tau=0.5),
    "A1 noise, tau 1": noised(),
    "A1 noise, tau 2": noised(tau=2.0),
    "A2 constant amplitude": noised(amplitude="constant"),
    "A2 reversed amplitude": noised(amplitude="reversed"),
    "A3 isotropic (alpha 0)": noised(alpha=0.0),
    "A4 influence 0.5": influenced(0.5),
    "A4 influence 1": influenced(1.0),
    "A4 influence 2": influenced(2.0),
    "A5 paper's re-weighting": plain_distance,  # applies to the image score, see _image_score
    "A5 mean of 9 neighbours": lambda p: p.distances.mean(1),
    "A6 analytic surrogate": analytic,
    "A8 prototype, repaired": prototype,
    "default: noise and influence": noised(influence=1.0),
}


# ------------------------------------------------------------------------------------------------ experiment


def experiment(cfg: ConfigDict, category: str, ratios: list[float]) -> dict[str, dict[str, dict[str, float]]]:
    """Run all variants on one category, backbone and seed: ratio -> variant -> metric."""
    train, test = embeddings(cfg, category)
    picks = select(train, max(ratios), cfg.seed)
    results = {}
    for ratio in ratios:
        size = coreset_size(len(train.flatten(0, 1)), ratio)
        bank = make_bank(train, picks[:size])  # a prefix of a greedy coreset is the smaller coreset
        variants = VARIANTS if ratio == min(ratios) else CORE
        results[str(ratio)] = measure(variants, bank, *test)
    return results


def embeddings(cfg: ConfigDict, category: str) -> tuple[Tensor, tuple[Tensor, np.ndarray, np.ndarray]]:
    """Compute training patches `[n, N, D]`, and test patches, masks and labels."""
    dataset = open_dataset(cfg.data.name, cfg.data.root)
    detector = build_detector(to_plain(cfg.model), cfg.seed)
    preprocessing = Preprocessing(cfg.data.resize, cfg.data.crop, cfg.data.keep_aspect)
    patches: dict[str, list[Tensor]] = {"train": [], "test": []}
    masks, labels = [], []
    for split in patches:
        samples = [sample for sample in dataset.samples(category) if sample.split == split]
        for batch in progress(make_loader(samples, preprocessing, 16, -1), f"{category} {split}"):
            patches[split].append(detector.embed(detector.encode(batch.images))[0])
            if split == "test":
                masks.append(batch.masks[:, 0].numpy())
                labels.append(batch.labels.numpy())
    test = (torch.cat(patches["test"]), np.concatenate(masks), np.concatenate(labels))
    return torch.cat(patches["train"]), test


def select(train: Tensor, ratio: float, seed: int) -> Tensor:
    """Select the coreset as PatchCore does, with the same random numbers for a seed."""
    rows = train.flatten(0, 1)
    generator = torch.Generator().manual_seed(seed)
    projected = random_projection(rows, 128, generator)
    return greedy_coreset(projected, coreset_size(len(rows), ratio), "approximate", generator)


def make_bank(train: Tensor, picks: Tensor) -> Bank:
    rows, images = train.flatten(0, 1)[picks], picks // train.shape[1]
    normal = calibrate(train, rows, images)
    strength, distance = [], []
    for i in torch.linspace(0, len(train) - 1, min(CALIBRATION_IMAGES, len(train))).round().long().tolist():
        others = rows[images != i]
        distances, indices = nearest(train[i], others, NEIGHBOURS)
        strength.append(influence_gradient(train[i][:, None] - others[indices]).abs().mean(1))
        distance.append(distances.mean(1))
    return Bank(Search(rows), normal, _moments(strength), _moments(distance))


def _moments(parts: list[Tensor]) -> tuple[float, float]:
    values = torch.cat(parts)
    return float(values.mean()), float(values.std())


def measure(
    variants: dict[str, Variant], bank: Bank, test: Tensor, masks: np.ndarray, labels: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compute image AUROC, pixel AUROC, AUPRO, and the rank correlation with the patch scores of A0."""
    side = int(test.shape[1] ** 0.5)
    scored = map_images(lambda image: _score(variants, _patches(bank, image[0])), test)
    patches = {name: torch.stack([image[name][0] for image in scored]) for name in variants}
    images = {name: np.array([image[name][1] for image in scored]) for name in variants}
    base = rankdata(patches["A0 PatchCore"].numpy())
    results = {}
    for name, scores in progress(patches.items(), "measure", total=len(patches)):
        maps = gaussian_blur(upsample(scores.unflatten(1, (side, side)), masks.shape[1:]), 4.0).numpy()
        pixels = pixel_metrics(masks, maps)
        results[name] = {
            "image_auroc": auroc(labels, images[name]),
            "pixel_auroc": pixels["pixel_auroc"],
            "aupro": pixels["aupro"],
            "spearman": float(np.corrcoef(base, rankdata(scores.numpy()))[0, 1]),
        }
    return results


def _score(variants: dict[str, Variant], p: Patches) -> dict[str, tuple[Tensor, float]]:
    """Compute patch scores `[N]` and the image score of each variant for one image."""
    scores = {name: variant(p) for name, variant in variants.items()}
    return {name: (values, _image_score(name, values, p)) for name, values in scores.items()}


def _patches(bank: Bank, z: Tensor) -> Patches:
    entries = bank.search.near(z, CANDIDATES)
    offsets = bank.search.bank[entries].neg_().add_(z[:, None])
    distances, order = (values[:, :NEIGHBOURS] for values in offsets.norm(dim=2).sort(dim=1, stable=True))
    gradient = influence_gradient(offsets.gather(1, order[:, :, None].expand(-1, -1, offsets.shape[2])))
    return Patches(bank, z, distances, offsets, gradient)


def _image_score(name: str, scores: Tensor, p: Patches) -> float:
    highest = int(scores.argmax())
    if "re-weighting" not in name:
        return float(scores[highest])
    entry = int(p.bank.search.nearest(p.z[highest : highest + 1])[1])
    return float(scores[highest]) * reweight(p.z[highest], p.bank.search, entry, NEIGHBOURS)


# ------------------------------------------------------------------------------------------------ table


def table(folder: Path) -> str:
    """Format means and deviations over seeds and gains over A0, one block per category, backbone and ratio."""
    runs: dict[tuple[str, ...], list[dict[str, dict[str, float]]]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        for ratio, results in run["results"].items():
            runs.setdefault((run["category"], run["backbone"], ratio), []).append(results)
    return "\n\n".join(_block(key, results) for key, results in runs.items())


def _block(key: tuple[str, ...], runs: list[dict[str, dict[str, float]]]) -> str:
    category, backbone, ratio = key
    lines = [f"**{category}, {backbone}, bank {100 * float(ratio):g} %, seeds: {len(runs)}**", ""]
    lines += ["| variant | image AUROC | pixel AUROC | AUPRO | image AUROC - A0 | AUPRO - A0 | Spearman(d, s) |"]
    lines += ["|---" * 7 + "|"]
    base = next(iter(VARIANTS))
    for name in runs[0]:
        cells = [mean([100 * run[name][metric] for run in runs]) for metric in SUMMARY]
        cells += [gain([100 * (run[name][metric] - run[base][metric]) for run in runs]) for metric in COMPARED]
        correlation = np.mean([run[name]["spearman"] for run in runs])
        lines.append(f"| {name} | {' | '.join(cells)} | {correlation:.4f} |")
    return "\n".join(lines)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data.name", dest="name", default="mvtec")
    add("--data.root", dest="root")
    add("--cls_names", nargs="+", default=["all"])
    add("--backbones", nargs="+", default=["tf_efficientnet_lite0"])
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--ratios", nargs="+", type=float, default=[0.01])
    add("--output", type=Path, default=Path("ablations"))
    add("--table", action="store_true", help="only print the table of the results in --output")
    options = parser.parse_args()
    if options.table:
        print(table(options.output))
        return
    for category in choose_categories(open_dataset(options.name, options.root), options.cls_names):
        for backbone in options.backbones:
            for seed in options.seeds:
                _run_one(options, category, backbone, seed)
    print(table(options.output))


def _run_one(options: argparse.Namespace, category: str, backbone: str, seed: int) -> None:
    ratios = "-".join(f"{ratio:g}" for ratio in sorted(options.ratios))
    path = options.output / f"{category}_{backbone}_{ratios}_{seed}.json"
    if path.exists():
        return
    data = {"data.name": options.name, "data.root": options.root, "data.keep_aspect": False}
    data |= {"seed": seed, "model.backbone.name": backbone}
    results = experiment(load_config(CONFIG, data), category, sorted(options.ratios))
    write_json(path, {"category": category, "backbone": backbone, "seed": seed, "results": results})


if __name__ == "__main__":
    main()
