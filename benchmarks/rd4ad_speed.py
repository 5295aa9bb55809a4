"""RD4AD beside anomalib's from the same initial weights: is the loss the same, and how long does a step take?

    python benchmarks/rd4ad_speed.py --anomalib-python PY

WideResNet-50-2 with random weights, 256 x 256, the narrow code blocks that anomalib has, anomalib's Adam, a batch of
random images again and again. anomalib runs its teacher in each step; here its features are computed once, in a pass
that is timed by itself, and the trainer takes them from memory. Each side runs as it does by default; two more of ours
have one option each: `channels_last`, and `precision` bfloat16, for a processor that computes it. A step
is the median of all but the first. Cost: 10 to 20 minutes on two cores.
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

from _rounds import Side, alternate, keep, table

OPTIONS: dict[str, dict[str, object]] = {
    "anoframe": {},
    "anoframe, channels_last": {"trainer.channels_last": True},
    "anoframe, bfloat16": {"trainer.precision": "bfloat16"},
}
# Names in anomalib, which are those of the authors' code, and here.
_FUSION = {"conv1": "0.0.0", "bn1": "0.0.1", "conv2": "0.1.0", "bn2": "0.1.1", "conv3": "1.0.0", "bn3": "1.0.1"}
_UNUSED = r"bottleneck\.(conv|bn)4\."
_BLOCK = r"(?:bottleneck\.bn_layer|decoder\.layer(\d))\.(\d+)\.(?:(conv|bn)(\d)|(?:down|up)sample\.(\d))\.(.*)"


def renamed(name: str) -> str:
    """The name that a tensor of anomalib's student has in `ReverseDistillation`."""
    fusion = re.fullmatch(r"bottleneck\.((?:conv|bn)\d)\.(.*)", name)
    if fusion:
        return f"branches.{_FUSION[fusion[1]]}.{fusion[2]}"
    level, block, kind, number, shortcut, rest = re.fullmatch(_BLOCK, name).groups()  # type: ignore[union-attr]
    where = f"stages.{3 - int(level)}" if level else "code"
    part = f"residual.{3 * (int(number) - 1) + (kind == 'bn')}" if kind else f"shortcut.{shortcut}"
    return f"{where}.{block}.{part}.{rest}"


def ours(start: Path, steps: int, side: str) -> None:
    """Train from what the peer began with, with the options of a side; prints what a side prints."""
    import torch
    from safetensors.torch import load_file

    from anoframe.config import load_config, plain
    from anoframe.evaluation.provenance import versions
    from anoframe.features.extraction import Encoded
    from anoframe.features.store import FeatureStore
    from anoframe.models.factory import build_detector
    from anoframe.tracking.tracker import Trackers
    from anoframe.training.loop import PhaseTrainer, Training
    from anoframe.training.settings import settings_of
    from anoframe.training.stages import seed_everything
    from anoframe.types import Sample

    seed_everything(0)
    given = load_file(start)
    features = [given[f"features.{i}"] for i in range(3)]
    count = len(features[0])
    changes = {"model.backbone.weights": "random", "trainer.steps": steps, "trainer.batch_size": count}
    changes |= {"trainer.optimizer.betas": (0.5, 0.99), **OPTIONS[side]}
    cfg = load_config("rd4ad/rd4ad_256_light.py", changes)
    detector = build_detector(plain(cfg.model)).eval()
    trained = {name: value for name, value in given.items() if not re.match(rf"features|{_UNUSED}", name)}
    detector.load_learned_state({f"student.{renamed(name)}": value for name, value in trained.items()})
    began = time.perf_counter()
    detector.encode(torch.randint(0, 256, (count, 3, 256, 256), dtype=torch.uint8))
    encoder = time.perf_counter() - began
    samples = tuple(Sample(Path(f"{i}.png"), "noise", "train") for i in range(count))
    store = FeatureStore([Encoded(features, torch.zeros(0), samples)], count, torch.device("cpu"))
    training = Training("noise", 0, plain(cfg.trainer), Trackers())
    (phase,) = detector.training_stages()
    PhaseTrainer(detector, phase, 0, store, settings_of(training.section, "student"), training).run()  # type: ignore[arg-type]
    epochs = training.curves["phases"][0]["epochs"]
    step = statistics.median(epoch["seconds"] for epoch in epochs[1:])
    losses = [epoch["losses"]["cosine"] for epoch in epochs]
    said = {"seconds": step, "images": f"{count / step:.2f}", "losses": losses, "encoder": f"{encoder:.1f}"}
    print(json.dumps({**said, "versions": {"torch": versions()["torch"]}}))


def losses(sides: list[Side]) -> str:
    """Of each step, a column a side."""
    head = "| step | " + " | ".join(f"loss, {side.name}" for side in sides) + " |\n" + "|---" * (len(sides) + 1) + "|"
    steps = zip(*(side.said[-1]["losses"] for side in sides), strict=True)
    rows = [f"| {i + 1} | " + " | ".join(f"{loss:.6f}" for loss in step) + " |" for i, step in enumerate(steps)]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anomalib-python", type=os.path.abspath, help="interpreter that has anomalib")
    parser.add_argument("--images", type=int, default=8, help="of a batch")
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
        here = Path(__file__).resolve()
        peer = [options.anomalib_python, str(here.with_name("_rd4ad_peer.py")), start, "--images", str(options.images)]
        theirs = Side("anomalib", [*peer, *steps])
        mine = [Side(name, [sys.executable, str(here), "--start", start, "--side", name, *steps]) for name in OPTIONS]
        theirs.run(2)  # ours begins with what it writes
        theirs = Side(theirs.name, theirs.command)
        alternate([*mine, theirs], options.rounds)
    extra = {"images a second": "images", "encoder's pass, seconds": "encoder"}
    text = f"{table([*mine, theirs], extra)}\n\n{losses([*mine, theirs])}"
    print(text)
    keep("rd4ad", text)


if __name__ == "__main__":
    main()
