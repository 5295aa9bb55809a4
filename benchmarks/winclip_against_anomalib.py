"""Compare WinCLIP with anomalib's: values and speed on the same random weights and photographs.

    python benchmarks/winclip_against_anomalib.py --peer-python PY --root mvtec_ad --category bottle

`PY` is the Python of an environment with `pip install anomalib==2.7.0 "open-clip-torch<2.26.1"`. Both sides load one
state dict of ViT-B-16-plus-240 and get the same pixels: 240 x 240, bicubic. Compared are prompts, text prototypes, the
embeddings of an image, its patches and its windows, and maps and scores without, with one and with two references.
anomalib has 21 templates, one of them twice; ours gets the same list through a prompts file. With random weights all
scores are similar, so a difference is also given as a share of the standard deviation of anomalib's values.

Times are from pixels to scores, without start-up: the time to encode the images plus the time to score them. "cached
features" are read from our disk cache, as in any run after the first. CPU seconds, summed over the cores, depend less
on other processes than seconds.

Cost: about 2 CPU minutes per side and round for 4 images.
Expected: every difference below 1e-4; docs/winclip.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from _rounds import Side, machine, run_alternately, write_section
from safetensors.torch import save_file

from anoframe.backbones.clip import ClipEncoder
from anoframe.config import load_config
from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.preprocessing import Preprocessing
from anoframe.evaluation.provenance import versions
from anoframe.features.extraction import FeatureLoader
from anoframe.models.winclip.model import WinCLIP
from anoframe.tracking.tracker import Trackers
from anoframe.types import Sample
from anoframe.utils.tensor_cache import TensorCache

PEER_SIDE = Path(__file__).with_name("_winclip_peer.py")
BACKBONE = "open_clip:ViT-B-16-plus-240"
OURS, BFLOAT16, PEER = "anoframe", "anoframe, bfloat16", "anomalib"
SIDE = 240
SHOTS = (0, 1, 2)
NUM_PROMPTS = 11 * 21
# Row of the table -> parts of a side's time.
PASSES = {
    "zero-shot": ("encode", "score 0"),
    "two references": ("encode", "score 2"),
    "zero-shot, cached features": ("cached", "score 0"),
    "two references, cached features": ("cached", "score 2"),
}


# ------------------------------------------------------------------------------------------------ our side


class Clock:
    """Wall and CPU seconds of named parts."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def reference_detector(clip: ClipEncoder, prompts: str, features: dict[str, torch.Tensor], category: str) -> WinCLIP:
    """Train a few-shot detector on features of references."""
    detector = WinCLIP(clip, prompts, use_references=True)
    (stage,) = detector.training_stages()
    stage.begin(len(features["image"]))
    stage.observe(features, [Sample(Path("reference.png"), category, "train")] * len(features["image"]))
    stage.finish()
    return detector


