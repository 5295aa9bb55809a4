"""Compare SimCLR with lightly's from the same weights on the same views: losses, one whole step, seconds per step.

    python benchmarks/simclr_against_lightly.py --lightly-python PY

ResNet-18, a projection head without BatchNorm, NT-Xent at 0.1, Adam with weight decay, the same batch of views in every
step. First one optimiser step in float64, after which all weights and statistics are compared: there, a difference is a
difference of the method, not of rounding, which Adam's first step makes as large as the learning rate wherever a
gradient is near 0. Then several steps in float32, timed: the median of all but the first. Our side is the whole
trainer, with its logs and measurements; the views of both sides are in memory. Other work on the machine makes steps
slower at random, so the least CPU seconds of a step are given too. Further sides of ours have `trainer.channels_last`,
or compute the batch in four micro-batches, twice each. Cost: a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from _rounds import Side, run_alternately, table, write_section

SIDES: dict[str, dict[str, Any]] = {  # name -> options of `ours`
    "anoframe": {},
    "anoframe, channels_last": {"channels_last": True},
    "anoframe, 4 micro-batches": {"micro_batches": 4},
}


def write_start(path: Path, images: int, size: int) -> None:
    """Write initial weights and a batch of two views."""
    import torch
    from safetensors.torch import save_file

    from anoframe.backbones.encoder import create_network
    from anoframe.pretraining.heads import ProjectionHead

    torch.manual_seed(0)
    backbone, head = create_network("resnet18"), ProjectionHead(512, 512, 128, False)
    tensors = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    base = torch.rand(images, 3, size, size)
    views = {name: (base + 0.1 * torch.randn_like(base)).clamp(0, 1) for name in ("first", "second")}
    save_file({**tensors, **views}, path)


def ours(
    start: Path, result: Path, steps: int, precision: str, micro_batches: int = 1, channels_last: bool = False
) -> None:
    """Train with the trainer, write the weights, and print the result as JSON."""
    import torch
    from safetensors.torch import load_file, save_file

    from anoframe.backbones.encoder import Encoder
    from anoframe.config import load_config, to_plain
    from anoframe.data.cached_reader import Reader
    from anoframe.data.preprocessing import Preprocessing
    from anoframe.evaluation.provenance import versions
    from anoframe.pretraining.simclr import SimCLR
    from anoframe.pretraining.views import view_settings
    from anoframe.tracking.timing import StageTimer
    from anoframe.tracking.tracker import Trackers
    from anoframe.training.context import FitContext
    from anoframe.training.stages import fit_learner
    from anoframe.training.views import TrainingImages
    from anoframe.types import Sample

    tensors, dtype = load_file(start), getattr(torch, precision)
    views = {name: tensors[name].to(dtype) for name in ("first", "second")}
    count = len(views["first"])

    times: list[float] = []  # CPU seconds of this process at the start of each step

    class Stored(SimCLR):
        """SimCLR whose views are given."""

        def losses(self, batch):
            times.append(time.process_time())
            return super().losses(batch)

        def views(self):
            return lambda images, row, rng: {name: view[row] for name, view in views.items()}

    encoder = Encoder("resnet18", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    settings = view_settings({"size": views["first"].shape[-1]})
    learner = Stored(encoder, settings, head_bn=False, micro_batches=micro_batches)
    encoder.network.load_state_dict({n[9:]: v for n, v in tensors.items() if n.startswith("backbone.")})
    learner.head.load_state_dict({n[5:]: v for n, v in tensors.items() if n.startswith("head.")})
    learner.to(dtype)
    keys = {"batch_size": count, "steps": steps, "optimizer.lr": 3e-4, "optimizer.weight_decay": 1e-4}
    keys |= {"optimizer.decay_vectors": True, "schedule.name": "constant", "schedule.warmup_epochs": 0.0}
    keys["channels_last"] = channels_last
    cfg = load_config("__base__/pretraining.py", {f"trainer.{name}": value for name, value in keys.items()})
    context = FitContext("encoder", 0, to_plain(cfg.trainer), Trackers())
    images = TrainingImages([Sample(Path(f"{i}"), "noise", "train") for i in range(count)], Reader(Preprocessing(8, 8)))
    fit_learner(learner, (), count, StageTimer(Trackers()), context, images=images)
    state = {f"backbone.{name}": value for name, value in encoder.network.state_dict().items()}
    save_file(state | {f"head.{name}": value for name, value in learner.head.state_dict().items()}, result)
    epochs = context.curves["phases"][0]["epochs"]
    seconds = [epoch["seconds"] for epoch in epochs]
    losses = [epoch["losses"]["nt_xent"] for epoch in epochs]
    processor = [end - start for start, end in pairwise([*times, time.process_time()])]
    step, cpu = (statistics.median(values[1:] or values) for values in (seconds, processor))
    shown = {"seconds": step, "cpu_step": f"{cpu:.3f}", "least_cpu": min(processor), "losses": losses}
    print(json.dumps({**shown, "versions": {"torch": versions()["torch"]}}))


def compare(first: Path, second: Path) -> tuple[float, str]:
    """Return the largest difference of two sets of tensors, and the name of that tensor."""
    from safetensors.torch import load_file

    states = load_file(first), load_file(second)
    assert states[0].keys() == states[1].keys(), states[0].keys() ^ states[1].keys()
    return max((float((states[0][name] - states[1][name]).abs().max()), name) for name in states[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lightly-python", type=os.path.abspath, help="interpreter that has lightly and torchvision")
    parser.add_argument("--images", type=int, default=64, help="images per batch")
    parser.add_argument("--size", type=int, default=64, help="side of a view in pixels")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="1 on a machine with other work")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--side", default="anoframe", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        ours(options.start, options.result, options.steps, options.precision, **SIDES[options.side])
        return
    if not options.lightly_python:
        parser.error("--lightly-python is needed")
    with tempfile.TemporaryDirectory() as name:
        folder, script = Path(name), Path(__file__).resolve()
        start = folder / "start.safetensors"
        write_start(start, options.images, options.size)

        def sides(steps: int, precision: str) -> list[Side]:
            common = ["--steps", str(steps), "--precision", precision]
            own = [
                Side(
                    side,
                    [
                        *[sys.executable, str(script), "--start", str(start)],
                        *["--result", str(folder / f"{side}.safetensors"), "--side", side, *common],
                    ],
                )
                for side in SIDES
            ]
            peer = [options.lightly_python, str(script.with_name("_lightly_side.py")), str(start)]
            return [*own, Side("lightly", [*peer, str(folder / "lightly.safetensors"), *common])]

        exact = sides(1, "float64")
        run_alternately([exact[0], exact[-1]], 1, options.threads)
        difference, tensor = compare(folder / "anoframe.safetensors", folder / "lightly.safetensors")
        timed = sides(options.steps, "float32")
        run_alternately(timed, options.rounds, options.threads)
    losses = [side.results[0]["losses"][0] for side in (exact[0], exact[-1])]
    conditions = f"{options.images} images, two views of {options.size} pixels, torch threads: {options.threads}."
    text = (
        f"{conditions} One step in float64: the losses differ by {abs(losses[0] - losses[1]):.1e} "
        f"(loss {losses[0]:.6f}), weights and BatchNorm statistics by at most {difference:.1e} ({tensor}).\n\n"
        f"{table(timed, {'CPU s per step': 'cpu_step'})}\n\n{least_table(timed)}\n\n{loss_table(timed)}"
    )
    print(text)
    write_section("simclr", text)


def least_table(sides: list[Side]) -> str:
    """Format the least CPU seconds of a step over all rounds, which other work on the machine disturbs least."""
    least = {side.name: min(result["least_cpu"] for result in side.results) for side in sides}
    rows = [f"| {name} | {value:.3f} | {value / least['anoframe']:.3f} |" for name, value in least.items()]
    return "\n".join(["| side | least CPU s of a step | times ours |\n|---|---|---|", *rows])


def loss_table(sides: list[Side]) -> str:
    """Format the losses in float32 as Markdown: one row per step, one column per side."""
    head = "| step | " + " | ".join(f"loss, {side.name}" for side in sides) + " |\n" + "|---" * (len(sides) + 1) + "|"
    steps = zip(*(side.results[-1]["losses"] for side in sides), strict=True)
    rows = [f"| {i + 1} | " + " | ".join(f"{loss:.6f}" for loss in step) + " |" for i, step in enumerate(steps)]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    main()
