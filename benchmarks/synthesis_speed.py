"""CPU time per image of each generator of synthetic anomalies.

    OMP_NUM_THREADS=1 python benchmarks/synthesis_speed.py

Drawn images: a dark textured disc on a bright background, like `bottle` of MVTec AD. Reading files is not included. The
memory is the largest amount that Python and NumPy allocated at the same time for one image, beside the image itself.
Expected: docs/synthesis.md. Takes about a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anoframe.data.synthesis.base import Context, Generator, item_rng
from anoframe.data.synthesis.mixture import build_generator

SECTIONS: tuple[dict[str, Any], ...] = (
    {"name": "cutpaste_patch"},
    {"name": "cutpaste_scar"},
    {"name": "cutpaste_nsa", "like": "bottle"},
    {"name": "nsa", "like": "tile"},
    {"name": "nsa", "like": "bottle"},
    {"name": "nsa", "like": "bottle", "label": "logistic"},
    {"name": "fpi", "like": "bottle"},
    {"name": "fpi_poisson", "like": "bottle"},
    {"name": "draem", "p_anomaly": 1.0},
    {"name": "draem", "texture": "perlin", "p_anomaly": 1.0},
    {"name": "cdo"},
    {"name": "cdo", "version": 2023},
    {"name": "smooth_blend"},
    {"name": "mixture", "p_anomaly": 1.0},
)


def draw_images(size: int, count: int = 8) -> list[np.ndarray]:
    """Draw textured discs on a bright background, uint8 [size, size, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    images = []
    for _ in range(count):
        texture = 60 + 300 * gaussian_filter(rng.standard_normal((size, size, 3)), (2, 2, 0))
        inside = np.hypot(y - rng.normal(0, 0.02), x - rng.normal(0, 0.02)) < 0.4
        pixels = np.where(inside[..., None], texture, 210 + rng.standard_normal((size, size, 3)))
        images.append(np.rint(pixels).clip(0, 255).astype(np.uint8))
    return images


def milliseconds(generator: Generator, images: list[np.ndarray], runs: int) -> np.ndarray:
    """Return the CPU time of each of `runs` edits in milliseconds."""
    times = []
    for number in range(runs + 3):  # the first ones fill caches
        index = number % len(images)
        context, rng = Context("bottle", images, index), item_rng(0, 0, number)
        start = time.process_time()
        generator.generate(images[index], rng, context)
        times.append(1000 * (time.process_time() - start))
    return np.array(times[3:])


def peak_mebibytes(generator: Generator, images: list[np.ndarray], runs: int = 20) -> float:
    """Return the largest amount of memory allocated during an edit."""
    tracemalloc.start()
    try:
        for number in range(runs):
            generator.generate(images[number % 8], item_rng(1, 0, number), Context("bottle", images, number % 8))
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def table_lines(sizes: Iterable[int], runs: int) -> Iterable[str]:
    """Yield the lines of a Markdown table."""
    yield "| generator | size | CPU ms per image, median | 95 % below | MiB |"
    yield "|---|---|---|---|---|"
    for size in sizes:
        images = draw_images(size)
        for section in SECTIONS:
            generator = build_generator(section)
            times = milliseconds(generator, images, runs)
            name = " ".join(str(value) for key, value in section.items() if key != "p_anomaly")
            median, high = np.percentile(times, [50, 95])
            yield f"| {name} | {size} | {median:.1f} | {high:.1f} | {peak_mebibytes(generator, images):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="sides of the images (default: 256)")
    parser.add_argument("--runs", type=int, default=100, help="timed edits per generator (default: 100)")
    options = parser.parse_args()
    for line in table_lines(options.sizes, options.runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
