"""A stream of tasks on random features for tests of CLAP4CLIP: classes are clusters of unit vectors."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch.nn import functional as F

from anoframe.features.extraction import FeatureBatch
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.learner import TaskData
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner
from anoframe.types import Sample

WIDTH = 12
TRAINER = {
    "epochs": 1,
    "batch_size": 8,
    "optimizer": {"name": "momentum", "momentum": 0.0, "lr": 0.01},
    "schedule": {"name": "warmup_cosine", "warmup_share": 0.3},
    "phases": {"balance": {"schedule": {"warmup_share": 0.0}}},
}
SMALL = {"vga": {"hidden": 16}, "posterior": {"samples": 5}, "memory": {"per_class": 3}}


class FakeTower:
    """A text tower whose texts are random unit vectors, the same for the same text."""

    has_text = True

    def __init__(self, width=WIDTH):
        self.width, self.seen = width, []

    def encode_text(self, prompts):
        self.seen += prompts
        rows = [torch.randn(self.width, generator=torch.Generator().manual_seed(hash_of(text))) for text in prompts]
        return F.normalize(torch.stack(rows), dim=1)


def hash_of(text):
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def classifier(width=WIDTH, text="prompts", seed=0, **settings):
    """CLAP4CLIP with small layers; sections of `settings` replace entries of `SMALL`."""
    section = {
        key: {**SMALL.get(key, {}), **value} if isinstance(value, dict) else value for key, value in settings.items()
    }
    section = {"name": "clap4clip", **SMALL, **section, "text": {"source": text, "templates": "cifar", "images": 4}}
    return build_classifier(section, width, FakeTower(width), seed)


def images_of(classes, count, width=WIDTH, seed=0, split="train"):
    """Return samples and features of `count` images of each class, around the direction of its number."""
    samples, features = [], []
    for number in classes:
        centre = F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(number)), dim=0)
        spread = torch.randn(count, width, generator=torch.Generator().manual_seed(1000 * seed + number + 7))
        samples += [Sample(Path(f"{split}/c{number}/{i}.png"), f"c{number}", split) for i in range(count)]
        features.append(centre + spread / width**0.5)
    return samples, torch.cat(features)


class Stream:
    """Trains a learner on task after task, with the exemplars that it keeps."""

    def __init__(self, learner, count=10, seed=0, trainer=None, width=WIDTH):
        self.learner, self.count, self.seed, self.width = learner, count, seed, width
        self.trainer = trainer or TRAINER
        self.kept, self.kept_features = [], torch.zeros(0, width)
        self.task = 0

    def next_data(self, classes):
        samples, features = images_of(classes, self.count, self.width, self.seed)
        data = TaskData((*samples, *self.kept), len(samples))
        return data, torch.cat([features, self.kept_features])

    def start(self, classes):
        self.data, self.features = self.next_data(classes)
        self.learner.start_task(self.task, self.data)

    def fit(self, folder=None, stages=None):
        self.context = FitContext("task", self.task, copy.deepcopy(self.trainer), Trackers(), folder)
        count = len(self.data.samples)
        batch = FeatureBatch(self.features, torch.zeros(count, 1, 1, 1, dtype=torch.bool), self.data.samples)
        fit_learner(self.learner, [batch], count, StageTimer(Trackers()), self.context, stages)

    def finish(self):
        self.learner.finish_task()
        rows = self.learner.exemplar_rows.tolist()
        self.kept, self.kept_features = [self.data.samples[row] for row in rows], self.features[rows]
        self.task += 1

    def train(self, *tasks):
        for classes in tasks:
            self.start(classes)
            self.fit()
            self.finish()
        return self.learner


def state_of(learner):
    return {name: value.clone() for name, value in learner.learned_state().items()}


def changed(before, after):
    """Names of the tensors that differ, of those in `before`."""
    return {name for name, value in before.items() if not torch.equal(value, after[name])}
