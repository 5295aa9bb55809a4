"""Sites and slots: adapters that are mixed per image, and descriptors that measure how novel an image is.

Wang et al., "Self-Expansion of Pre-trained Models with Mixture of Adapters for Continual Learning", CVPR 2025 (SEMA). A
*site* is a sub-layer with adapters. It has a growing list of *slots*, each with

- a functional adapter, which changes the tokens;
- a descriptor, a small autoencoder of the token mean; a large error means that the slot was not trained for the image;
- a router column, which gives the weight of the adapter relative to those of the other slots.

Tokens are `[B, L, d]`. Every image is processed independently: means are over the tokens of one image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from anoframe.models.sema_uniad.settings import LEAST_RECORDS, SemaSettings

_LEAST_DEVIATION = 1e-8  # for losses that are all equal


@dataclass
class AdapterContext:
    """Routing and records of one forward pass. Each pass has its own, so threads share nothing.

    Attributes:
        path: site index -> the only slot that all images use; sites that are not listed mix their slots.
        token_means: site index -> token means `[B, d]` of the site's input without gradient; filled by the pass.
    """

    path: Mapping[int, int] = field(default_factory=dict)
    token_means: dict[int, Tensor] = field(default_factory=dict)


class FunctionalAdapter(nn.Module):
    """`scalar * (W_up ReLU(W_down h + b_down) + b_up)` per token; initialised like LoRA, so its first output is zero.

    Args:
        width: token width `d`.
        settings: bottleneck, dropout and scalar.
    """

    def __init__(self, width: int, settings: SemaSettings):
        super().__init__()
        self.down = nn.Linear(width, settings.adapter_bottleneck)
        self.dropout = nn.Dropout(settings.adapter_dropout)
        self.up = nn.Linear(settings.adapter_bottleneck, width)
        self.scalar = settings.adapter_scalar
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scalar * self.up(self.dropout(self.down(tokens).relu()))


class LossRecord(nn.Module):
    """The latest losses of a descriptor, and z-scores of other losses. The losses are part of the `state_dict`.

    Args:
        size: number of losses that are kept.
        one_sided: use signed z-scores instead of absolute ones.
    """

    losses: Tensor
    frozen: Tensor

    def __init__(self, size: int = 500, one_sided: bool = False):
        super().__init__()
        self.size, self.one_sided = size, one_sided
        self.register_buffer("losses", torch.empty(0))  # [at most size], the newest last
        self.register_buffer("frozen", torch.tensor(False))

    def clear(self) -> None:
        """Remove all losses and accept new ones."""
        self.losses, self.frozen = self.losses[:0], torch.zeros_like(self.frozen)

    def push(self, losses: Tensor) -> None:
        """Add losses `[B]`, the newest last; ignored if the record is frozen."""
        if not self.frozen:
            self.losses = torch.cat([self.losses, losses.detach().to(self.losses)])[-self.size :]

    def freeze(self) -> None:
        """Accept no more losses."""
        self.frozen = torch.ones_like(self.frozen)

    def z_scores(self, losses: Tensor) -> Tensor:
        """z-scores of losses `[B]` by the mean and unbiased deviation of the record; 0 with fewer than 3 records."""
        if len(self.losses) < LEAST_RECORDS:
            return torch.zeros_like(losses)
        z = (losses - self.losses.mean()) / self.losses.std().clamp(min=_LEAST_DEVIATION)
        return z if self.one_sided else z.abs()


class Descriptor(nn.Module):
    """Describes the images a slot was trained on: an autoencoder of token means, and its losses on them.

    Args:
        width: width `d` of the means.
        settings: bottleneck, ReLU, and size of the loss record.
    """

    def __init__(self, width: int, settings: SemaSettings):
        super().__init__()
        dim = settings.descriptor_dim
        self.encode, self.decode = nn.Linear(width, dim), nn.Linear(dim, width)
        self.activation = nn.ReLU() if settings.descriptor_relu else nn.Identity()
        self.record = LossRecord(settings.descriptor_buffer_size, settings.one_sided)
        for layer in (self.encode, self.decode):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
            nn.init.zeros_(layer.bias)

    def loss(self, means: Tensor) -> Tensor:
        """Mean squared reconstruction error `[B]` of token means `[B, d]`; the means get no gradient."""
        target = means.detach()
        return (self.decode(self.activation(self.encode(target))) - target).square().mean(1)

    def z_scores(self, means: Tensor) -> Tensor:
        """z-scores `[B]` of images with token means `[B, d]`: how novel they are to this slot."""
        return self.record.z_scores(self.loss(means))


class Slot(nn.Module):
    """An adapter, its descriptor, and its router column.

    Each slot has its own column instead of a row of a common matrix: later training, weight decay included, cannot
    change the columns of frozen slots, and nothing has to be merged.
    """

    def __init__(self, width: int, settings: SemaSettings):
        super().__init__()
        self.adapter = FunctionalAdapter(width, settings)
        self.descriptor = Descriptor(width, settings)
        self.router = nn.Linear(width, 1) if settings.routing == "learned" else None


class ExpandingAdapter(nn.Module):
    """The slots of a site. Their adapters are mixed per image by a softmax over the slots. It starts with one slot.

    With learned routing, the logits are linear in the token mean. A new column takes its weight at once, so the old
    mixture is scaled down when a slot is added, unless `new_router_bias` is far below 0.

    Otherwise the logits are minus the z-scores of the slots, which depend only on frozen parameters. z-scores below 0,
    possible with `one_sided`, count as 0: otherwise a slot would attract images that it reconstructs better than its
    own. A slot without loss records has z = 0, so it attracts the images that are novel to the others.

    Args:
        width: token width `d`.
        settings: settings of the slots.
        sequential: the input is the sub-layer's output, and the sum of both is passed on; see `Residual`.
        index: index of the site, which is its key in an `AdapterContext`.
    """

    def __init__(self, width: int, settings: SemaSettings, sequential: bool, index: int = 0):
        super().__init__()
        self.width, self.settings, self.sequential, self.index = width, settings, sequential, index
        self.slots = nn.ModuleList([Slot(width, settings)])

    @property
    def newest(self) -> Slot:
        return self.all_slots[-1]

    @property
    def all_slots(self) -> list[Slot]:
        """The slots, the oldest first."""
        return list(self.slots)  # type: ignore[arg-type]  # a list of modules, for mypy

    def resize(self, count: int) -> None:
        """Set the number of slots: remove the newest ones, or add new ones."""
        while len(self.slots) > count:
            del self.slots[-1]
        while len(self.slots) < count:
            slot = Slot(self.width, self.settings)
            if slot.router is not None and self.settings.new_router_bias is not None:
                nn.init.constant_(slot.router.bias, self.settings.new_router_bias)
            self.slots.append(slot.to(next(self.parameters()).device).train(self.training))

    def z_scores(self, means: Tensor) -> Tensor:
        """z-scores `[slots, B]` of images with token means `[B, d]`, for each slot."""
        return torch.stack([slot.descriptor.z_scores(means) for slot in self.all_slots])

    def weights(self, means: Tensor) -> Tensor:
        """Slot weights `[B, slots]` of images with token means `[B, d]`. Rows sum to 1; a single slot has exactly 1."""
        if self.settings.routing == "learned":
            return torch.softmax(torch.cat([slot.router(means) for slot in self.all_slots if slot.router], 1), 1)
        return torch.softmax(-self.z_scores(means.detach()).clamp(min=0).T, 1)

    def forward(self, tokens: Tensor, context: AdapterContext | None = None) -> Tensor:
        """The adapters' output `[B, L, d]` for tokens `[B, L, d]`.

        Args:
            tokens: input of the site.
            context: can fix the slot of this site, and receives the token means; None mixes all slots.
        """
        means = tokens.mean(1)
        fixed_slot = None
        if context is not None:
            context.token_means[self.index] = means.detach()
            fixed_slot = context.path.get(self.index)
        if fixed_slot is not None or len(self.slots) == 1:
            return self.all_slots[fixed_slot or 0].adapter(tokens)
        weights = self.weights(means)
        mixture = torch.zeros_like(tokens)
        for number, slot in enumerate(self.all_slots):
            mixture = mixture + weights[:, number, None, None] * slot.adapter(tokens)
        return mixture


@dataclass(frozen=True)
class AdapterSite:
    """A site and its location in the network.

    Attributes:
        layer_id: number of the layer, see `anoframe.models.uniad.transformer.Site`.
        kind: kind of the sub-layer.
        adapter: the module.
        name: name of the module, the prefix of its tensors in a checkpoint.
    """

    layer_id: int
    kind: str
    adapter: ExpandingAdapter
    name: str

    @property
    def newest(self) -> Slot:
        return self.adapter.newest

    @property
    def label(self) -> str:
        """For example `layer 3 ffn`."""
        return f"layer {self.layer_id} {self.kind}"
