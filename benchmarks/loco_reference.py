"""Compare sPRO with the published evaluation code of MVTec LOCO AD.

    python benchmarks/loco_reference.py CHECKOUT

CHECKOUT is the folder of the evaluation scripts of MVTec, version 2.0, with `src/aggregation.py` and
`evaluate_experiment.py`; they need the packages tifffile and tqdm. Prints the largest differences: of `auspro`, with
every score as a threshold and with the thresholds that the published program chooses, and of the columns of `loco`
runs, on trees of files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from anoframe.data.dataset import Dataset, open_dataset
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.dataset_metrics import image_metrics_by_kind, spro_metrics
from anoframe.evaluation.full_size import restore_size
from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.metrics.spro import auspro

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
STEP = 0.001  # largest step of the published program's curve
SIDE = 56  # of the maps of a tree
KINDS = ("logical", "structural")
DEFECTS: list[dict[str, Any]] = [
    {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 300, "relative_saturation": False},
    {"defect_name": "b", "pixel_value": 254, "saturation_threshold": 0.3, "relative_saturation": True},
    {"defect_name": "c", "pixel_value": 253, "saturation_threshold": 1.0, "relative_saturation": True},
]


class Differences(dict[str, float]):
    """Name -> largest difference."""

    def add(self, name: str, first: float, second: float) -> None:
        self[name] = max(self.get(name, 0.0), abs(first - second))


def quietly(function: Callable[[], Any]) -> Any:
    """Call a function without its output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function()


# ------------------------------------------------------------------------------------------------ arrays


def random_regions(rng: np.random.Generator, count: int, shape: tuple[int, int]) -> list[tuple[Any, float, bool]]:
    """Return (mask, saturation threshold, whether it is a share of the area) of regions of one or two boxes."""
    regions = []
    for _ in range(count):
        mask = np.zeros(shape, bool)
        for _ in range(rng.integers(1, 3)):
            top, left = (int(rng.integers(0, side - 6)) for side in shape)
            height, width = rng.integers(2, 18, 2)
            mask[top : top + height, left : left + width] = True
        relative = bool(rng.random() < 0.5)
        limit = float(rng.choice([0.1, 0.25, 0.5, 0.9, 1.0] if relative else [7, 40, 150, 10000]))
        if not relative or limit * mask.sum() >= 1:  # the published code divides by a saturation area of 0
            regions.append((mask, limit, relative))
    return regions


def compare_arrays(seed: int, ties: bool, largest: Differences) -> None:
    """Compare `auspro` on six random maps, two of them without a region."""
    image, aggregation, metrics, util = (import_module(f"src.{n}") for n in ("image", "aggregation", "metrics", "util"))
    rng = np.random.default_rng(seed)
    maps, ours, theirs = [], [], []
    for number in range(6):
        values = gaussian_filter(rng.standard_normal((40, 48)), rng.uniform(0.5, 3))
        regions = random_regions(rng, 0 if number < 2 else int(rng.integers(1, 4)), values.shape)
        for mask, *_ in regions:
            values += (rng.random() < 0.7) * rng.uniform(0, 0.8) * mask
        maps.append(np.round(values, 1).astype(np.float32) if ties else values.astype(np.float32))
        channels = [
            image.GroundTruthChannel(mask, image.DefectConfig("d", 200, limit if relative else int(limit), relative))
            for mask, limit, relative in regions
        ]
        theirs.append(quietly(lambda c=channels: image.GroundTruthMap(c)) if channels else None)
        areas = [(mask, int(mask.sum()), limit, relative) for mask, limit, relative in regions]
        ours.append([(m, float(max(1, int(v * a) if rel else min(v, a)))) for m, a, v, rel in areas])
    anomaly_maps = [image.AnomalyMap(values) for values in maps]
    scores = np.unique(np.concatenate([values.ravel() for values in maps])).astype(np.float64)
    below = np.concatenate([[scores[-1] + 1], (scores[1:] + scores[:-1])[::-1] / 2, [scores[0] - 1]])

    def every_score() -> Any:
        overlaps = metrics.get_spros_of_defects_of_images(theirs, anomaly_maps, below)
        areas = metrics.get_fp_tn_areas_per_image(theirs, anomaly_maps, below)
        return aggregation.ThresholdMetrics(theirs, anomaly_maps, below, overlaps, *areas)

    np.random.seed(0)  # noqa: NPY002  the published code draws from it
    chosen = quietly(lambda: aggregation.MetricsAggregator(theirs, anomaly_maps).run(STEP))
    for name, result in (("every score", quietly(every_score)), ("its thresholds", chosen)):
        for limit in LIMITS:
            area = util.get_auc_for_max_fpr(result.get_fp_rates(), result.get_mean_spros(), limit)
            key = "auspro, every score" if name == "every score" else f"auspro at {limit}, its thresholds"
            largest.add(key, area, auspro(ours, np.stack(maps), limit) or 0.0)


# ------------------------------------------------------------------------------------------------ files


