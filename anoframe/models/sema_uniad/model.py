"""SEMA-UniAD: UniAD for a stream of tasks, with adapters that are added where features are novel.

The first task trains UniAD and one slot per site (`adapters.py`); then everything is frozen. Each later task is scanned
first, in eval mode: if a batch of its images is novel to all slots of a site, the site gets a new slot, only this slot
is trained, and the scan continues (`expansion.py`). A task without novel batches trains nothing. Images of earlier
tasks are not needed again, and testing needs no task label.

SEMA (Wang et al., CVPR 2025) was made for classification with a vision transformer; the first document of this project
adapted it to UniAD. Differences between these two and this implementation: `docs/sema_uniad.md`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Observation, Phase, TrainingBatch
from anoframe.models.sema_uniad.adapters import AdapterContext, AdapterSite, ExpandingAdapter
from anoframe.models.sema_uniad.expansion import (
    Scan,
    first_task_stages,
    scan_rows,
    scan_stage,
    sites_to_retrain,
    stages_after_scan,
)
from anoframe.models.sema_uniad.progress import Progress
from anoframe.models.sema_uniad.routing import Path, best_path, task_paths, training_paths
from anoframe.models.sema_uniad.settings import LEAST_RECORDS, SemaSettings
from anoframe.models.sema_uniad.statistics import StatisticsPass
from anoframe.models.sema_uniad.summary import expansion_messages, summarize
from anoframe.models.summary import MethodSummary
from anoframe.models.uniad.model import UniAD
from anoframe.registry import check_arguments

_PHASES = ("reconstruction", "adapter", "descriptor")


def _signature_with(base: type, init: Callable[..., None]) -> inspect.Signature:
    """The signature of a subclass whose `__init__` passes its `**keywords` on to `base`.

    `anoframe.registry.check_arguments` reads it, so that an unknown argument is an error and the nearest is suggested.
    """
    own = [p for p in list(inspect.signature(init).parameters.values())[1:] if p.kind is not p.VAR_KEYWORD]
    names = {p.name for p in own}
    passed_on = [p for p in inspect.signature(base).parameters.values() if p.name not in names]
    return inspect.Signature([*own, *(p.replace(kind=p.KEYWORD_ONLY) for p in passed_on)])


class SemaUniAD(UniAD, ContinualDetector):
    """UniAD with self-expanding adapters.

    Args:
        backbone: see :class:`UniAD`.
        sema: arguments of :class:`SemaSettings`.
        seed: seed of new slots, of the order of scans, and of the images of statistics.
        uniad: further arguments of :class:`UniAD`.

    Attributes:
        sema: settings of self-expansion.
        sites: all sites, in the order of execution.
        scan_batch_size: images per batch of a scan; a pass may end in a smaller one.

    Raises:
        AnoframeError: an argument is unknown or out of range; names its config key.
    """

    progress: Tensor
    scan_batch_size = 128
    min_images = LEAST_RECORDS  # with fewer, z is always 0 for the new slots, so no later task would ever expand

    def __init__(self, backbone: nn.Module, sema: Mapping[str, Any] | None = None, seed: int = 0, **uniad: Any):
        check_arguments(UniAD, {"backbone": backbone, **uniad}, "model 'sema_uniad'")
        check_arguments(SemaSettings, sema or {}, "model.sema")
        super().__init__(backbone, **uniad)
        self.seed = seed
        self.sema = SemaSettings(**(sema or {}))
        self.sites = self._add_adapters()  # after UniAD has drawn its weights, so that zero-initialised weights stay
        self._requested_task: tuple[int, int] | None = None  # number and images, from `start_task`
        self._progress = Progress([[0] for _ in self.sites], first_task_stages(self.sema, len(self.sites)))
        self.register_buffer("progress", self._progress.to_tensor())
        self._freeze()

    __signature__ = _signature_with(UniAD, __init__)

    def _add_adapters(self) -> list[AdapterSite]:
        """Add an adapter with one slot to each sub-layer that the settings name."""
        settings = self.sema
        sites: list[AdapterSite] = []
        transformer = self.reconstruction.transformer
        width = transformer.norm.normalized_shape[0]
        names = {id(module): name for name, module in self.named_modules()}
        for place in transformer.sites():
            if settings.has_adapters(place.layer_id, place.kind):
                is_sequential = settings.mode == "sequential" or place.kind == "self"
                adapter = ExpandingAdapter(width, settings, is_sequential, index=len(sites))
                place.residual.adapter = adapter
                name = f"{names[id(place.residual)]}.adapter"
                sites.append(AdapterSite(place.layer_id, place.kind, adapter, name))
        if not sites:
            raise AnoframeError(
                f"no adapters: the model has no layer in the range {settings.start_layer} to {settings.end_layer} of "
                "model.sema.start_layer and model.sema.end_layer"
            )
        if not any(settings.may_expand(site.layer_id) for site in sites):
            first, last = settings.expansion_layers
            raise AnoframeError(
                f"no layer can expand: none with adapters is in the range {first} to {last} of model.sema.expand_start "
                "and model.sema.expand_end"
            )
        return sites

    # ------------------------------------------------------------------------------------------------ stream of tasks

    def start_task(self, task: int, images: int) -> None:
        self._requested_task = (task, images)
        self._begin_requested_task()

    def finish_task(self) -> None:
        self._requested_task = None
        self._progress.finished = True
        self._update_progress()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state of `learned_state`; each site gets the number of slots that it had then."""
        if "progress" in state:
            progress = Progress.from_tensor(state["progress"])
            if len(progress.slot_tasks) != len(self.sites):
                raise AnoframeError(
                    f"the checkpoint has adapters at {len(progress.slot_tasks)} sites and this model at "
                    f"{len(self.sites)}: set model.sema.position, model.sema.start_layer and model.sema.end_layer as "
                    "they were in training"
                )
            for site, tasks in zip(self.sites, progress.slot_tasks, strict=True):
                site.adapter.resize(len(tasks))
            self._progress = progress
        super().load_learned_state(state)
        self._freeze()
        self._begin_requested_task()

    def _begin_requested_task(self) -> None:
        """Begin the task of `start_task` if the task before it is loaded; a task that has begun continues."""
        now = self._progress
        next_task = 0 if now.task is None else now.task + 1
        if self._requested_task is None or self._requested_task[0] != next_task:
            return
        if now.task is not None:
            now.stages = [scan_stage(0)]
            now.finished = False
        now.task, now.images = self._requested_task
        self._update_progress()

    def _update_progress(self) -> None:
        """Write the progress into the buffer of the checkpoint, and freeze what is not trained any more."""
        self.progress = self._progress.to_tensor().to(self.progress.device)
        self._freeze()

    # ------------------------------------------------------------------------------------------------ reports

    @property
    def scans(self) -> list[dict[str, Any]]:
        """One entry per scanned batch of the stream, with the z-scores of all slots."""
        return self._progress.scans

    @property
    def expansions(self) -> list[dict[str, Any]]:
        """One entry per expansion of the stream."""
        return self._progress.expansions

    @property
    def slot_tasks(self) -> list[list[int]]:
        """For each site, the task in which each of its slots was created."""
        return self._progress.slot_tasks

    def num_learned_values(self) -> int:
        """Number of parameters; loss records are not counted, because their size depends on the images of a task."""
        return sum(parameter.numel() for parameter in self.reconstruction.parameters())

    def summary(self) -> MethodSummary:
        return summarize(self.sema, self.sites, self._progress)

    def messages(self) -> Sequence[str]:
        """One line per expansion of the stream, those of earlier tasks first."""
        return expansion_messages(self._progress)

    # ------------------------------------------------------------------------------------------------ training

    def phase_names(self) -> Sequence[str]:
        return list(_PHASES)  # all of them, because a config has settings of all

    def training_stages(self) -> Sequence[Observation | Phase]:
        """Stages of the current task.

        First task: UniAD with one slot per site, the descriptors, and their statistics. Later tasks: a scan; after a
        scan with expansions, the new slots, their descriptors, their statistics, and the rest of the scan.

        Raises:
            AnoframeError: the task of `start_task` does not follow the last trained task.
        """
        now = self._progress
        if self._requested_task and self._requested_task[0] != now.task:
            last = "no task has been trained yet" if now.task is None else f"the last trained task is task {now.task}"
            raise AnoframeError(f"task {self._requested_task[0]} cannot be trained now, {last}: train tasks in order")
        return [self._stage(entry) for entry in now.stages]

    def _stage(self, entry: Mapping[str, Any]) -> Observation | Phase:
        """The stage of an entry of `Progress.stages`."""
        kind, task = entry["kind"], self._progress.task or 0
        if kind == "scan":
            number, first_batch = entry["pass"], entry["batch"]
            rows = scan_rows(self.seed, task, number, self._progress.images)[first_batch * self.scan_batch_size :]
            scan = Scan(self.sema, self.sites, self._progress, self.z_scores, number, first_batch)
            finish = partial(self._finish_scan, scan)
            return Observation("scan", scan.begin, scan.observe, finish, rows=rows, batch_size=self.scan_batch_size)
        if kind == "statistics":
            sites = {index: self.sites[index] for index in entry["sites"]}
            size = self.sema.descriptor_buffer_size
            measured = StatisticsPass(sites, self.token_means, size, self.seed, task)
            steps = measured.begin, measured.observe, measured.finish
            return Observation("statistics", *steps, batch_size=self.scan_batch_size)
        loss = self._descriptor_phase_loss if kind == "descriptor" else self._adapter_phase_loss
        label = self.sites[entry["sites"][0]].label if len(entry["sites"]) == 1 else ""
        return Phase(kind, self._trained_parameters(entry), partial(loss, entry["sites"]), label=label)

    def _trained_parameters(self, entry: Mapping[str, Any]) -> dict[str, nn.Parameter]:
        """The parameters of a phase, by their names in a checkpoint."""
        kind, reuse, parameters = entry["kind"], entry.get("reuse", False), {}
        if kind == "reconstruction":
            trunk = self.reconstruction.named_parameters(prefix="reconstruction")
            parameters = {name: value for name, value in trunk if ".adapter.slots." not in name}
        for site in (self.sites[index] for index in entry["sites"]):
            count = len(site.adapter.slots)
            for number in range(count) if reuse else [count - 1]:
                for module in self._trained_modules(kind, reuse, count):
                    prefix = f"{site.name}.slots.{number}.{module}"
                    parameters |= self.get_submodule(prefix).named_parameters(prefix=prefix)
        return parameters

    def _trained_modules(self, kind: str, reuse: bool, slots: int) -> list[str]:
        """The modules of a slot that a phase trains, at a site with `slots` slots."""
        if kind == "descriptor":
            return ["descriptor"]
        router = ["router"] if self.sema.routing == "learned" and slots > 1 else []  # one column has no effect
        descriptor = ["descriptor"] if self.sema.joint_loss and not reuse else []
        return ["adapter", *router, *descriptor]

    def _adapter_phase_loss(self, sites: Sequence[int], batch: TrainingBatch) -> dict[str, Tensor]:
        """UniAD's loss; with `joint_loss` also that of the newest descriptors, whose inputs get no gradient."""
        context = AdapterContext(self._training_paths()[-1])
        losses = self.losses(batch, context)
        if not self.sema.joint_loss:
            return losses
        descriptor = self.sema.descriptor_loss_weight * self._descriptor_loss(sites, context.token_means)
        return losses | {"descriptor": descriptor}

    def _descriptor_phase_loss(self, sites: Sequence[int], batch: TrainingBatch) -> dict[str, Tensor]:
        """Loss of the newest descriptors on the token means of the frozen network."""
        return {"descriptor": self._descriptor_loss(sites, self.token_means(batch.features))}

    def _descriptor_loss(self, sites: Sequence[int], means: Mapping[int, Tensor]) -> Tensor:
        """Sum over sites of the mean loss of their newest descriptor."""
        losses = [self.sites[index].newest.descriptor.loss(means[index]).mean() for index in sites]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def token_means(self, features: Tensor) -> dict[int, Tensor]:
        """Token means `[B, d]` of the input of each site, in eval mode, without noise or dropout."""
        with self.eval_mode():
            return self._reconstruct_along_best(features, self._training_paths())[1]

    def z_scores(self, features: Tensor) -> list[Tensor]:
        """z-scores of images for each slot: `[slots, B]` per site, in the order of execution."""
        means = self.token_means(features)
        return [site.adapter.z_scores(means[index]).detach() for index, site in enumerate(self.sites)]

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Eval mode for a while; if it makes no difference, nothing is switched, which would take time."""
        training, differs = self.training, self.reconstruction.jitter.training
        if differs:
            self.eval()
        try:
            yield
        finally:
            if differs:
                self.train(training)

    # ------------------------------------------------------------------------------------------------ expansion

    def _finish_scan(self, scan: Scan) -> None:
        """Add slots to the expanding sites, and append the stages that follow."""
        now = self._progress
        now.scans += scan.records
        now.expansions += scan.reasons
        for index in sorted(scan.expanding):
            self._add_slot(index)
        for index in sites_to_retrain(now, scan.expanding):
            self.sites[index].newest.descriptor.record.clear()
        now.stages += stages_after_scan(scan, self.sema, now, self.scan_batch_size)
        self._update_progress()

    def _add_slot(self, index: int) -> None:
        """Add a slot to a site; its initial weights depend only on seed, task and site."""
        now = self._progress
        assert now.task is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, 1, now.task, index)).generate_state(1)[0]))
            self.sites[index].adapter.resize(len(now.slot_tasks[index]) + 1)
        now.slot_tasks[index].append(now.task)

    # ------------------------------------------------------------------------------------------------ routing

    def candidate_paths(self) -> list[Path]:
        """Paths that images may take; a single empty path unless `routing` is `"reconstruction"`."""
        return task_paths(self.slot_tasks) if self.sema.routing == "reconstruction" else [{}]

    def _training_paths(self) -> list[Path]:
        return training_paths(self.candidate_paths(), self._progress)

    def reconstruct(self, features: Tensor, context: AdapterContext | None = None) -> Tensor:
        """Reconstruct `f` as `f_hat`, `[B, C, h, w]` each.

        Args:
            features: `f`.
            context: the path of all images; None: the best candidate path of each image.
        """
        if context is not None:
            return super().reconstruct(features, context)
        return self._reconstruct_along_best(features, self.candidate_paths())[0]

    def reconstruction_error(self, features: Tensor) -> Tensor:
        """Distance between features and their reconstruction along the best path of each image, `[B, h, w]`."""
        contexts = [AdapterContext(path) for path in self.candidate_paths()]
        errors = [self.distance(features, self.reconstruct(features, context)) for context in contexts]
        return errors[0] if len(errors) == 1 else torch.stack(errors)[best_path(errors)]

    def _reconstruct_along_best(self, features: Tensor, paths: Sequence[Path]) -> tuple[Tensor, dict[int, Tensor]]:
        """Reconstruct each image along the best of some paths.

        Returns:
            `f_hat`, and the token means `[B, d]` of the input of each site, both along these paths.
        """
        contexts = [AdapterContext(path) for path in paths]
        reconstructed = [self.reconstruct(features, context) for context in contexts]
        if len(paths) == 1:
            return reconstructed[0], contexts[0].token_means
        best = best_path([self.distance(features, f_hat) for f_hat in reconstructed])
        means = {
            index: torch.stack([context.token_means[index] for context in contexts])[best]
            for index in range(len(self.sites))
        }
        return torch.stack(reconstructed)[best], means

    # ------------------------------------------------------------------------------------------------ freezing

    def train(self, mode: bool = True) -> SemaUniAD:
        """Set train mode for trained modules; modules without gradients stay in eval mode.

        Features get noise while the trunk or an adapter is trained, but not while descriptors are.
        """
        super().train(mode)
        if mode:
            has_noise = self.reconstruction.inward.weight.requires_grad  # the trunk is trained as a whole or not at all
            self.reconstruction.train(has_noise)
            for slot in (slot for site in self.sites for slot in site.adapter.all_slots):
                for module in slot.children():
                    module.train(any(parameter.requires_grad for parameter in module.parameters()))
                has_noise |= slot.adapter.training
            self.reconstruction.jitter.train(has_noise)
        return self

    def _freeze(self) -> None:
        """Let only the parameters of the coming phases require gradients."""
        stages = [] if self._progress.finished else self._progress.stages
        phases = [entry for entry in stages if entry["kind"] in _PHASES]
        coming = [entry for entry in phases if entry["sites"][0] == phases[-1]["sites"][0]]
        trained = {id(parameter) for entry in coming for parameter in self._trained_parameters(entry).values()}
        for parameter in self.reconstruction.parameters():
            parameter.requires_grad_(id(parameter) in trained)
