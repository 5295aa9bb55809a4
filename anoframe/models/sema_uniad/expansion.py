"""Scan a task for novel batches, decide which sites expand, and plan the stages that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from anoframe.models.base import Features
from anoframe.models.sema_uniad.adapters import AdapterSite
from anoframe.models.sema_uniad.progress import Progress
from anoframe.models.sema_uniad.settings import SemaSettings
from anoframe.types import Sample


def is_novel(z: Tensor, threshold: float) -> bool:
    """Whether a batch is novel to a site: to all of its slots, by the mean over the batch.

    Args:
        z: `[slots]`, the mean over the batch of `ExpandingAdapter.z_scores`.
        threshold: value that the smallest z-score must exceed.
    """
    return bool(z.min() > threshold)


def scan_rows(seed: int, task: int, pass_number: int, images: int) -> list[int]:
    """The order of a task's images in a pass of its scan."""
    order = np.random.default_rng((seed, 0, task, pass_number))
    return [int(row) for row in order.permutation(images)]


class Scan:
    """One pass over the images of a task, or the rest of one.

    Args:
        settings: threshold, order, and layers that may expand.
        sites: all sites.
        progress: state of the stream; it is not changed here.
        z_scores: computes the z-scores of a batch, `[slots, B]` per site.
        pass_number: number of the pass within the task.
        first_batch: number of the first batch within the pass.

    Attributes:
        next_batch: number of the batch that follows the last scanned one.
        expanding: indices of the sites that get a slot.
        records: one entry per scanned batch, for `Progress.scans`.
        reasons: one entry per expanding site, for `Progress.expansions`.
    """

    def __init__(
        self,
        settings: SemaSettings,
        sites: Sequence[AdapterSite],
        progress: Progress,
        z_scores: Callable[[Tensor], list[Tensor]],
        pass_number: int,
        first_batch: int,
    ):
        self.settings, self.sites, self.progress, self.z_scores = settings, sites, progress, z_scores
        self.pass_number, self.first_batch = pass_number, first_batch
        self.begin(0)

    def begin(self, images: int) -> None:
        """Start the pass."""
        self.next_batch = self.first_batch
        self.expanding: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.reasons: list[dict[str, Any]] = []

    def observe(self, features: Features, samples: Sequence[Sample]) -> bool:
        """Scan a batch; returns True to end the pass, because a site expands.

        In sequential order, only the first novel site expands. The whole network runs before any site is tested; the
        result is the same as if it had stopped at that site, because no site depends on later ones.
        """
        means = [z.mean(1) for z in self.z_scores(features)]
        batch = {"task": self.progress.task, "pass": self.pass_number, "batch": self.next_batch}
        all_z = [[_round(z) for z in site.tolist()] for site in means]
        self.records.append({**batch, "images": len(samples), "min_z": [min(z) for z in all_z], "all_z": all_z})
        threshold = self.settings.threshold
        novel = [site for site, z in enumerate(means) if self._may_expand(site) and is_novel(z, threshold)]
        is_sequential = self.settings.scan_order == "sequential"
        for site in novel[:1] if is_sequential else novel:
            location = [self.sites[site].layer_id, self.sites[site].kind]
            self.expanding.append(site)
            self.reasons.append({**batch, "site": location, "min_z": min(all_z[site]), "all_z": all_z[site]})
        self.next_batch += 1
        return is_sequential and bool(novel)

    def _may_expand(self, site: int) -> bool:
        """Whether a site is in range and has no slot of this task yet."""
        has_own_slot = self.progress.has_expanded(site) or site in self.expanding
        return self.settings.may_expand(self.sites[site].layer_id) and not has_own_slot


def sites_to_retrain(progress: Progress, expanded: Sequence[int]) -> list[int]:
    """Sites that have just expanded, and the sites after them that expanded earlier in the same task.

    A new slot changes the inputs of all later sites. Descriptors of this task that were trained on the old inputs would
    find them novel, so they are trained and measured again; with joint training, their adapters are trained again too.
    """
    first = min(expanded, default=len(progress.slot_tasks))
    return [site for site in range(first, len(progress.slot_tasks)) if progress.has_expanded(site)]


def first_task_stages(settings: SemaSettings, sites: int) -> list[dict[str, Any]]:
    """Stages of the first task, as entries of `Progress.stages`."""
    all_sites = list(range(sites))
    return [{"kind": "reconstruction", "sites": all_sites}, *_stages_after_adapters(settings, all_sites)]


def scan_stage(pass_number: int, first_batch: int = 0) -> dict[str, Any]:
    """A scan, as an entry of `Progress.stages`."""
    return {"kind": "scan", "pass": pass_number, "batch": first_batch}


def stages_after_scan(scan: Scan, settings: SemaSettings, progress: Progress, batch_size: int) -> list[dict[str, Any]]:
    """Stages that follow a scan, as entries of `Progress.stages`.

    Args:
        scan: the scan.
        settings: settings of self-expansion.
        progress: state of the stream, with the expansions of the scan.
        batch_size: images per batch of a scan.
    """
    next_pass = scan_stage(scan.pass_number + 1)
    if scan.expanding:
        retrained = sites_to_retrain(progress, scan.expanding)
        trained = retrained if settings.scan_order == "joint" else sorted(scan.expanding)
        has_more = scan.next_batch * batch_size < progress.images
        rest = scan_stage(scan.pass_number, scan.next_batch)
        stages = [{"kind": "adapter", "sites": trained}, *_stages_after_adapters(settings, retrained)]
        return [*stages, rest if has_more else next_pass]
    passes = [event["pass"] for event in progress.expansions if event["task"] == progress.task]
    if scan.pass_number in passes:
        return [next_pass]
    if settings.reuse_finetune and not passes:
        return [{"kind": "adapter", "sites": list(range(len(scan.sites))), "reuse": True}]
    return []


def _stages_after_adapters(settings: SemaSettings, sites: list[int]) -> list[dict[str, Any]]:
    kinds = ("statistics",) if settings.joint_loss else ("descriptor", "statistics")
    return [{"kind": kind, "sites": sites} for kind in kinds]


def _round(z: float) -> float:
    """Six significant digits, because records hold many values."""
    return float(f"{z:.6g}")