def write_tree(rng: np.random.Generator, root: Path, shape: tuple[int, int]) -> Dataset:
    """Write 14 test photographs with masks, of which 10 are defects of two kinds."""
    category = root / "pushpins"

    def save(name: str, pixels: NDArray[np.uint8]) -> None:
        (category / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(category / name)

    black = np.zeros((*shape, 3), np.uint8)
    save("train/good/000.png", black)
    for number in range(4):
        save(f"test/good/{number:03d}.png", black)
    for kind in KINDS:
        for number in range(5):
            save(f"test/{kind}_anomalies/{number:03d}.png", black)
            for region in range(rng.integers(1, 4)):
                mask = np.zeros(shape, np.uint8)
                top, left = (int(rng.integers(0, side - 40)) for side in shape)
                height, width = rng.integers(5, 40, 2)
                mask[top : top + height, left : left + width] = 255 - rng.integers(0, 3)
                save(f"ground_truth/{kind}_anomalies/{number:03d}/{region:03d}.png", mask)
    (category / "defects_config.json").write_text(json.dumps(DEFECTS))
    return open_dataset("loco", root)


def compare_files(seed: int, largest: Differences) -> None:
    """Compare the columns of a `loco` run on a random tree of files, with a crop for every third seed."""
    tifffile, program, image, aggregation = (
        import_module(name) for name in ("tifffile", "evaluate_experiment", "src.image", "src.aggregation")
    )
    rng = np.random.default_rng(seed)
    shape = (170, 100 if seed % 2 else 250)
    preprocessing = Preprocessing(64 if seed % 3 == 2 else SIDE, SIDE, keep_aspect=False)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        dataset: Any = write_tree(rng, root, shape)
        samples = [sample for sample in dataset.samples("pushpins") if sample.split == "test"]
        maps = np.stack([gaussian_filter(rng.standard_normal((SIDE, SIDE)), 1.5) for _ in samples]).astype(np.float32)
        for values, sample in zip(maps, samples, strict=True):
            for mask, _ in dataset.regions(sample) if sample.is_defect else ():
                small = Image.fromarray(mask.astype(np.uint8) * 255).resize((SIDE, SIDE))
                values += rng.uniform(0, 0.5) * (np.asarray(small) > 127)
        full = [restore_size(values, shape, preprocessing) for values in maps]
        for sample, values in zip(samples, full, strict=True):
            file = root / "maps" / sample.defect / f"{sample.image.stem}.tiff"
            file.parent.mkdir(parents=True, exist_ok=True)
            finite = np.where(np.isneginf(values), maps.min() - 1, values)  # cut off: below all, but finite
            tifffile.imwrite(file, finite.astype(np.float32))
        labels = np.array([sample.is_defect for sample in samples])
        scores = np.array([values.max() for values in full], np.float32)
        predictions = CategoryPredictions(samples, labels, scores, maps, np.zeros(maps.shape, bool), {})
        ours = spro_metrics(predictions, dataset, preprocessing, LIMITS)
        ours |= image_metrics_by_kind(predictions, dataset.defect_kinds)

        def published() -> tuple[Any, Any]:
            configs = image.DefectsConfig.create_from_list(DEFECTS)
            truth, read = program.read_maps(str(root / "pushpins/ground_truth"), str(root / "maps"), configs)
            # float64: with float32 scores and small steps the published program stops with an assertion
            read = [type(m)(m.np_array.astype(np.float64), m.file_path) for m in read]
            np.random.seed(0)  # noqa: NPY002
            result = aggregation.MetricsAggregator(truth, read).run(curve_max_distance=STEP)
            localization = program.get_auc_spro_results(result, str(root / "maps"))["auc_spro"]
            return localization, program.get_image_level_detection_metrics(truth, read)["auc_roc"]

        localization, detection = quietly(published)
    for limit in LIMITS:
        largest.add(f"column auspro_{limit}", localization["mean"][limit], ours[f"auspro_{limit}"] or 0.0)
    for kind in KINDS:
        own = ours[f"auspro_0.05_{kind}"] or 0.0
        largest.add("columns auspro_0.05 of a kind", localization[f"{kind}_anomalies"][0.05], own)
        own = ours[f"image_auroc_{kind}"] or 0.0
        largest.add("columns image_auroc of a kind", detection[f"{kind}_anomalies"], own)


def main() -> int:
    """Compare all cases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--sets", type=int, default=40, help="random sets of maps, each with and without ties")
    parser.add_argument("--trees", type=int, default=12, help="random trees of files")
    options = parser.parse_args()
    sys.path.insert(0, str(options.checkout))
    largest = Differences()
    for seed in range(options.sets):
        for ties in (False, True):
            compare_arrays(seed, ties, largest)
    for seed in range(options.trees):
        compare_files(seed, largest)
    print("| value | largest difference |\n|---|---|")
    for name, difference in sorted(largest.items()):
        print(f"| {name} | {difference:.1e} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
