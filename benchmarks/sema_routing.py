"""Routing of a trained SEMA-UniAD: share of each task's slots, z-scores, and the effect on pixel AUROC.

    python benchmarks/sema_routing.py RUN [RUN ...] [--data.root FOLDER]

RUN is the run folder of a finished stream, for example from `benchmarks/continual_table.py`. Columns, per category:

- for the good test images, the mean share of the mixture that goes to the slots added in each task, over images and
  sites;
- their z-scores at the slots of their own task, and the lowest z-score at any other slot: medians over images and
  sites;
- the share of all test images that the slots of their own task reconstruct best;
- the pixel AUROC with routing, and with every image sent to the slots of its own task, which is not known at test
  time: the difference is the cost of routing errors.

Expected: docs/sema_uniad.md. Cost: minutes per run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from anoframe.models.sema_uniad.routing import task_path
from torch import Tensor

import anoframe
from anoframe.data.dataset import open_dataset
from anoframe.data.reader import Reader
from anoframe.evaluation.predictions import collect
from anoframe.evaluation.results import category_metrics, percent
from anoframe.features.extraction import EncodedSamples
from anoframe.models.sema_uniad.adapters import AdapterContext
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.tracking.tracker import Trackers
from anoframe.training.checkpoint import find_checkpoint, load_checkpoint
from anoframe.types import Sample
from anoframe.utils.files import read_json


@contextmanager
def forced_routing(detector: SemaUniAD, task: int) -> Iterator[None]:
    """Route all images to the slots of a task; sites without a slot of that task mix their slots as usual."""
    path = task_path(detector.slot_tasks, task)
    detector.candidate_paths = lambda: [path]  # type: ignore[method-assign]
    try:
        yield
    finally:
        del detector.candidate_paths


@torch.no_grad()
def best_task(detector: SemaUniAD, features: Tensor, num_tasks: int) -> Tensor:
    """The task whose slots reconstruct each image best, `[B]`."""
    errors = []
    for task in range(num_tasks):
        reconstructed = detector.reconstruct(features, AdapterContext(task_path(detector.slot_tasks, task)))
        errors.append(detector.distance(features, reconstructed).square().mean((1, 2)))
    return torch.stack(errors).argmin(0)


@torch.no_grad()
def measure_routing(
    detector: SemaUniAD, batches: Sequence[Tensor], task: int, num_tasks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Measure the routing of the images of one task.

    Returns:
        Share of each task's slots `[num_tasks]`, z-scores at the slots of the task, lowest z-scores at other slots.
    """
    shares, own, others = [], [], []
    slot_tasks = [torch.tensor(tasks) for tasks in detector.slot_tasks]
    for features in batches:
        means, best = detector.token_means(features), best_task(detector, features, num_tasks)
        for index, site in enumerate(detector.sites):
            is_own = slot_tasks[index] == task
            z = site.adapter.z_scores(means[index])  # [slots, B]
            if detector.sema.routing == "reconstruction":
                shares.append(torch.eye(num_tasks)[best])
            else:
                weights = site.adapter.weights(means[index])  # [B, slots]
                shares.append(torch.zeros(len(weights), num_tasks).index_add_(1, slot_tasks[index], weights))
            own.append(z[is_own].flatten())
            others.append(z[~is_own].min(0).values if not is_own.all() else z.new_empty(0))
    return torch.cat(shares).mean(0), torch.cat(own), torch.cat(others)


def routing_table(run: Path, root: str | None) -> str:
    """Format the routing of a run as Markdown, one row per category."""
    cfg = anoframe.load_config(run)
    fitted = load_checkpoint(find_checkpoint(run, None), torch.device("cpu"))
    detector = fitted.detector
    assert isinstance(detector, SemaUniAD)
    tasks = read_json(run / "results" / "continual.json")["config"]["tasks"]
    dataset, reader = open_dataset(cfg.data.name, root or cfg.data.root), Reader(fitted.preprocessing)
    heads = [f"slots of task {number}" for number in range(len(tasks))]
    heads += ["z, own slots", "z, lowest of others", "reconstructed best by own", "pixel AUROC", "with own slots"]
    lines = [f"| category | task | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for task, category in ((task, name) for task, names in enumerate(tasks) for name in names):
        test = [sample for sample in dataset.samples(category) if sample.split == "test"]

        def encoded(samples: list[Sample]) -> EncodedSamples:
            return EncodedSamples(detector, samples, reader, cfg.data.batch_size, cfg.data.workers, Trackers())

        def auroc(samples: list[Sample] = test) -> str:
            predictions = collect(detector, encoded(samples), len(samples), fitted.preprocessing.crop)
            return percent(category_metrics(predictions, (), ())["pixel_auroc"])

        batches = [batch.features for batch in encoded([sample for sample in test if not sample.is_defect])]
        shares, own, others = measure_routing(detector, batches, task, len(tasks))  # type: ignore[arg-type]  # one map
        cells = [f"{100 * share:.0f} %" for share in shares.tolist()]
        cells += [f"{z.median():.1f}" if len(z) else "" for z in (own, others)]
        best = torch.cat([best_task(detector, batch.features, len(tasks)) for batch in encoded(test)])  # type: ignore[arg-type]
        cells += [f"{100 * (best == task).float().mean():.0f} %", auroc()]
        with forced_routing(detector, task):
            cells.append(auroc())
        lines.append(f"| {category} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data.root", dest="root", help="root of the dataset (default: as in the run)")
    options = parser.parse_args()
    for run in options.runs:
        print(f"{run}\n\n{routing_table(run, options.root)}\n")


if __name__ == "__main__":
    main()
