"""Time a step of each phase of CLAP4CLIP on cached features, and logits of single images.

    OMP_NUM_THREADS=1 python benchmarks/clap4clip_speed.py --widths 472 512 1280

Features are random; a step is loss, gradient and update of one batch. Prints processor time, the least of several
rounds, because waiting for other processes is no part of it. Cost: a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.learner import TaskData, TrainingBatch
from anoframe.types import Sample

TASKS, BATCH = 5, 32


def fastest(function: Callable[[], Any], rounds: int) -> float:
    """Return the milliseconds of processor time of the fastest call."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return 1000 * min(times)


def trained_learner(width: int, classes: int) -> Any:
    """Return a learner at the start of its last task, with the text features of all classes."""
    learner: Any = build_classifier({"name": "clap4clip", "text": {"source": "prototypes"}}, width)
    for task in range(TASKS):
        numbers = range(task * classes // TASKS, (task + 1) * classes // TASKS)
        samples = [Sample(Path(f"{i}.png"), f"class {n}", "train") for n in numbers for i in range(BATCH)]
        learner.start_task(task, TaskData(tuple(samples), len(samples)))
        learner._add_text(torch.nn.functional.normalize(torch.randn(len(numbers), 16, width), dim=-1))
    return learner


def time_step(learner: Any, name: str, rounds: int) -> float:
    phase = learner._phase(name)
    for parameter in learner.parameters():
        parameter.requires_grad_(False)
    for parameter in phase.parameters.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(list(phase.parameters.values()), lr=1e-6)
    batch = TrainingBatch(torch.randn(BATCH, learner.features), learner._data.samples[:BATCH], torch.arange(BATCH))

    def step() -> None:
        losses = phase.loss(batch)
        torch.stack([value for key, value in losses.items() if key != "accuracy"]).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return fastest(step, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[472, 512, 1280], help="channels of a feature")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="classes after the last of 5 tasks")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; milliseconds of processor time, batches of {BATCH}, 20 samples")
    for width in options.widths:
        for classes in options.classes:
            learner = trained_learner(width, classes)
            learner.train()
            task, balance = (time_step(learner, name, options.rounds) for name in ("task", "balance"))
            learner.eval()
            images = torch.randn(BATCH, width)
            alone = fastest(lambda: learner.logits(images), max(3, options.rounds // 4)) / BATCH  # noqa: B023
            print(
                f"{width:5d} channels, {classes:4d} classes: step of task {task:6.1f}, of balance {balance:6.1f}; "
                f"logits of an image {alone:6.2f}"
            )


if __name__ == "__main__":
    main()