def encode(detector: WinCLIP, images: torch.Tensor, batch: int) -> dict[str, torch.Tensor]:
    parts = [detector.encode(part) for part in images.split(batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def run_ours(options: argparse.Namespace) -> None:
    """Measure our side and print JSON."""
    scratch, clock, category = options.scratch, Clock(), options.category
    precision = "bfloat16" if options.side == BFLOAT16 else "float32"
    clip = ClipEncoder(BACKBONE, str(scratch / "weights.safetensors"), precision)
    stored = np.load(scratch / "images.npz")
    test, references = (torch.from_numpy(stored[name]).permute(0, 3, 1, 2) for name in ("test", "references"))
    prompts = str(scratch / "prompts.yaml")
    zero_shot = WinCLIP(clip, prompts)
    with clock.measure("text"):
        text = zero_shot.add_category({"image": torch.zeros(1)}, [category])["text"][0]
    learned = encode(zero_shot, references, options.batch)  # also a warm-up
    with clock.measure("encode"):
        features = encode(zero_shot, test, options.batch)
    values = {"prompts": np.array([*chain(*zero_shot.prompts.prompts(category))]), "text": text.numpy()}
    values |= {name: value.numpy() for name, value in features.items()}
    detectors = [zero_shot]
    for shots in (1, 2):
        some = {name: value[:shots] for name, value in learned.items()}
        detectors.append(reference_detector(clip, prompts, some, category))
    for shots, detector in enumerate(detectors):
        with clock.measure(f"score {shots}"):
            prediction = detector.detect(features, (SIDE, SIDE), [category] * len(test))
        assert prediction.anomaly_map is not None
        values |= {f"maps{shots}": prediction.anomaly_map.numpy(), f"scores{shots}": prediction.score.numpy()}
    if options.side == OURS:
        read_cached(zero_shot, features, options, clock)
    np.savez(scratch / f"{options.side}.npz", **values)
    seconds = clock.parts["encode"]["seconds"]
    print(json.dumps({"seconds": seconds, "parts": clock.parts, "versions": {"torch": versions()["torch"]}}))


def read_cached(detector: Any, features: dict[str, torch.Tensor], options: argparse.Namespace, clock: Clock) -> None:
    """Write features to a cache, and measure a pass that reads them."""
    files = json.loads((options.scratch / "files.json").read_text())
    samples = [Sample(Path(file), options.category, "test") for file in files]
    caches = [TensorCache(options.scratch / name, 10**9) for name in ("pixels", "features")]

    def load(batch: int) -> None:
        reader = Reader(preprocessing(), caches[0])
        for part in FeatureLoader(detector, samples, reader, batch, 0, Trackers(), caches[1]):
            assert len(part) <= batch

    known = iter([{name: value[row : row + 1] for name, value in features.items()} for row in range(len(samples))])
    detector.extract_features = lambda images: next(known)  # they are known: encoding again would only take time
    load(1)
    with clock.measure("cached"):
        load(options.batch)


# ------------------------------------------------------------------------------------------------ input


def preprocessing() -> Preprocessing:
    """The preprocessing of our configs."""
    data = load_config("winclip/winclip_zero_shot.py").data
    return Preprocessing(data.resize, data.crop, data.keep_aspect, data.jpeg_draft, data.interpolation)


def write_input(options: argparse.Namespace, scratch: Path) -> None:
    """Write weights, pixels, and the prompts of the peer."""
    encoder = ClipEncoder(BACKBONE, "random:0")
    save_file(
        {name: value.contiguous() for name, value in encoder.network.state_dict().items()},
        scratch / "weights.safetensors",
    )
    samples = open_dataset(options.data, options.root).samples(options.category)
    tested = [sample.image for sample in samples if sample.split == "test"]
    tested = tested[:: max(1, len(tested) // options.images)][: options.images]  # of all defect types
    trained = [sample.image for sample in samples if sample.split == "train"][:2]
    reader = Reader(preprocessing())
    pixels = {
        name: torch.stack([reader.image(file).pixels for file in files]).permute(0, 2, 3, 1).numpy()
        for name, files in (("test", tested), ("references", trained))
    }
    np.savez(scratch / "images.npz", **pixels)
    (scratch / "files.json").write_text(json.dumps([str(file.resolve()) for file in tested]))
    code = "import json; from anomalib.models.image.winclip.prompting import *; "
    code += "print(json.dumps(dict(templates=TEMPLATES, normal=NORMAL_STATES, defect=ANOMALOUS_STATES)))"
    side = Side("lists", [options.peer_python, "-W", "ignore", "-c", code])
    side.run(options.threads)
    lists = side.results[0]
    lists["templates"] = [template.removesuffix(".") for template in lists["templates"]]
    (scratch / "prompts.yaml").write_text(yaml.safe_dump(lists))


# ------------------------------------------------------------------------------------------------ tables


def differences(ours: Any, peer: Any) -> list[str]:
    """Lines of the table of differences."""
    assert ours["prompts"].tolist() == peer["prompts"].tolist(), "the prompts differ"
    lines = [
        f"All {len(peer['prompts'])} prompts are equal.",
        "",
        "| value | largest difference | share of the spread |",
        "|---|---|---|",
    ]
    names = {"text": "text prototypes", "image": "image embedding", "patches": "patch tokens, unit length"}
    names |= {f"windows{k}": f"embeddings of {k} x {k} windows" for k in (2, 3)}
    for shots in SHOTS:
        names |= {f"scores{shots}": f"scores, {shots} references", f"maps{shots}": f"maps, {shots} references"}
    for key, title in names.items():
        gap = float(np.abs(ours[key].reshape(peer[key].shape) - peer[key]).max())
        lines.append(f"| {title} | {gap:.1e} | {gap / peer[key].std():.1e} |")
    return lines


def speeds(sides: list[Side], images: int) -> list[str]:
    """Lines of the table of times per image."""
    lines = [
        "| pass | side | s per image | CPU s per image | images per s | anomalib / ours, CPU s |",
        "|---" * 6 + "|",
    ]
    peer = sides[-1]
    for title, parts in PASSES.items():
        uncached = tuple("encode" if part == "cached" else part for part in parts)
        for side in (side for side in sides if set(parts) <= side.results[0]["parts"].keys()):
            wall, cpu = (median(side, parts, key) / images for key in ("seconds", "cpu"))
            ratio = median(peer, uncached, "cpu") / images / cpu
            lines.append(f"| {title} | {side.name} | {wall:.3g} | {cpu:.3g} | {1 / wall:.3g} | {ratio:.2f} |")
    texts = ", ".join(f"{side.name} {median(side, ('text',), 'cpu'):.1f} s" for side in sides)
    return [*lines, "", f"CPU time of the {NUM_PROMPTS} prompts of a category, once: {texts}."]


def median(side: Side, parts: Sequence[str], key: str) -> float:
    """Median over rounds of the sum of the parts."""
    return statistics.median(sum(result["parts"][part][key] for part in parts) for result in side.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=os.path.abspath, help="interpreter that has anomalib")
    parser.add_argument("--data", default="mvtec", help="name of the dataset")
    parser.add_argument("--root", type=Path, help="root of the dataset")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--peer-batch", type=int, help="images per forward pass of anomalib; default: --batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="measure our bfloat16 as well")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return run_ours(options)
    if not options.peer_python or not options.root:
        parser.error("--peer-python and --root are required")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["ANOFRAME_CACHE"] = str(scratch / "cache")
        write_input(options, scratch)
        common = ["--category", options.category, "--batch", str(options.batch), "--scratch", str(scratch)]
        sides = [
            Side(name, [sys.executable, str(Path(__file__).resolve()), "--side", name, *common])
            for name in (OURS, *([BFLOAT16] if options.bfloat16 else []))
        ]
        files = [str(scratch / name) for name in ("weights.safetensors", "images.npz", "anomalib.npz")]
        peer = [options.peer_python, "-W", "ignore", str(PEER_SIDE), *files, "--category", options.category]
        sides.append(Side(PEER, [*peer, "--batch", str(options.peer_batch or options.batch)]))
        run_alternately(sides, options.rounds, options.threads)
        values = {side.name: np.load(scratch / f"{side.name}.npz") for side in sides}
        lines = differences(values[OURS], values[PEER])
        if options.bfloat16:
            lines += ["", "In bfloat16:", "", *differences(values[BFLOAT16], values[PEER])[2:]]
        lines += ["", *speeds(sides, options.images), ""]
        lines += [f"{side.name}: peak {max(side.peak):.0f} MiB, {side.results[-1]['versions']}" for side in sides]
        lines += [
            f"{options.images} images, batches of {options.batch} (anomalib {options.peer_batch or options.batch}), "
        ]
        lines[-1] += f"{options.rounds} rounds in turn, {options.threads} threads, on {machine()}."
    text = "\n".join(lines)
    print(text)
    write_section("winclip", text)


if __name__ == "__main__":
    main()
