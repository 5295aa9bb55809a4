"""Gradient loop: trains one `Phase` of any method.

Features of the frozen encoder come from a store, so an epoch costs only the trained part; a phase with `views` gets
views of the images, drawn in each epoch. The order of the images is drawn from the seed, the stage and the epoch, and
all generators are seeded when a phase starts. So the same seed gives the same weights, whatever ran before, whether
features were cached, how many workers draw views, and whether training was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from anoframe.distributed.sync_batchnorm import is_single_value_error
from anoframe.errors import AnoframeError
from anoframe.features.store import FeatureStore
from anoframe.models.learner import Learner, Phase, TrainingBatch
from anoframe.training.context import FitContext
from anoframe.training.distributed_loss import DistributedLoss, Shard, distributed_loss, sync_learned_state
from anoframe.training.epoch_log import EpochLog, EpochTotals, StepRecord, new_curve
from anoframe.training.optimizers import build_optimizer, build_schedule
from anoframe.training.periodic_evaluation import TestEvaluation
from anoframe.training.seeding import random_states, seed_generators, set_random_states
from anoframe.training.settings import TrainingSettings
from anoframe.training.state import TrainingState
from anoframe.training.views import ViewSource
from anoframe.types import Sample
from anoframe.utils.compilation import compile_deterministic
from anoframe.utils.progress import ProgressBar


class PhaseTrainer:
    """Trains one phase, from its beginning or from a state, to its end.

    Args:
        learner: on its device; it is in eval mode afterwards.
        phase: to train.
        stage: index of the phase in `Learner.training_stages()`.
        source: features of all training images, or views of them.
        settings: of the phase.
        context: of the fit.

    Raises:
        AnoframeError: a loss or weights that are not finite (names the files of the batch that caused it), or a batch
            with one value per channel for batch normalisation.
    """

    def __init__(
        self,
        learner: Learner,
        phase: Phase,
        stage: int,
        source: FeatureStore | ViewSource,
        settings: TrainingSettings,
        context: FitContext,
    ):
        self._learner, self._phase, self._stage = learner, phase, stage
        self._source, self._settings, self._context = source, settings, context
        self._group = context.group
        self._device = next(learner.buffers()).device
        self._rows = list(range(len(source)) if phase.rows is None else phase.rows)
        self._steps_per_epoch, self._num_steps = settings.num_steps(len(self._rows))
        self._num_epochs = math.ceil(self._num_steps / self._steps_per_epoch)
        self._optimizer = build_optimizer(settings.optimizer, phase.parameters)
        self._schedule = build_schedule(settings, self._optimizer, self._steps_per_epoch, self._num_steps)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.precision == "float16")
        self._loss = compile_deterministic(phase.loss) if settings.compile else phase.loss
        self._done = 0  # steps

    # ------------------------------------------------------------------------------------------------ the loop

    def run(self, state: TrainingState | None = None) -> None:
        """Train to the end of the phase.

        Args:
            state: of this phase, to resume from; the learner has its `learned` already.
        """
        seed_generators(self._context.seed, self._stage, *self._rank_seed())
        self._start_or_resume(state if state and state.steps else None)
        self._warn_about_warmup()
        saved = time.monotonic()
        bar = ProgressBar(self._num_steps, self._log.title, self._done)
        with self._training_mode(), self._distributed_loss() as loss, bar:
            self._source.start(self._planned_batches(loss))
            while self._done < self._num_steps:
                self._take_step(loss, bar)
                if self._done % self._steps_per_epoch == 0 or self._done == self._num_steps:
                    self._end_epoch()
                is_due = time.monotonic() - saved >= 60 * self._settings.save_minutes
                if self._group.broadcast_flag(is_due) and self._done < self._num_steps:
                    self._save_state()
                    saved = time.monotonic()
        if message := self._broken_weights_message():
            raise AnoframeError(message)
        sync_learned_state(self._learner, self._group)
        if self._test_evaluation.best:
            self._learner.load_learned_state(self._test_evaluation.best["learned"])
        self._context.save_state(self._stage + 1, 0, self._learner)

    def _rank_seed(self) -> tuple[int, ...]:
        """Extra number in the seed of each process but the first; else several images would get the same noise."""
        return () if self._group.is_main else (self._group.rank,)

    def _distributed_loss(self) -> AbstractContextManager[DistributedLoss]:
        return distributed_loss(self._learner, self._phase, self._loss, self._group, self._settings.sync_batchnorm)

    def _take_step(self, loss: DistributedLoss, bar: ProgressBar) -> None:
        """Take one optimiser step over one batch, in `accumulate` parts."""
        started = time.perf_counter()
        self._schedule.step_update(self._done)
        rows = self._batch_rows(self._done)
        losses: dict[str, float] = {}
        data_seconds = 0.0
        num_rows = 0
        epoch = self._done // self._steps_per_epoch
        for part in _split(rows, self._settings.accumulate):
            requested = time.perf_counter()
            shard = loss.shard(part)
            batch = self._source.batch(shard.rows, epoch, self._settings.channels_last)
            data_seconds += time.perf_counter() - requested
            share, num_rows = len(part) / len(rows), num_rows + len(part)
            with loss.accumulate(shard, is_last=num_rows == len(rows)):
                values = self._backward(loss, batch, shard, share)
            for name, value in values.items():
                losses[name] = losses.get(name, 0.0) + share * shard.weight * value
        losses = dict(zip(losses, self._group.all_reduce_values(list(losses.values())), strict=True))
        backward_ended = time.perf_counter()
        self._update()
        ended = time.perf_counter()
        self._done += 1
        seconds, update_seconds = ended - started, ended - backward_ended
        self._log.log_step(
            StepRecord(
                self._done, epoch + 1, len(rows), losses, self._learning_rate(), seconds, data_seconds, update_seconds
            ),
            bar,
        )

    def _planned_batches(self, loss: DistributedLoss) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (epoch, rows) of every batch that `_take_step` will ask for, in this process."""
        for step in range(self._done, self._num_steps):
            for part in _split(self._batch_rows(step), self._settings.accumulate):
                yield step // self._steps_per_epoch, loss.shard(part).rows

    def _batch_rows(self, step: int) -> list[int]:
        """Images of a step. The order of an epoch depends on nothing but the seed, the stage and the epoch."""
        epoch, position = divmod(step, self._steps_per_epoch)
        order = np.random.default_rng((self._context.seed, self._stage, epoch)).permutation(len(self._rows))
        size = self._settings.batch_size
        return [self._rows[i] for i in order[position * size : (position + 1) * size]]

    def _backward(self, loss: DistributedLoss, batch: TrainingBatch, shard: Shard, share: float) -> dict[str, float]:
        """Add the gradient of a shard to the gradients of the parameters; returns its losses and measurements.

        Args:
            share: of the part's images in the batch of the step, in (0, 1].
        """
        settings = self._settings
        with torch.autocast(self._device.type, settings.dtype, enabled=settings.precision != "float32"):
            losses = self._compute_losses(loss, batch)
        minimised = [value.float() for name, value in losses.items() if name not in self._phase.measurements]
        total = torch.stack(minimised).sum()
        if not bool(total.isfinite()):
            raise AnoframeError(self._infinite_loss_message(losses, batch))
        self._scaler.scale(loss.scale(total, shard) * share).backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _compute_losses(self, loss: DistributedLoss, batch: TrainingBatch) -> Mapping[str, Tensor]:
        try:
            return loss(batch)
        except torch._dynamo.exc.TorchDynamoException as error:  # only with trainer.compile
            reason = str(error).strip().splitlines()[0]
            raise AnoframeError(f"torch.compile fails on this machine ({reason}): --trainer.compile False") from error
        except ValueError as error:
            if not is_single_value_error(error):
                raise
            raise AnoframeError(
                f"phase {self._phase.name}: batch normalisation needs more than one value per channel, and images of "
                f"this size in a batch of {len(batch)} give one: change --trainer.batch_size, or enlarge --data.crop"
            ) from error

    def _update(self) -> None:
        """Update the parameters with the accumulated gradient."""
        if self._settings.clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(list(self._phase.parameters.values()), self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    def _learning_rate(self) -> float:
        rate: float = self._optimizer.param_groups[0]["lr"]
        return rate

    def _end_epoch(self) -> None:
        """Record the epoch, and evaluate on the test images if that is due."""
        epoch = math.ceil(self._done / self._steps_per_epoch)
        self._log.end_epoch(epoch, self._learning_rate())
        self._test_evaluation.run_if_due(self._learner, epoch, self._done == self._num_steps)

    @contextmanager
    def _training_mode(self) -> Iterator[None]:
        """Context in which the learner trains: only the phase's parameters require gradients.

        The memory layout of the parameters is restored at the end because kernels round differently for each layout:
        so a learner is evaluated with the same rounding now and after its checkpoint is loaded.
        """
        trained = {id(parameter) for parameter in self._phase.parameters.values()}
        required_grad = {parameter: parameter.requires_grad for parameter in self._learner.parameters()}
        for parameter in required_grad:
            parameter.requires_grad_(id(parameter) in trained)
        self._learner.train()
        self._set_memory_layout(self._settings.channels_last)
        try:
            yield
        finally:
            self._optimizer.zero_grad(set_to_none=True)
            for parameter, before in required_grad.items():
                parameter.requires_grad_(before)
            self._learner.eval()
            self._set_memory_layout(False)

    def _set_memory_layout(self, channels_last: bool) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for parameter in self._phase.parameters.values():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)

    # ------------------------------------------------------------------------------------------------ messages

    def _warn_about_warmup(self) -> None:
        warmup = self._settings.warmup_steps(self._steps_per_epoch)
        if warmup >= self._num_steps:
            text = (
                f"phase {self._phase.name} trains for {self._num_steps} steps, and its learning rate rises for "
                f"{warmup}: it never reaches --trainer.optimizer.lr; see --trainer.schedule.warmup_epochs"
            )
            self._context.tracker.log("warning", text=text)

    def _infinite_loss_message(self, losses: Mapping[str, Tensor], batch: TrainingBatch) -> str:
        values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in losses.items())
        text = f"the loss is not finite ({values})"
        return self._broken_weights_message() or self._message_with_files(self._done + 1, text, batch.samples)

    def _broken_weights_message(self) -> str:
        """Message about weights that are not finite; empty if all are finite.

        The last step caused them: its loss was finite, its gradient was not.
        """
        if not self._done or all(bool(weights.isfinite().all()) for weights in self._phase.parameters.values()):
            return ""
        samples = [self._source.samples[row] for row in self._batch_rows(self._done - 1)]
        return self._message_with_files(self._done, "it left weights that are not finite", samples)

    def _message_with_files(self, step: int, problem: str, samples: Sequence[Sample]) -> str:
        files = "\n".join(f"  {sample.image}" for sample in samples)
        return (
            f"phase {self._phase.name}, step {step}: {problem}. Lower --trainer.optimizer.lr, set --trainer.clip, or "
            f"check the images of this batch:\n{files}"
        )

    # ------------------------------------------------------------------------------------------------ states

    def _start_or_resume(self, state: TrainingState | None) -> None:
        """Create the log and the test evaluation of this phase, and restore a state into everything that trains."""
        curve = self._context.curves["phases"][-1] if state else new_curve(self._context, self._phase)
        totals = EpochTotals(**state.rest["totals"]) if state else None
        self._log = EpochLog(self._context, curve, self._num_epochs, totals, self._phase.measurements)
        best = state.rest["best"] if state else None
        self._test_evaluation = TestEvaluation(self._context, self._settings, self._log.title, best)
        if state:
            self._done = state.steps
            self._set_memory_layout(self._settings.channels_last)  # before the optimiser's state takes this layout
            self._optimizer.load_state_dict(state.rest["optimizer"])
            self._scaler.load_state_dict(state.rest["scaler"])
            set_random_states(state.rest["random"][self._group.rank])

    def _save_state(self) -> None:
        self._context.save_state(
            self._stage,
            self._done,
            self._learner,
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            random=self._group.all_gather(random_states()),
            totals=vars(self._log.totals),
            best=self._test_evaluation.best,
        )


def _split(rows: Sequence[int], count: int) -> Iterator[Sequence[int]]:
    """Split rows into `count` parts of nearly equal size; fewer where some would be empty."""
    bounds = np.linspace(0, len(rows), min(count, len(rows)) + 1).round().astype(int)
    return (rows[start:end] for start, end in pairwise(bounds))
