"""Time of an epoch of RAML from cached features, compared with an epoch that reads and encodes the images.

    python benchmarks/raml_epoch.py

The config raml_lite2 on PNG files of 1024 x 1024 pixels, the size of most images of MVTec AD, made from one photograph.
Three epochs are timed: one that encodes, as without a cache; the first one of a run, which reads the features from the
disk cache; and a later one, whose features are in memory. Prints images per second and ratios; the rounds alternate.
Cost: two minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.config import load_config, to_plain
from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.features.extraction import FeatureLoader
from anoframe.models.factory import build_detector
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner
from anoframe.types import Sample
from anoframe.utils.tensor_cache import TensorCache

EPOCHS = 21  # of the run whose later epochs are timed


def write_photographs(folder: Path, count: int) -> list[Sample]:
    """Write shifted copies of one photograph; every fourth counts as a defect."""
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    large = np.asarray(Image.fromarray(astronaut()).resize((1024, 1024), Image.Resampling.LANCZOS))
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(np.roll(large, 17 * number, axis=1)).save(path)
        samples.append(Sample(path, ("astronaut", "pilot")[number % 2], "train", "good" if number % 4 else "shifted"))
    return samples


class Epochs:
    """Trains new detectors on the same photographs for some epochs.

    Args:
        samples: of the photographs.
        folder: of the feature cache.
    """

    def __init__(self, samples: list[Sample], folder: Path):
        self.cfg: Any = load_config("raml/raml_lite2.py", {"data.workers": 0})
        data = self.cfg.data
        self.reader = Reader(Preprocessing(data.resize, data.crop, data.keep_aspect, interpolation=data.interpolation))
        self.samples, self.cache = samples, TensorCache(folder, 10**9)

    def seconds(self, epochs: int, cached: bool) -> float:
        """Time a training from the files, with or without the feature cache."""
        detector = build_detector(to_plain(self.cfg.model)).eval()
        context = FitContext("photographs", 0, {**to_plain(self.cfg.trainer), "epochs": epochs}, Trackers())
        started = time.perf_counter()
        loader = FeatureLoader(detector, self.samples, self.reader, 16, 0, Trackers(), self.cache if cached else None)
        fit_learner(detector, loader, len(self.samples), StageTimer(Trackers()), context)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        epochs = Epochs(write_photographs(Path(folder), arguments.images), Path(folder) / "cache")
        epochs.seconds(1, cached=True)  # fills the cache, and loads all code
        times: dict[str, list[float]] = {"encodes": [], "first, from the disk cache": [], "later, in memory": []}
        for _ in range(arguments.rounds):
            first = epochs.seconds(1, cached=True)
            times["encodes"].append(epochs.seconds(1, cached=False))
            times["first, from the disk cache"].append(first)
            times["later, in memory"].append((epochs.seconds(EPOCHS, cached=True) - first) / (EPOCHS - 1))
    slowest = statistics.median(times["encodes"])
    print("| epoch | seconds, median (min to max) | images/s | times as fast |\n|---|---|---|---|")
    for name, values in times.items():
        middle = statistics.median(values)
        spread = f"{middle:.3g} ({min(values):.3g} to {max(values):.3g})"
        print(f"| {name} | {spread} | {arguments.images / middle:.3g} | {slowest / middle:.3g} |")


if __name__ == "__main__":
    main()
