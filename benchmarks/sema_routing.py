"""Which adapters a trained SEMA-UniAD gives an image: those of its own task, or others?

    python benchmarks/sema_routing.py RUN [RUN ...] [--data.root FOLDER]

RUN is the folder of a finished stream, as `benchmarks/continual_table.py` leaves them. For the good test images of
each category, prints the share of the mixture that goes to the slots born in each task, a mean over images and sites.
Then z of those images at the slots of their own task, and at the least strange of all other slots: medians over images
and sites. Then how many of all test images the slots of their own task rebuild better than those of any other. Last
the pixel AUROC of these images, as they are routed, and where each is sent to the slots of its own task by hand, which
nobody could at a test: what is lost by routing. Expected: docs/sema_uniad.md. Cost: minutes a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

import anoframe
from anoframe.data.dataset import open_dataset
from anoframe.data.reader import Reader
from anoframe.evaluation.predictions import collect
from anoframe.evaluation.results import category_metrics, percent
from anoframe.features.extraction import EncodedSamples
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.tracking.tracker import Trackers
from anoframe.training.checkpoint import find_checkpoint, load_checkpoint
from anoframe.types import Sample
from anoframe.utils.files import read_json


def born(detector: SemaUniAD) -> list[list[int]]:
    """Site -> the task in which each of its slots was born."""
    tasks: list[list[int]] = [[0] for _ in detector.places]
    numbers = {(place.layer_id, place.kind): number for number, place in enumerate(detector.places)}
    for event in detector.growth()["expansions"]:
        tasks[numbers[tuple(event["site"])]].append(event["task"])
    return tasks


@contextmanager
def sent_to(detector: SemaUniAD, task: int) -> Iterator[None]:
    """All images take the slots of a task; where a site had none in it, they are routed as ever."""
    for place, births in zip(detector.places, born(detector), strict=True):
        place.site.chosen = births.index(task) if task in births else None
    detector._paths = lambda: [{}]  # type: ignore[method-assign]  # nothing else is chosen
    try:
        yield
    finally:
        del detector._paths
        for place in detector.places:
            place.site.chosen = None


@torch.no_grad()
def rebuilt_best(detector: SemaUniAD, features: Tensor, tasks: int) -> Tensor:
    """The task whose slots rebuild each image best, `[B]`."""
    missed = []
    for task in range(tasks):
        with sent_to(detector, task):
            missed.append(detector.distance(features, detector.reconstruct(features)).square().mean((1, 2)))
    return torch.stack(missed).argmin(0)


@torch.no_grad()
def routed(detector: SemaUniAD, batches: Sequence[Tensor], task: int, tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of some images: share of each task's slots `[tasks]`, z at their own slots, least z at any other."""
    shares, own, others = [], [], []
    births = [torch.tensor(one) for one in born(detector)]
    for features in batches:
        means, best = detector._token_means(features), rebuilt_best(detector, features, tasks)
        for number, place in enumerate(detector.places):
            mine = births[number] == task
            z = place.site.z(means[number])  # [slots, images]
            if detector.sema.routing == "reconstruction":
                shares.append(torch.eye(tasks)[best])
            else:
                weights = place.site.weights(means[number])  # [images, slots]
                shares.append(torch.zeros(len(weights), tasks).index_add_(1, births[number], weights))
            own.append(z[mine].flatten())
            others.append(z[~mine].min(0).values if not mine.all() else z.new_empty(0))
    return torch.cat(shares).mean(0), torch.cat(own), torch.cat(others)


def report(run: Path, root: str | None) -> str:
    cfg = anoframe.load_config(run)
    fitted = load_checkpoint(find_checkpoint(run, None), torch.device("cpu"))
    detector = fitted.detector
    assert isinstance(detector, SemaUniAD)
    streamed = read_json(run / "results" / "continual.json")["config"]["tasks"]
    dataset, reader = open_dataset(cfg.data.name, root or cfg.data.root), Reader(fitted.preprocessing)
    heads = [f"slots of task {number}" for number in range(len(streamed))]
    heads += ["z, own", "z, least other", "rebuilt best by its own", "pixel AUROC", "with its own slots"]
    lines = [f"| category | task | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for task, category in ((task, name) for task, names in enumerate(streamed) for name in names):
        test = [one for one in dataset.samples(category) if one.split == "test"]

        def encoded(samples: list[Sample]) -> EncodedSamples:
            return EncodedSamples(detector, samples, reader, cfg.data.batch_size, cfg.data.workers, Trackers())

        def auroc(samples: list[Sample] = test) -> str:
            found = collect(detector, encoded(samples), len(samples), fitted.preprocessing.crop)
            return percent(category_metrics(found, (), ())["pixel_auroc"])

        batches = [one.features for one in encoded([one for one in test if not one.is_defect])]
        shares, own, others = routed(detector, batches, task, len(streamed))  # type: ignore[arg-type]  # one map
        cells = [f"{100 * share:.0f} %" for share in shares.tolist()]
        cells += [f"{found.median():.1f}" if len(found) else "" for found in (own, others)]
        best = torch.cat([rebuilt_best(detector, one.features, len(streamed)) for one in encoded(test)])  # type: ignore[arg-type]
        cells += [f"{100 * (best == task).float().mean():.0f} %", auroc()]
        with sent_to(detector, task):
            cells.append(auroc())
        lines.append(f"| {category} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data.root", dest="root", help="where the data are now, if not where the run had them")
    options = parser.parse_args()
    for run in options.runs:
        print(f"{run}\n\n{report(run, options.root)}\n")


if __name__ == "__main__":
    main()
