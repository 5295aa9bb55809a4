"""Gradient descent for any method: runs one `Phase`, and knows nothing of what it trains.

The frozen encoder's features are taken from a store, so an epoch costs what is learned alone. The order of the images
is drawn from the seed, the phase and the epoch, and the random state is set anew when a phase begins: the same seed
gives the same weights, whatever ran before, whatever was cached, and whether it was killed on the way or not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anoframe.distributed.process_group import Group, single_process
from anoframe.distributed.sync_batchnorm import is_single_value
from anoframe.errors import AnoframeError
from anoframe.evaluation.results import percent
from anoframe.features.store import FeatureStore
from anoframe.models.base import Detector, Phase, TrainingBatch
from anoframe.tracking.timing import gpu_peak_memory, peak_memory
from anoframe.tracking.tracker import Tracker
from anoframe.training.distributed_loss import Part, SharedLoss, settle, shared_loss
from anoframe.training.optimizers import build_optimizer, build_schedule
from anoframe.training.settings import Settings
from anoframe.training.state import TrainingState, random_states, seed_generators, set_random_states
from anoframe.types import Sample
from anoframe.utils.memory import gigabytes
from anoframe.utils.progress import Bar

Look = Callable[[Detector], Mapping[str, Mapping[str, float | None]]]
_JUDGED = ("image_auroc", "pixel_auroc", "aupro")  # by whose mean `best_on_test` chooses


@dataclass
class Totals:
    """Of an epoch that is under way."""

    images: int = 0
    losses: dict[str, float] = field(default_factory=dict)  # summed over images
    seconds: float = 0.0
    data_seconds: float = 0.0


@dataclass
class Training:
    """What is known of one fit while it is trained.

    Attributes:
        fit: its name.
        seed: of the run.
        section: `trainer` of the config, None where it has none.
        tracker: is told of steps, epochs and looks.
        home: where states are kept; None keeps none, and a kill loses all.
        look: metrics of the detector on the test images, for `trainer.evaluate_every`; None never looks.
        curves: phase -> what each epoch gave; `looks` beside them.
        group: the processes that train together. All run the same steps, each on its part of every batch.
    """

    fit: str
    seed: int
    section: Mapping[str, Any] | None
    tracker: Tracker
    home: Path | None = None
    look: Look | None = None
    curves: dict[str, Any] = field(default_factory=lambda: {"phases": [], "looks": []})
    group: Group = field(default_factory=single_process)

    def save(self, step: int, done: int, detector: Detector, **rest: Any) -> None:
        """Keep a state, where states are kept."""
        if self.home:
            state = TrainingState(step, done, detector.learned_state(), {"curves": self.curves, **rest})
            state.save(self.home)


class PhaseTrainer:
    """One phase from its beginning, or from a state, to its end.

    Args:
        detector: whose phase it is; it is on its device, and afterwards in eval mode.
        phase: what to train.
        step: place of the phase in `Detector.training_stages()`.
        store: features of all training images.
        settings: of the phase.
        training: of the fit.

    Raises:
        AnoframeError: a loss or weights that are not finite, with the files of the batch that made them so; a batch
            that has one value for batch normalisation.
    """

    def __init__(
        self, detector: Detector, phase: Phase, step: int, store: FeatureStore, settings: Settings, training: Training
    ):
        self._detector, self._phase, self._step = detector, phase, step
        self._store, self._settings, self._training = store, settings, training
        self._group = training.group
        self._device = next(detector.buffers()).device
        self._rows = list(range(len(store)) if phase.rows is None else phase.rows)
        self._per_epoch, self._total = settings.length(len(self._rows))
        self._epochs = math.ceil(self._total / self._per_epoch)
        self._optimizer = build_optimizer(settings.optimizer, phase.parameters)
        self._schedule = build_schedule(settings, self._optimizer, self._per_epoch, self._total)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.precision == "float16")
        self._loss = torch.compile(phase.loss) if settings.compile else phase.loss
        self._done = 0
        self._totals = Totals()
        self._best: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------ the loop

    def run(self, state: TrainingState | None = None) -> None:
        """Train to the end.

        Args:
            state: of this phase, to go on from; the detector has its `learned` already.
        """
        seed_generators(self._training.seed, self._step, *self._own_numbers())
        about = self._resume(state) if state and state.done else self._new_curve()
        self._curve: list[dict[str, Any]] = about["epochs"]
        self._title = f"{about['name']} {about.get('label', '')}".rstrip()  # no two phases of a fit have the same
        self._warn_of_warmup()
        saved = time.monotonic()
        with self._training_mode(), self._sharing() as shared, Bar(self._total, self._title, self._done) as bar:
            while self._done < self._total:
                self._take_step(shared, bar)
                if self._done % self._per_epoch == 0 or self._done == self._total:
                    self._end_epoch()
                due = time.monotonic() - saved >= 60 * self._settings.save_minutes
                if self._group.broadcast_flag(due) and self._done < self._total:
                    self._save()
                    saved = time.monotonic()
        if broken := self._broken():
            raise AnoframeError(broken)
        settle(self._detector, self._group)
        if self._best:
            self._detector.load_learned_state(self._best["learned"])
        self._training.save(self._step + 1, 0, self._detector)

    def _warn_of_warmup(self) -> None:
        warmup = self._settings.warmup(self._per_epoch)
        if warmup >= self._total:
            text = (
                f"phase {self._phase.name} trains for {self._total} steps, and its learning rate rises for {warmup}: it"
            )
            text += " never gets to --trainer.optimizer.lr; see --trainer.schedule.warmup_epochs"
            self._training.tracker.log("warning", text=text)

    def _own_numbers(self) -> tuple[int, ...]:
        """Each process draws others in the phase, or several images would have the same noise."""
        return () if self._group.is_main else (self._group.rank,)

    def _sharing(self) -> AbstractContextManager[SharedLoss]:
        return shared_loss(self._detector, self._phase, self._loss, self._group, self._settings.sync_batchnorm)

    def _take_step(self, shared: SharedLoss, bar: Bar) -> None:
        """One step of the optimiser, over one batch in `accumulate` parts."""
        started = time.perf_counter()
        self._schedule.step_update(self._done)
        rows = self._batch(self._done)
        losses: dict[str, float] = {}
        waited = 0.0
        counted = 0
        for some in _parts(rows, self._settings.accumulate):
            asked = time.perf_counter()
            own = shared.part(some)
            batch = self._store.batch(own.rows, self._settings.channels_last)
            waited += time.perf_counter() - asked
            share, counted = len(some) / len(rows), counted + len(some)
            with shared.taking(own, last=counted == len(rows)):
                found = self._backward(shared, batch, own, share)
            for name, value in found.items():
                losses[name] = losses.get(name, 0.0) + share * own.weight * value
        losses = dict(zip(losses, self._group.all_reduce_values(list(losses.values())), strict=True))
        learned = time.perf_counter()
        self._update()
        ended = time.perf_counter()
        self._done += 1
        self._count(losses, len(rows), ended - started, waited)
        self._tell(bar, losses, ended - started, waited, ended - learned)

    def _batch(self, done: int) -> list[int]:
        """The images of a step: the epoch's order is drawn from the seed, the phase and the epoch alone."""
        epoch, place = divmod(done, self._per_epoch)
        order = np.random.default_rng((self._training.seed, self._step, epoch)).permutation(len(self._rows))
        size = self._settings.batch_size
        return [self._rows[i] for i in order[place * size : (place + 1) * size]]

    def _backward(self, shared: SharedLoss, batch: TrainingBatch, own: Part, share: float) -> dict[str, float]:
        """Add the gradient of a part of a batch; returns the losses of what this process has of it."""
        settings = self._settings
        with torch.autocast(self._device.type, settings.dtype, enabled=settings.precision != "float32"):
            losses = self._losses(shared, batch)
        total = torch.stack([value.float() for value in losses.values()]).sum()
        if not bool(total.isfinite()):
            raise AnoframeError(self._not_finite(losses, batch))
        self._scaler.scale(shared.scaled(total, own) * share).backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, shared: SharedLoss, batch: TrainingBatch) -> Mapping[str, Tensor]:
        try:
            return shared(batch)
        except torch._dynamo.exc.TorchDynamoException as error:  # only where it was asked to compile
            reason = str(error).strip().splitlines()[0]
            raise AnoframeError(f"torch.compile fails here ({reason}): --trainer.compile False") from error
        except ValueError as error:
            if not is_single_value(error):
                raise
            raise AnoframeError(
                f"phase {self._phase.name}: batch normalisation needs more than one value a channel, and images this "
                f"small in a batch of {len(batch)} give one: another --trainer.batch_size, or a larger --data.crop"
            ) from error

    def _not_finite(self, losses: Mapping[str, Tensor], batch: TrainingBatch) -> str:
        values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in losses.items())
        return self._broken() or self._blamed(self._done + 1, f"the loss is not finite ({values})", batch.samples)

    def _broken(self) -> str:
        """That the last step left weights which are not finite, as a finite loss with another gradient does."""
        if not self._done or all(bool(one.isfinite().all()) for one in self._phase.parameters.values()):
            return ""
        samples = [self._store.samples[row] for row in self._batch(self._done - 1)]
        return self._blamed(self._done, "it left weights that are not finite", samples)

    def _blamed(self, step: int, what: str, samples: Sequence[Sample]) -> str:
        files = "\n".join(f"  {sample.image}" for sample in samples)
        return (
            f"phase {self._phase.name}, step {step}: {what}. Lower --trainer.optimizer.lr, or set --trainer.clip; "
            f"or look at the images of this batch:\n{files}"
        )

    def _update(self) -> None:
        if self._settings.clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(list(self._phase.parameters.values()), self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def _training_mode(self) -> Iterator[None]:
        """The detector as it trains: only the phase's parameters want gradients, and feature maps have their layout.

        The layout is put back, because kernels round by it: what is evaluated next rounds as what is loaded later.
        """
        chosen = {id(parameter) for parameter in self._phase.parameters.values()}
        wanted = {parameter: parameter.requires_grad for parameter in self._detector.parameters()}
        for parameter in wanted:
            parameter.requires_grad_(id(parameter) in chosen)
        self._detector.train()
        self._lay_out(self._settings.channels_last)
        try:
            yield
        finally:
            self._optimizer.zero_grad(set_to_none=True)
            for parameter, before in wanted.items():
                parameter.requires_grad_(before)
            self._detector.eval()
            self._lay_out(False)

    def _lay_out(self, channels_last: bool) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for parameter in self._phase.parameters.values():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)

    # ------------------------------------------------------------------------------------------------ telling

    def _count(self, losses: Mapping[str, float], images: int, seconds: float, waited: float) -> None:
        totals = self._totals
        totals.images += images
        totals.seconds += seconds
        totals.data_seconds += waited
        for name, value in losses.items():
            totals.losses[name] = totals.losses.get(name, 0.0) + images * value

    def _tell(self, bar: Bar, losses: Mapping[str, float], seconds: float, waited: float, optimisation: float) -> None:
        totals, rate = self._totals, self._optimizer.param_groups[0]["lr"]
        shown = {name: f"{value:.4f}" for name, value in losses.items()}
        images = f"{totals.images / totals.seconds:.1f}"
        bar.advance(**shown, lr=f"{rate:.2e}", images_per_second=images, waiting=f"{totals.data_seconds:.1f}s")
        self._training.tracker.log(
            "step",
            fit=self._training.fit,
            phase=self._title,
            epoch=(self._done - 1) // self._per_epoch + 1,
            step=self._done,
            losses=dict(losses),
            lr=rate,
            batch_seconds=seconds,
            data_seconds=waited,
            optimisation_seconds=optimisation,
        )

    def _end_epoch(self) -> None:
        """Keep what the epoch gave, and look at the test images where that was asked for."""
        totals, epoch = self._totals, math.ceil(self._done / self._per_epoch)
        entry = {
            "epoch": epoch,
            "losses": {name: value / totals.images for name, value in totals.losses.items()},
            "lr": self._optimizer.param_groups[0]["lr"],
            "images_per_second": totals.images / totals.seconds,
            "data_seconds": totals.data_seconds,
            "seconds": totals.seconds,
        }
        self._curve.append(entry)
        self._totals = Totals()
        summary = ", ".join(f"{name} {value:.4f}" for name, value in entry["losses"].items())
        names = {"fit": self._training.fit, "phase": self._title, "epochs": self._epochs}
        peak, of_gpu = peak_memory(), gpu_peak_memory()
        memory = f"{gigabytes(peak)} and {gigabytes(of_gpu)} of the GPU" if of_gpu else gigabytes(peak)
        self._training.tracker.log(
            "epoch", **names, **entry, summary=summary, peak_bytes=peak, gpu_peak_bytes=of_gpu, memory=memory
        )
        every = self._settings.evaluate_every
        if self._training.look and every and (epoch % every == 0 or self._done == self._total):
            self._look(self._training.look, epoch)

    def _look(self, look: Look, epoch: int) -> None:
        """Evaluate on the test images; nothing that is learned or drawn afterwards is changed by it."""
        states = random_states()
        settle(self._detector, self._group)
        self._detector.eval()
        found = {category: dict(metrics) for category, metrics in look(self._detector).items()}
        self._detector.train()
        set_random_states(states)
        names = {"fit": self._training.fit, "phase": self._title, "epoch": epoch}
        self._training.tracker.log("look", **names, metrics=found, summary=_means(found))
        self._training.curves["looks"].append({"phase": self._title, "epoch": epoch, "metrics": found})
        if self._settings.select == "best_on_test":
            self._choose(found)

    def _choose(self, found: Mapping[str, Mapping[str, float | None]]) -> None:
        """Remember what was learned, where it is the best on the test images so far."""
        values = [metrics[name] for metrics in found.values() for name in _JUDGED]
        known = [value for value in values if value is not None]
        mean = sum(known) / max(1, len(known))
        if mean > self._best.get("mean", -1.0):
            learned = {name: value.detach().clone() for name, value in self._detector.learned_state().items()}
            self._best = {"mean": mean, "learned": learned}

    # ------------------------------------------------------------------------------------------------ going on

    def _new_curve(self) -> dict[str, Any]:
        """Of this phase, with a number where an earlier one has the same name and label."""
        phases = self._training.curves["phases"]
        name, label, number = self._phase.name, self._phase.label, 1
        taken = [one.get("label", "") for one in phases if one["name"] == name]
        while label in taken:
            number += 1
            label = f"{self._phase.label} ({number})".lstrip()
        parameters = sum(parameter.numel() for parameter in self._phase.parameters.values())
        phases.append({"name": name, **({"label": label} if label else {}), "parameters": parameters, "epochs": []})
        found: dict[str, Any] = phases[-1]
        return found

    def _save(self) -> None:
        self._training.save(
            self._step,
            self._done,
            self._detector,
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            random=self._group.all_gather(random_states()),
            totals=vars(self._totals),
            best=self._best,
        )

    def _resume(self, state: TrainingState) -> dict[str, Any]:
        rest = state.rest
        self._done = state.done
        self._lay_out(self._settings.channels_last)  # before the optimiser's state takes its layout
        self._optimizer.load_state_dict(rest["optimizer"])
        self._scaler.load_state_dict(rest["scaler"])
        self._totals, self._best = Totals(**rest["totals"]), rest["best"]
        set_random_states(rest["random"][self._group.rank])
        found: dict[str, Any] = self._training.curves["phases"][-1]
        return found


def _means(found: Mapping[str, Mapping[str, float | None]]) -> str:
    """What a look found, in percent: means over the categories where a metric is available."""
    said = []
    for name in _JUDGED:
        known = [value for metrics in found.values() if (value := metrics.get(name)) is not None]
        said.append(f"{name} {percent(sum(known) / len(known) if known else None)}")
    return ", ".join(said)


def _parts(rows: Sequence[int], count: int) -> Iterator[Sequence[int]]:
    """Rows in so many parts, as equal as can be; none is empty."""
    bounds = np.linspace(0, len(rows), min(count, len(rows)) + 1).round().astype(int)
    return (rows[start:end] for start, end in pairwise(bounds))
