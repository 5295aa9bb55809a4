"""Compare RD4AD with anomalib's from the same initial weights: losses, and seconds per training step.

    python benchmarks/rd4ad_speed.py --anomalib-python PY

WideResNet-50-2 with random weights, 256 x 256, the narrow bottleneck of anomalib, its Adam settings, the same batch of
random images in every step. anomalib runs its teacher in each step; here the features are computed once, in a pass
that is timed separately, and the trainer reads them from memory. Each side runs with its defaults; two more sides of
ours have one option each: `channels_last`, and `precision` bfloat16, for processors with bfloat16 instructions. The
time of a step is the median of all but the first. Cost: 10 to 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _rounds import Side, run_alternately, table, write_section

OPTIONS: dict[str, dict[str, object]] = {
    "anoframe": {},
    "anoframe, channels_last": {"trainer.channels_last": True},
    "anoframe, bfloat16": {"trainer.precision": "bfloat16"},
}
# Names in anomalib (and in the code of the authors) -> names here.
_FUSION = {"conv1": "0.0.0", "bn1": "0.0.1", "conv2": "0.1.0", "bn2": "0.1.1", "conv3": "1.0.0", "bn3": "1.0.1"}
_UNUSED = r"bottleneck\.(conv|bn)4\."
_BLOCK = r"(?:bottleneck\.bn_layer|decoder\.layer(\d))\.(\d+)\.(?:(conv|bn)(\d)|(?:down|up)sample\.(\d))\.(.*)"


def rename_tensor(name: str) -> str:
    """Return the name in `ReverseDistillation` of a tensor of anomalib's student."""
    fusion = re.fullmatch(r"bottleneck\.((?:conv|bn)\d)\.(.*)", name)
    if fusion:
        return f"branches.{_FUSION[fusion[1]]}.{fusion[2]}"
    level, block, kind, number, shortcut, rest = re.fullmatch(_BLOCK, name).groups()  # type: ignore[union-attr]
    module = f"stages.{3 - int(level)}" if level else "code"
    layer = f"residual.{3 * (int(number) - 1) + (kind == 'bn')}" if kind else f"shortcut.{shortcut}"
    return f"{module}.{block}.{layer}.{rest}"


def ours(start: Path, steps: int, side: str) -> None:
    """Train from the initial state of the peer, with the options of a side, and print the result as JSON."""
    import torch
    from safetensors.torch import load_file

    from anoframe.config import load_config, to_plain
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
    tensors = load_file(start)
    features = [tensors[f"features.{i}"] for i in range(3)]
    count = len(features[0])
    overrides = {"model.backbone.weights": "random", "trainer.steps": steps, "trainer.batch_size": count}
    overrides |= {"trainer.optimizer.betas": (0.5, 0.99), **OPTIONS[side]}
    cfg = load_config("rd4ad/rd4ad_256_light.py", overrides)
    detector = build_detector(to_plain(cfg.model)).eval()
    trained = {name: value for name, value in tensors.items() if not re.match(rf"features|{_UNUSED}", name)}
    detector.load_learned_state({f"student.{rename_tensor(name)}": value for name, value in trained.items()})
    start_time = time.perf_counter()
    detector.encode(torch.randint(0, 256, (count, 3, 256, 256), dtype=torch.uint8))
    encoder = time.perf_counter() - start_time
    samples = tuple(Sample(Path(f"{i}.png"), "noise", "train") for i in range(count))
    store = FeatureStore([FeatureBatch(features, torch.zeros(0), samples)], count, torch.device("cpu"))
    training = FitContext("noise", 0, to_plain(cfg.trainer), Trackers())
    (phase,) = detector.training_stages()
    PhaseTrainer(detector, phase, 0, store, phase_settings(training.section, "student"), training).run()  # type: ignore[arg-type]
    epochs = training.curves["phases"][0]["epochs"]
    step = statistics.median(epoch["seconds"] for epoch in epochs[1:])
    losses = [epoch["losses"]["cosine"] for epoch in epochs]
    result = {"seconds": step, "images": f"{count / step:.2f}", "losses": losses, "encoder": f"{encoder:.1f}"}
    print(json.dumps({**result, "versions": {"torch": versions()["torch"]}}))


def losses(sides: list[Side]) -> str:
    """Format the losses as Markdown: one row per step, one column per side."""
    head = "| step | " + " | ".join(f"loss, {side.name}" for side in sides) + " |\n" + "|---" * (len(sides) + 1) + "|"
    steps = zip(*(side.results[-1]["losses"] for side in sides), strict=True)
    rows = [f"| {i + 1} | " + " | ".join(f"{loss:.6f}" for loss in step) + " |" for i, step in enumerate(steps)]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, help="interpreter that has anomalib")
    parser.add_argument("--images", type=int, default=8, help="images per batch")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", default="anoframe", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        ours(options.start, options.steps, options.side)
        return
    if not options.anomalib_python:
        parser.error("--anomalib-python is needed")
    with tempfile.TemporaryDirectory() as folder:
        start, steps = str(Path(folder) / "start.safetensors"), ["--steps", str(options.steps)]
        script = Path(__file__).resolve()
        peer = [
            options.anomalib_python,
            str(script.with_name("_rd4ad_peer.py")),
            start,
            "--images",
            str(options.images),
        ]
        theirs = Side("anomalib", [*peer, *steps])
        ours_sides = [
            Side(name, [sys.executable, str(script), "--start", start, "--side", name, *steps]) for name in OPTIONS
        ]
        theirs.run(2)  # writes the initial state that our sides read
        theirs = Side(theirs.name, theirs.command)
        run_alternately([*ours_sides, theirs], options.rounds)
    extra = {"images per second": "images", "encoder pass, seconds": "encoder"}
    text = f"{table([*ours_sides, theirs], extra)}\n\n{losses([*ours_sides, theirs])}"
    print(text)
    write_section("rd4ad", text)


if __name__ == "__main__":
    main()
