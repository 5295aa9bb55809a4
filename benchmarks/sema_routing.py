"""Measure which adapters a trained SEMA-UniAD uses for an image: those of its own task, or others.

    python benchmarks/sema_routing.py RUN [RUN ...] [--data.root FOLDER]

RUN is the folder of a finished stream, for example one of `benchmarks/continual_table.py`. Prints one row per category:

- over its good test images: the share of the mixture that goes to the slots of each task (mean over images and sites),
  the z-scores at the slots of their own task, and the smallest z-scores at all other slots (medians);
- over all test images: the share that the slots of their own task reconstruct best, and the pixel AUROC, both as routed
  and with every image forced to use the slots of its own task. The latter needs the task label, which is unknown in
  practice: the difference is what routing loses.

Expected: docs/sema_uniad.md. Cost: minutes per run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import anoframe
from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.evaluation.predictions import collect
from anoframe.evaluation.results import category_metrics, percent
from anoframe.features.extraction import FeatureLoader
from anoframe.models.sema_uniad.adapters import AdapterContext
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.models.sema_uniad.routing import task_path
from anoframe.tracking.tracker import Trackers
from anoframe.training.checkpoint import find_checkpoint, load_checkpoint
from anoframe.types import Sample
from anoframe.utils.files import read_json


@contextmanager
def forced_to_task(detector: SemaUniAD, task: int) -> Iterator[None]:
    """Let all images use the slots of a task; sites without such a slot are routed as usual."""
    path = task_path(detector.slot_tasks, task)
    detector.candidate_paths = lambda: [path]  # type: ignore[method-assign]
    try:
        yield
    finally:
        del detector.candidate_paths


@torch.no_grad()
def best_tasks(detector: SemaUniAD, features: Tensor, tasks: int) -> Tensor:
    """The task whose slots reconstruct each image best, `[B]`."""
    errors = []
    for task in range(tasks):
        context = AdapterContext(task_path(detector.slot_tasks, task))
        errors.append(detector.distance(features, detector.reconstruct(features, context)).square().mean((1, 2)))
    return torch.stack(errors).argmin(0)


@dataclass(frozen=True)
class Routing:
    """How images of one task are routed.

    Attributes:
        shares: share of the mixture of each task's slots, `[tasks]`.
        own_z: z-scores at the slots of their own task, of all images and sites.
        least_other_z: smallest z-score at the other slots, of all images and sites.
    """

    shares: Tensor
    own_z: Tensor
    least_other_z: Tensor


@torch.no_grad()
def measure_routing(detector: SemaUniAD, batches: Sequence[Any], task: int, tasks: int) -> Routing:
    shares, own, others = [], [], []
    slot_tasks = [torch.tensor(numbers) for numbers in detector.slot_tasks]
    for features in batches:
        means, best = detector.token_means(features), best_tasks(detector, features, tasks)
        for index, site in enumerate(detector.sites):
            is_own = slot_tasks[index] == task
            z = site.adapter.z_scores(means[index])  # [slots, images]
            if detector.sema.routing == "reconstruction":
                shares.append(torch.eye(tasks)[best])
            else:
                weights = site.adapter.weights(means[index])  # [images, slots]
                shares.append(torch.zeros(len(weights), tasks).index_add_(1, slot_tasks[index], weights))
            own.append(z[is_own].flatten())
            others.append(z[~is_own].min(0).values if not is_own.all() else z.new_empty(0))
    return Routing(torch.cat(shares).mean(0), torch.cat(own), torch.cat(others))


def report(run: Path, root: str | None) -> str:
    """The table of a run, as markdown."""
    cfg = anoframe.load_config(run)
    checkpoint = load_checkpoint(find_checkpoint(run, None), torch.device("cpu"))
    detector = checkpoint.detector
    assert isinstance(detector, SemaUniAD)
    stream = read_json(run / "results" / "continual.json")["config"]["tasks"]
    dataset, reader = open_dataset(cfg.data.name, root or cfg.data.root), Reader(checkpoint.preprocessing)
    heads = [f"slots of task {number}" for number in range(len(stream))]
    heads += ["z, own", "z, least other", "best reconstructed by its own", "pixel AUROC", "with its own slots"]
    lines = [f"| category | task | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]

    def encode(samples: list[Sample]) -> FeatureLoader:
        return FeatureLoader(detector, samples, reader, cfg.data.batch_size, cfg.data.workers, Trackers())

    def pixel_auroc(samples: list[Sample]) -> str:
        predictions = collect(detector, encode(samples), len(samples), checkpoint.preprocessing.crop)
        return percent(category_metrics(predictions, (), ())["pixel_auroc"])

    for task, category in ((task, name) for task, names in enumerate(stream) for name in names):
        test = [sample for sample in dataset.samples(category) if sample.split == "test"]
        good = [batch.features for batch in encode([sample for sample in test if not sample.is_defect])]
        routing = measure_routing(detector, good, task, len(stream))
        cells = [f"{100 * share:.0f} %" for share in routing.shares.tolist()]
        cells += [f"{z.median():.1f}" if len(z) else "" for z in (routing.own_z, routing.least_other_z)]
        best = torch.cat([best_tasks(detector, batch.features, len(stream)) for batch in encode(test)])
        cells += [f"{100 * (best == task).float().mean():.0f} %", pixel_auroc(test)]
        with forced_to_task(detector, task):
            cells.append(pixel_auroc(test))
        lines.append(f"| {category} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data.root", dest="root", help="folder of the data, if it has moved since the run")
    options = parser.parse_args()
    for run in options.runs:
        print(f"{run}\n\n{report(run, options.root)}\n")


if __name__ == "__main__":
    main()
