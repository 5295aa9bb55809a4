"""Streams of feature clusters, and SEMA-UniAD small enough to be trained on them in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from anoframe.config import load_config, to_plain
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Observation, TrainingBatch
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.seeding import seed_everything
from anoframe.training.stages import fit_learner
from anoframe.types import Sample

CHANNELS, GRID = 15, 4
SMALL_UNIAD = {
    "image_size": 32,
    "stride": 8,
    "width": 16,
    "heads": 2,
    "hidden": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "window": 3,
}
SMALL_SEMA = {"adapter_bottleneck": 4, "descriptor_dim": 4}
TWO_LAYERS = {"encoder_layers": 1, "decoder_layers": 1}  # half of the sites
ALWAYS = {"expansion_threshold": -1.0}  # every batch is novel


def make_small(backbone, seed=0, uniad=None, **sema):
    """Build a small detector in eval mode, always with the same weights for the same arguments.

    Args:
        uniad: changed arguments of UniAD.
        sema: changed settings of SEMA.
    """
    seed_everything(0)
    return SemaUniAD(backbone, sema=SMALL_SEMA | sema, seed=seed, **(SMALL_UNIAD | (uniad or {}))).eval()


def make_cluster(seed, count=12, draw=0, spread=0.1):
    """Features `[count, C, 4, 4]` around a centre that depends on the seed, far from those of other seeds."""
    centre = 3 * torch.randn(1, CHANNELS, 1, 1, generator=torch.Generator().manual_seed(100 + seed))
    noise = torch.Generator().manual_seed(1000 * seed + draw)
    return centre + spread * torch.randn(count, CHANNELS, GRID, GRID, generator=noise)


def make_samples(count):
    return tuple(Sample(Path(f"train/good/{i:03d}.png"), "tiny", "train") for i in range(count))


def make_batch(features):
    return TrainingBatch(features, make_samples(len(features)), torch.arange(len(features)))


def make_trainer(steps=2, **phases):
    """The `trainer` section of the shipped config with `steps` steps per phase, or those given by phase name."""
    cfg = load_config("__base__/sema_uniad.py", {"trainer.save_minutes": 0.0, "trainer.batch_size": 8})
    tree = to_plain(cfg.trainer)
    for name in ("adapter", "descriptor"):
        tree["phases"][name]["steps"] = phases.get(name, steps)
    return tree | {"steps": phases.get("reconstruction", steps)}


def train_task(detector, task, features, folder=None, trainer=None):
    """Train a task with the trainer, without `finish_task`."""
    detector.start_task(task, len(features))
    batches = [FeatureBatch(features, torch.zeros(0), make_samples(len(features)))]
    training = FitContext(f"task_{task:02d}", task, trainer or make_trainer(), Trackers(), folder)
    fit_learner(detector, batches, len(features), StageTimer(Trackers()), training)


def train_whole_task(detector, task, features, trainer=None):
    """Train a task and finish it."""
    train_task(detector, task, features, trainer=trainer)
    detector.finish_task()


def train_stream(detector, tasks, trainer=None):
    for task, features in enumerate(tasks):
        train_whole_task(detector, task, features, trainer)
    return detector


_STATES = {}


def make_trained(backbone, tasks, seed=0, uniad=None, **sema):
    """A new detector that has been trained on clusters `0` to `tasks - 1`; equal arguments are trained only once."""
    key = repr((tasks, seed, uniad, sorted(sema.items())))
    if key not in _STATES:
        detector = train_stream(make_small(backbone, seed, uniad, **sema), map(make_cluster, range(tasks)))
        _STATES[key] = copy_state(detector)
    detector = make_small(backbone, seed, uniad, **sema)
    detector.load_learned_state({name: value.clone() for name, value in _STATES[key].items()})
    return detector


@torch.no_grad()
def run_observation(stage: Observation, features):
    """Run an observation without the trainer."""
    rows = list(range(len(features)) if stage.rows is None else stage.rows)
    samples = make_samples(len(features))
    stage.begin(len(rows))
    for start in range(0, len(rows), stage.batch_size):
        batch = rows[start : start + stage.batch_size]
        if stage.observe(features[batch], [samples[row] for row in batch]):
            break
    stage.finish()


def run_scan(detector, features):
    """Run the last stage of a detector, a scan."""
    stage = detector.training_stages()[-1]
    assert stage.name == "scan"
    run_observation(stage, features)


def run_stage(detector, stage, features, seed=0):
    """Run a stage without the trainer: an observation, or two steps of plain gradient descent in a phase."""
    if isinstance(stage, Observation):
        run_observation(stage, features)
        return
    torch.manual_seed(seed)
    trained = {id(parameter) for parameter in stage.parameters.values()}
    before = [(parameter, parameter.requires_grad) for parameter in detector.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in trained)
    optimiser = torch.optim.SGD(stage.parameters.values(), lr=0.05)
    detector.train()
    for _ in range(2):
        optimiser.zero_grad()
        sum(stage.loss(make_batch(features)).values()).backward()
        optimiser.step()
    optimiser.zero_grad()
    for parameter, requires_grad in before:
        parameter.requires_grad_(requires_grad)
    detector.eval()


def count_slots(detector):
    return [len(site.adapter.slots) for site in detector.sites]


def copy_state(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def find_differences(first, second):
    """Names of tensors that only one of two states has, or that differ."""
    common = first.keys() & second.keys()
    return (first.keys() ^ second.keys()) | {name for name in common if not torch.equal(first[name], second[name])}


def randomise(module, seed=0):
    """Set all parameters to random values, also those that are initialised with zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
