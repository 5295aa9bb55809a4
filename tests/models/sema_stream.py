"""Streams of feature clusters, and SEMA-UniAD small enough to learn them in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from anoframe.config import load_config, plain
from anoframe.features.extraction import Encoded
from anoframe.models.base import Observation, TrainingBatch
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.tracking.timing import Clock
from anoframe.tracking.tracker import Trackers
from anoframe.training.loop import Training
from anoframe.training.stages import learn, seed_everything
from anoframe.types import Sample

CHANNELS, GRID = 15, 4
SMALL = {
    "image_size": 32,
    "stride": 8,
    "width": 16,
    "heads": 2,
    "hidden": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "window": 3,
    "adapter_bottleneck": 4,
    "rd_dim": 4,
}


def small(backbone, **changes):
    """A detector, always with the same weights for the same arguments."""
    seed_everything(0)
    return SemaUniAD(backbone, **(SMALL | changes)).eval()


def cluster(seed, count=12, draw=0, spread=0.1):
    """Features `[count, C, 4, 4]` around a place that the seed draws, far from those of other seeds."""
    centre = 3 * torch.randn(1, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(100 + seed))
    noise = torch.Generator().manual_seed(1000 * seed + draw)
    return centre + spread * torch.randn(count, CHANNELS, GRID, GRID, generator=noise)


def samples_of(count):
    return tuple(Sample(Path(f"train/good/{i:03d}.png"), "tiny", "train") for i in range(count))


def section(steps=2, **phases):
    """The `trainer` section of the shipped config, with so many steps a phase; `phases` says others."""
    cfg = load_config("__base__/sema_uniad.py", {"trainer.save_minutes": 0.0, "trainer.batch_size": 8})
    tree = plain(cfg.trainer)
    for name in ("adapter", "descriptor"):
        tree["phases"][name]["steps"] = phases.get(name, steps)
    return tree | {"steps": phases.get("reconstruction", steps)}


def learn_task(detector, task, features, home=None, how=None):
    """By the trainer, without `finish_task`."""
    detector.start_task(task, len(features))
    batches = [Encoded(features, torch.zeros(0), samples_of(len(features)))]
    training = Training(f"task_{task:02d}", task, how or section(), Trackers(), home)
    learn(detector, batches, len(features), Clock(Trackers()), training)


def learn_stream(detector, tasks, how=None):
    for task, features in enumerate(tasks):
        learn_task(detector, task, features, how=how)
        detector.finish_task()
    return detector


@torch.no_grad()
def show(step: Observation, features):
    """An observation by hand."""
    rows = list(range(len(features)) if step.rows is None else step.rows)
    step.begin(len(rows))
    for start in range(0, len(rows), step.batch_size):
        part = rows[start : start + step.batch_size]
        if step.observe(features[part], [samples_of(len(features))[row] for row in part]):
            break
    step.finish()


def take_step(detector, step, features, seed=0):
    """A step of learning by hand: an observation, or two steps of plain gradient descent, as the trainer sets it up."""
    if isinstance(step, Observation):
        show(step, features)
        return
    torch.manual_seed(seed)
    chosen = {id(one) for one in step.parameters.values()}
    wanted = [(one, one.requires_grad) for one in detector.parameters()]
    for one, _ in wanted:
        one.requires_grad_(id(one) in chosen)
    optimiser = torch.optim.SGD(step.parameters.values(), lr=0.05)
    detector.train()
    for _ in range(2):
        batch = TrainingBatch(features, samples_of(len(features)), torch.arange(len(features)))
        optimiser.zero_grad()
        sum(step.loss(batch).values()).backward()
        optimiser.step()
    optimiser.zero_grad()
    for one, before in wanted:
        one.requires_grad_(before)
    detector.eval()


def state_of(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def differing(one, other):
    """Names that one of two states has alone, or has otherwise."""
    both = one.keys() & other.keys()
    return (one.keys() ^ other.keys()) | {name for name in both if not torch.equal(one[name], other[name])}


def disturb(module, seed=0):
    """Numbers in all parameters, the zeros of birth among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
