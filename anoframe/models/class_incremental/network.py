"""What CLAP4CLIP learns: visual-guided attention, task tokens, and one variational adapter per task."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anoframe.models.class_incremental.adapters import Adapter
from anoframe.models.class_incremental.noise import Noise
from anoframe.models.class_incremental.priors import Gaussian
from anoframe.models.class_incremental.settings import PosteriorSettings, VGASettings
from anoframe.models.class_incremental.vga import VGA, block_mask, default_heads, task_of_class

TOKEN_STD = 0.02


@dataclass(frozen=True)
class TaskDraw:
    """Samples of the classes of one task.

    Attributes:
        posterior: `[K, d]`; `[S_g, K, d]` if hierarchical.
        samples: `[S, K, d]`, what the adapter draws, `z`; S is the number of all samples.
        weights: `[S, K, d]`, class weights `h + z`.
    """

    posterior: Gaussian
    samples: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Draws:
    """Samples of all classes.

    Attributes:
        tasks: one entry per task.
        guided: `[C, d]`, `q + u`, text features after the attention, without task tokens.
        posterior: of the global adapter, `[C, d]`; None without.
        samples: of the global adapter, `[S_g, C, d]`; None without.
    """

    tasks: Sequence[TaskDraw]
    guided: Tensor
    posterior: Gaussian | None = None
    samples: Tensor | None = None


class ClapNetwork(nn.Module):
    """Distribution over the text features of all classes, given images.

    Args:
        width: d, of text and image features.
        vga: settings of the attention.
        posterior: settings of the distribution.
        prompt_style: decides the default number of heads, and whether adapters have a LayerNorm.
    """

    def __init__(self, width: int, vga: VGASettings, posterior: PosteriorSettings, prompt_style: str = "hand_crafted"):
        super().__init__()
        self.width, self.settings, self._has_norm = width, posterior, prompt_style == "coop"
        heads = vga.heads or default_heads(width, prompt_style)
        self.vga = VGA(width, heads, vga.hidden, vga.dropout) if vga.enabled else None
        self.adapters = nn.ModuleList([self._new_adapter()])
        self.global_adapter = self._new_adapter() if posterior.hierarchical else None
        self.tokens = nn.ParameterList([_new_token(width)] if vga.task_tokens else [])

    def _new_adapter(self) -> Adapter:
        return Adapter(self.width, self.settings.variational, self._has_norm)

    def resize(self, tasks: int) -> None:
        """Grow to `tasks` tasks, 1 or more; or drop the last ones. New weights come from torch's generator."""
        device = next(self.parameters()).device
        if self.settings.expandable:
            while len(self.adapters) < tasks:
                self.adapters.append(self._new_adapter().to(device))
            self.adapters = self.adapters[:tasks]
        if len(self.tokens):
            while len(self.tokens) < tasks:
                self.tokens.append(_new_token(self.width).to(device))
            self.tokens = self.tokens[:tasks]

    def adapter(self, task: int) -> Adapter:
        """Return the adapter of a task, which is the same for all without `expandable`."""
        adapter = self.adapters[task if self.settings.expandable else 0]
        assert isinstance(adapter, Adapter)
        return adapter

    def frozen_copy(self) -> ClapNetwork:
        """Return a copy for distillation, which needs no adapter of a task."""
        copy = deepcopy(self)
        copy.adapters = nn.ModuleList()
        return copy.requires_grad_(False)

    # ------------------------------------------------------------------------------------------------ all images

    def forward(self, text: Tensor, images: Tensor, counts: Sequence[int], noise: Noise) -> Draws:
        """Draw samples of all classes for a batch, whose images the attention sees together.

        Args:
            text: `[C, d]`, unit text features `q`.
            images: `[B, d]`, unit image features.
            counts: number of classes of each task.
            noise: source of noise.
        """
        guided, h = self.guide(text, images, counts)
        posterior = samples = None
        if self.global_adapter is not None:
            posterior = self.global_adapter(guided)
            shape = (self.settings.global_samples, self.width)
            samples = posterior.sample(noise("global", range(len(text)), shape, text.device))  # [S_g, C, d]
            h = h + samples
        tasks = [self._draw(task, classes, h, noise) for task, classes in enumerate(_ranges(counts))]
        return Draws(tasks, guided, posterior, samples)

    def guide(self, text: Tensor, images: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return text features after the attention, `q + u`, and the same with task tokens, `[C, d]` each."""
        if self.vga is None:
            return text, text
        mask = block_mask(counts, bool(len(self.tokens))).to(text.device)
        u = self.vga(self._queries(text, len(counts)), images, mask)
        guided = text + u[: len(text)]
        return guided, self._add_tokens(guided, u, counts)

    def _draw(self, task: int, classes: range, h: Tensor, noise: Noise) -> TaskDraw:
        own = h[..., classes.start : classes.stop, :]
        posterior = self.adapter(task)(own)
        leading = (self.settings.samples, *own.shape[:-2])
        samples = posterior.sample(noise("task", classes, (*leading, self.width), h.device))
        weights = own + samples  # [S, K, d] or [S, S_g, K, d]
        if own.ndim == 3:
            samples, weights = samples.flatten(0, 1), weights.flatten(0, 1)
        return TaskDraw(posterior, samples, weights)

    def prior_from_images(self, text: Tensor, images: Tensor, task: int) -> Gaussian:
        """Return the distribution that the adapter of a task gives its classes for some images alone: the prior `np`.

        Args:
            text: `[K, d]`, unit text features of the task.
            images: `[B, d]`.
            task: number of the task.
        """
        if self.vga is None:
            return self.adapter(task)(text)
        queries = torch.cat([text, self.tokens[task]]) if len(self.tokens) else text
        u = self.vga(queries, images, torch.zeros(len(queries), len(queries), dtype=torch.bool, device=text.device))
        h = text + u[: len(text)]
        return self.adapter(task)(h + u[-1] if len(self.tokens) else h)

    def global_prior_from_images(self, guided: Tensor, images: Tensor, counts: Sequence[int]) -> Gaussian:
        """Return the distribution of the global adapter for some images alone; `guided` `[C, d]` are the queries."""
        assert self.global_adapter is not None
        if self.vga is None:
            return self.global_adapter(guided)
        return self.global_adapter(guided + self.vga(guided, images, block_mask(counts).to(guided.device)))

    # ------------------------------------------------------------------------------------------------ each image

    def each_image(self, text: Tensor, images: Tensor, counts: Sequence[int], noise: Noise) -> Tensor:
        """Compute `v . w` of each image with samples for this image alone, `[S, B, C]`, in eval mode.

        The result for an image is that of `forward` with a batch of one, and depends on no other image.

        Args:
            text, images, counts, noise: as for `forward`.
        """
        guided, h = self._guide_each(text, images, counts)  # [B, C, d] each
        if self.global_adapter is None:
            return self._products(h, images, counts, noise, None)
        posterior = self.global_adapter(guided)
        shape = (self.settings.global_samples, self.width)
        drawn = noise("global", range(len(text)), shape, text.device)  # [S_g, C, d]
        parts = []
        for number, values in enumerate(drawn):
            shifted = h + posterior.sample(values)  # [B, C, d]
            parts.append(self._products(shifted, images, counts, noise, number))
        return torch.stack(parts, 1).flatten(0, 1)  # [S, S_g, B, C] -> [S S_g, B, C]

    def _guide_each(self, text: Tensor, images: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        if self.vga is None:
            shared = text.expand(len(images), -1, -1)
            return shared, shared
        mask = block_mask(counts, bool(len(self.tokens))).to(text.device)
        u = self.vga.each_image(self._queries(text, len(counts)), images, mask)  # [B, L, d]
        guided = text + u[:, : len(text)]
        return guided, self._add_tokens(guided, u, counts)

    def _products(self, h: Tensor, images: Tensor, counts: Sequence[int], noise: Noise, number: int | None) -> Tensor:
        """Compute `v . (h + z)` for task features `[B, C, d]`; `number` is the global sample, whose noise is used."""
        parts = []
        for task, classes in enumerate(_ranges(counts)):
            own = h[:, classes.start : classes.stop]  # [B, K, d]
            posterior = self.adapter(task)(own)
            mean = ((own + posterior.mean) * images[:, None]).sum(-1)  # [B, K]
            if posterior.std is None:
                parts.append(mean[None])
                continue
            leading = (self.settings.samples,) if number is None else (self.settings.samples, self._global_samples)
            drawn = noise("task", classes, (*leading, self.width), h.device)
            drawn = drawn if number is None else drawn[:, number]  # [S, K, d]
            spread = torch.einsum("bkd,skd->sbk", posterior.std * images[:, None], drawn)
            parts.append(mean + spread)
        return torch.cat(parts, -1)

    @property
    def _global_samples(self) -> int:
        return self.settings.global_samples

    # ------------------------------------------------------------------------------------------------ tokens

    def _queries(self, text: Tensor, tasks: int) -> Tensor:
        return torch.cat([text, *self.tokens[:tasks]]) if len(self.tokens) else text

    def _add_tokens(self, guided: Tensor, u: Tensor, counts: Sequence[int]) -> Tensor:
        """Add the output of each task's token to its classes; classes and tokens are on the axis before the last."""
        if not len(self.tokens):
            return guided
        tokens = u[..., guided.shape[-2] :, :]
        return guided + tokens[..., task_of_class(counts).to(u.device), :]


def _new_token(width: int) -> nn.Parameter:
    return nn.Parameter(TOKEN_STD * torch.randn(1, width))


def _ranges(counts: Sequence[int]) -> list[range]:
    """Return the classes of each task.

    >>> _ranges([2, 1])
    [range(0, 2), range(2, 3)]
    """
    ends = torch.tensor(list(counts), dtype=torch.int64).cumsum(0).tolist()
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]
