"""CLAP4CLIP: probabilistic fine-tuning of CLIP for classes that arrive task by task.

Jha, Gong and Yao, "CLAP4CLIP: Continual Learning with Probabilistic Finetuning for Vision-Language Models", NeurIPS
2024 (arXiv 2403.19137). What differs from the published code, and why: `docs/clap4clip.md`.

Text features of classes attend to the images of a batch; one adapter per task turns them into a Gaussian distribution,
whose samples are class weights. A task has two phases: `task`, on its new images and the exemplars of earlier tasks,
and `balance`, on equally many exemplars of every class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental import losses
from anoframe.models.class_incremental.base import ClassOf, category_class
from anoframe.models.class_incremental.coop import ContextPrompts
from anoframe.models.class_incremental.network import ClapNetwork, Draws
from anoframe.models.class_incremental.noise import FixedNoise, draw_noise
from anoframe.models.class_incremental.priors import Gaussian
from anoframe.models.class_incremental.report import summarise
from anoframe.models.class_incremental.routing import mean_direction, route
from anoframe.models.class_incremental.settings import (
    ContextSettings,
    LossSettings,
    PosteriorSettings,
    RoutingSettings,
    VGASettings,
    check_prompt_style,
    read_settings,
)
from anoframe.models.class_incremental.text import Prompts, TextSource
from anoframe.models.class_incremental.text_learner import TextLearner
from anoframe.models.class_incremental.vga import task_of_class
from anoframe.models.components.exemplars import MemorySettings, exemplar_stage
from anoframe.models.learner import Features, Observation, Phase, TrainingBatch
from anoframe.models.summary import MethodSummary
from anoframe.types import Sample

PHASES = ("task", "balance")


class Clap4Clip(TextLearner):
    """Class-incremental classifier with a distribution over the text features of each class.

    Args:
        features: length D of a feature vector.
        text: source of the text features.
        class_of: class of a training sample.
        seed: of new weights, of the noise at a test, and of the choice of exemplars.
        prompt_style: `"hand_crafted"`, or `"coop"`: learned context vectors through the text tower.
        scale: factor of cosines in logits.
        balance: train the phase `balance` after the first task, if there are exemplars.
        vga, posterior, loss, routing, context: arguments of the classes in `settings.py`; `context` is of `coop`.
        memory: arguments of `MemorySettings`; with `per_class` 0 there are no exemplars.

    Raises:
        AnoframeError: a value is out of range, an argument is unknown, or two of them exclude each other.
    """

    anchors: Tensor  # [T, D], mean direction of the new training images of each task; empty without routing

    def __init__(
        self,
        features: int,
        text: TextSource,
        class_of: ClassOf = category_class,
        seed: int = 0,
        prompt_style: str = "hand_crafted",
        scale: float = 100.0,
        balance: bool = True,
        vga: Mapping[str, Any] | None = None,
        posterior: Mapping[str, Any] | None = None,
        loss: Mapping[str, Any] | None = None,
        routing: Mapping[str, Any] | None = None,
        memory: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ):
        super().__init__(features, text, class_of, scale)
        check_prompt_style(prompt_style)
        self.seed, self.balance, self.prompt_style = seed, balance, prompt_style
        self.posterior = read_settings(PosteriorSettings, posterior, "model.classifier.posterior")
        self.loss = read_settings(LossSettings, loss, "model.classifier.loss")
        self.routing = read_settings(RoutingSettings, routing, "model.classifier.routing")
        self.memory = read_settings(MemorySettings, memory, "model.classifier.memory")
        attention = read_settings(VGASettings, vga, "model.classifier.vga")
        if self.loss.distillation and not self.posterior.hierarchical:
            raise AnoframeError(
                "model.classifier.loss.distillation compares global means, which model.classifier.posterior."
                "hierarchical False has not: set it to True, or the weight to 0"
            )
        self.network = ClapNetwork(features, attention, self.posterior, prompt_style)
        self.context = self._build_context(read_settings(ContextSettings, context, "model.classifier.context"))
        self.previous: ClapNetwork | None = None  # the network after the last task, for distillation
        self.register_buffer("anchors", torch.zeros(0, features))
        self._noise = FixedNoise(seed)
        self._observed_sum: list[Tensor] = []

    def _build_context(self, settings: ContextSettings) -> ContextPrompts | None:
        if self.prompt_style != "coop":
            return None
        if not isinstance(self.text, Prompts):
            raise AnoframeError(
                "model.classifier.prompt_style coop has prompts, and model.text.source is prototypes: "
                "--model.text.source prompts, or --model.classifier.prompt_style hand_crafted"
            )
        return ContextPrompts(self.text.encoder, settings)

    # ------------------------------------------------------------------------------------------------ tasks

    def text_features(self) -> Tensor:
        if self.context is None:
            return super().text_features()
        assert isinstance(self.text, Prompts)
        features: Tensor = self.context([self.text.words(name) for name in self.classes])
        return features

    @property
    def counts(self) -> list[int]:
        """Number of classes of each task."""
        counts: list[int] = self.class_counts.tolist()
        return counts

    def _begin_task(self, task: int) -> None:
        seed = int(np.random.SeedSequence((self.seed, task)).generate_state(1)[0])
        if task:
            with torch.random.fork_rng(devices=[]):  # weights of a task depend on seed and task alone
                torch.manual_seed(seed)
                self._resize(task + 1)
        super()._begin_task(task)

    def _resize(self, tasks: int) -> None:
        self.network.resize(tasks)
        if self.context is not None:
            self.context.resize(tasks)

    def _add_text(self, features: Tensor) -> None:
        super()._add_text(features)
        task = len(self.class_counts) - 1
        if task == 0 or self.posterior.expandable:
            self.network.adapter(task).initialise(self.text_means, self.text_variances)

    def finish_task(self) -> None:
        if self.loss.distillation:
            self.previous = self.network.frozen_copy()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state of `learned_state`, with as many tasks as it has."""
        if "class_counts" in state:
            self._resize(max(1, len(state["class_counts"])))
            has_previous = any(name.startswith("previous.") for name in state)
            self.previous = self.network.frozen_copy() if has_previous else None
            if self.previous is not None and len(self.previous.tokens):
                tokens = sum(name.startswith("previous.tokens.") for name in state)
                self.previous.tokens = self.previous.tokens[:tokens]
        super().load_learned_state(state)

    # ------------------------------------------------------------------------------------------------ training

    def phase_names(self) -> Sequence[str]:
        return PHASES

    def training_stages(self) -> Sequence[Observation | Phase]:
        data, task = self._data, max(0, len(self.class_counts) - 1)
        stages: list[Observation | Phase] = [*self.text_stages(), self._phase("task")]
        if data is None:  # no task yet: the list of phases, for the checks of a plan
            return [*stages, self._phase("balance")]
        if not self.memory.is_empty:
            stages.append(exemplar_stage(self, self.memory, data, self.class_of, self.seed))
            if task and self.balance:
                stages.append(self._phase("balance", self.exemplar_rows.tolist()))
        if self.routing.mode != "none":
            anchor = self._begin_anchor, self._observe_anchor, self._finish_anchor
            stages.append(Observation("anchors", *anchor, rows=data.new_rows))
        return stages

    def _phase(self, name: str, rows: Sequence[int] | None = None) -> Phase:
        loss = partial(self._losses, name == "balance")
        couples = self.network.vga is not None
        parameters = self._trained_parameters(name == "balance")
        return Phase(name, parameters, loss, rows=rows, measurements=("accuracy",), couples_batch=couples)

    def _trained_parameters(self, is_balance: bool) -> dict[str, nn.Parameter]:
        """Name the parameters of a phase: all but those of older tasks; or all but the attention."""
        by_task: list[list[Any]] = [list(self.network.adapters), list(self.network.tokens)]  # or a single entry for all
        by_task += [] if self.context is None else [list(self.context.vectors)]
        fixed = {id(value) for parts in by_task for part in parts[:-1] for value in _parameters(part)}
        attention = {id(value) for value in ([] if self.network.vga is None else self.network.vga.parameters())}
        parts = [("network", self.network), *([] if self.context is None else [("context", self.context)])]
        named = [item for prefix, module in parts for item in module.named_parameters(prefix=prefix)]
        excluded = attention if is_balance else fixed
        return {name: value for name, value in named if id(value) not in excluded}

    def _losses(self, is_balance: bool, batch: TrainingBatch) -> Mapping[str, Tensor]:
        """Compute the losses of a batch; the phase `balance` has those of every task, without dropout."""
        self.network.train(not is_balance)
        images, labels = self.unit_features(batch.features), self.batch_labels(batch)
        text = self.text_features()
        draws = self.network(text, images, self.counts, draw_noise)
        logits = self._logits(images, draws)
        values = {"cross_entropy": losses.sample_cross_entropy(logits, labels)}
        trained = range(len(draws.tasks)) if is_balance else range(len(draws.tasks) - 1, len(draws.tasks))
        if self.loss.language:
            values["lang_loss"] = self.loss.language * self._language_loss(draws, trained)
        if self.loss.kl and self.posterior.variational:
            values["kl_loss"] = self.loss.kl * self._kl_loss(draws, trained, text, images, is_balance)
        if self.loss.distillation and self.previous is not None:
            values["distillation"] = self.loss.distillation * self._distillation_loss(draws, text, images)
        if self.loss.orthogonality:
            means = torch.cat([draw.samples.mean(0) for draw in draws.tasks])
            values["orthogonality"] = self.loss.orthogonality * losses.orthogonality_loss(means)
        hits = logits.detach().mean(0).argmax(-1) == labels
        return {**values, "accuracy": hits.float().mean()}

    def _language_loss(self, draws: Draws, trained: range) -> Tensor:
        terms = [losses.language_loss(self._of_task(self.text_means, i), draws.tasks[i].samples) for i in trained]
        if draws.samples is not None:
            terms.append(losses.language_loss(self.text_means, draws.samples))
        return torch.stack(terms).sum()

    def _kl_loss(self, draws: Draws, trained: range, text: Tensor, images: Tensor, is_balance: bool) -> Tensor:
        terms = [losses.kl_loss(draws.tasks[i].posterior, self._prior(i, text, images, is_balance)) for i in trained]
        if draws.posterior is not None:
            prior = None
            if self.posterior.prior == "np" and not is_balance:
                prior = self.network.global_prior_from_images(draws.guided, self._context(images), self.counts)
            terms.append(losses.kl_loss(draws.posterior, prior))
        return torch.stack(terms).sum()

    def _prior(self, task: int, text: Tensor, images: Tensor, is_balance: bool) -> Gaussian | None:
        """Return the prior of a task; None is N(0, I), as with `np` and CoOp in the phase `balance`."""
        if self.posterior.prior == "np" and not (is_balance and self.context is not None):
            return self.network.prior_from_images(self._of_task(text, task), self._context(images), task)
        if self.posterior.prior == "frozen":
            prior: Gaussian = self.network.adapter(task)(self._of_task(self.text_means, task))
            return prior
        return None

    def _context(self, images: Tensor) -> Tensor:
        """Draw the part of a batch that the prior `np` sees."""
        count = int(np.ceil(self.posterior.context * len(images)))
        return images[torch.randperm(len(images), device=images.device)[:count]]

    def _distillation_loss(self, draws: Draws, text: Tensor, images: Tensor) -> Tensor:
        assert self.previous is not None and self.previous.global_adapter is not None and draws.posterior is not None
        counts = self.counts[:-1]
        with torch.no_grad():
            self.previous.eval()
            guided, _ = self.previous.guide(text[: sum(counts)], images, counts)
            old: Tensor = self.previous.global_adapter(guided).mean
        return losses.distillation_loss(old, draws.posterior.mean[: len(old)])

    def _of_task(self, values: Tensor, task: int) -> Tensor:
        """Return the rows of the classes of a task, of `[C, d]`."""
        classes = self.task_classes[task]
        return values[classes.start : classes.stop]

    # ------------------------------------------------------------------------------------------------ anchors

    def _begin_anchor(self, images: int) -> None:
        self._observed_sum = []

    def _observe_anchor(self, features: Features, samples: Sequence[Sample]) -> None:
        self._observed_sum.append(self.unit_features(features))

    def _finish_anchor(self) -> None:
        anchor, self._observed_sum = mean_direction(torch.cat(self._observed_sum)), []
        self.anchors = torch.cat([self.anchors[: len(self.class_counts) - 1], anchor[None]])

    # ------------------------------------------------------------------------------------------------ logits

    def _logits(self, images: Tensor, draws: Draws) -> Tensor:
        """Compute `scale * v . w`, `[S, B, C]`, for images that were drawn for together."""
        weights = torch.cat([draw.weights for draw in draws.tasks], 1)  # [S, C, d]
        products = images @ weights.flatten(0, 1).T  # [B, S C]
        return self.scale * products.unflatten(1, weights.shape[:2]).transpose(0, 1)

    @torch.no_grad()
    def logits(self, features: Tensor, jointly: bool = False) -> Tensor:
        images = self.unit_features(features)
        if not self.classes:
            return images.new_zeros(1, len(images), 0)
        with self.eval_mode():
            text = self.text_features()
            if jointly or self.network.vga is None:  # without attention no image sees another
                values = self._logits(images, self.network(text, images, self.counts, self._noise))
            else:
                values = self.scale * self.network.each_image(text, images, self.counts, self._noise)
        if self.routing.mode == "none":
            return values
        task = task_of_class(self.counts).to(images.device)
        return route(values, images, self.anchors, task, self.routing, jointly)

    # ------------------------------------------------------------------------------------------------ reporting

    def num_learned_values(self) -> int:
        """Number of parameters, and of the kept values of prototypes; not of copies for distillation."""
        kept = self.text_means.numel() + self.text_variances.numel() if self.text.from_images else 0
        own = sum(parameter.numel() for parameter in self.network.parameters())
        return kept + own + (0 if self.context is None else sum(map(Tensor.numel, self.context.parameters())))

    def summary(self) -> MethodSummary:
        text = self.text_means if self.context is not None else self.text_features()  # no pass of the text tower
        return summarise(self.network, text, self.task_classes, self.classes)


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())
