"""Self-expansion: adapters that multiply at a place of a frozen network, where what comes in looks like nothing known.

Wang et al., "Self-Expansion of Pre-trained Models with Mixture of Adapters for Continual Learning", CVPR 2025 (SEMA). A
*site* is a place where adapters sit. It owns a growing list of *slots*, each of them

- a functional adapter, which changes the tokens that pass;
- a descriptor, a small autoencoder of the tokens' mean: what it rebuilds badly, the slot has not been trained for;
- a column of the router, which weighs the adapter against those of the other slots.

Tokens are `[B, L, d]`. Everything here treats each image by itself: means are taken over the tokens of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

ROUTINGS = ("learned", "rd", "reconstruction")
LEAST_RECORDS = 3  # fewer say nothing of a deviation
LEAST_DEVIATION = 1e-8  # of losses that are all the same


@dataclass(frozen=True)
class SlotSettings:
    """What a slot is made of.

    Args:
        width: `d` of the tokens.
        bottleneck: of the adapter.
        dropout: of the adapter, after its ReLU, while it is trained.
        scalar: the adapter's output times this.
        descriptor_dim: bottleneck of the descriptor.
        descriptor_relu: a ReLU in the descriptor, which is linear otherwise.
        records: losses of the descriptor that its statistics are of.
        one_sided: a loss is strange only where it is larger than usual; otherwise where it is smaller too.
        routing: `"learned"` by a router, `"rd"` by the descriptors; `"reconstruction"` by the whole network, which
            chooses slots: where it does not, as `"rd"`.
        new_router_bias: with which the column of a later slot is born; None leaves it to chance, as the weights.
    """

    width: int
    bottleneck: int = 64
    dropout: float = 0.0
    scalar: float = 1.0
    descriptor_dim: int = 64
    descriptor_relu: bool = False
    records: int = 500
    one_sided: bool = False
    routing: str = "learned"
    new_router_bias: float | None = None


class FunctionalAdapter(nn.Module):
    """`scalar * (W_up ReLU(W_down h + b_down) + b_up)` of each token; zero at birth, as LoRA begins.

    Args:
        width: `d` of the tokens.
        bottleneck, dropout, scalar: see :class:`SlotSettings`.
    """

    def __init__(self, width: int, bottleneck: int = 64, dropout: float = 0.0, scalar: float = 1.0):
        super().__init__()
        self.down, self.dropout, self.up = (
            nn.Linear(width, bottleneck),
            nn.Dropout(dropout),
            nn.Linear(bottleneck, width),
        )
        self.scalar = scalar
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scalar * self.up(self.dropout(self.down(tokens).relu()))


class LossRecord(nn.Module):
    """The newest losses of a descriptor, and how far from them another loss is. It is part of the `state_dict`.

    Args:
        size: losses that are kept.
        one_sided: see :class:`SlotSettings`.
    """

    losses: Tensor
    frozen: Tensor

    def __init__(self, size: int = 500, one_sided: bool = False):
        super().__init__()
        self.size, self.one_sided = size, one_sided
        self.register_buffer("losses", torch.empty(0))  # [at most size], the newest last
        self.register_buffer("frozen", torch.tensor(False))

    def clear(self) -> None:
        """Forget all, and take in losses again."""
        self.losses, self.frozen = self.losses[:0], torch.zeros_like(self.frozen)

    def push(self, losses: Tensor) -> None:
        """Take in the losses `[B]` of some images, the newest last; nothing where the record is frozen."""
        if not self.frozen:
            self.losses = torch.cat([self.losses, losses.detach().to(self.losses)])[-self.size :]

    def freeze(self) -> None:
        """Take in nothing any more."""
        self.frozen = torch.ones_like(self.frozen)

    def z(self, losses: Tensor) -> Tensor:
        """How many standard deviations losses `[B]` are from the mean of those kept; 0 while fewer than 3 are."""
        if len(self.losses) < LEAST_RECORDS:
            return torch.zeros_like(losses)
        away = (losses - self.losses.mean()) / self.losses.std().clamp(min=LEAST_DEVIATION)
        return away if self.one_sided else away.abs()


class Descriptor(nn.Module):
    """What a slot was trained for: an autoencoder of token means, and the losses that it had on them.

    Args:
        width: `d` of the means.
        dim: of the code.
        relu: of the code; without, the autoencoder is linear, as the paper's code has it.
        record: of its losses.
    """

    def __init__(self, width: int, dim: int, relu: bool, record: LossRecord):
        super().__init__()
        self.encode, self.decode = nn.Linear(width, dim), nn.Linear(dim, width)
        self.between = nn.ReLU() if relu else nn.Identity()
        self.record = record
        for layer in (self.encode, self.decode):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
            nn.init.zeros_(layer.bias)

    def loss(self, means: Tensor) -> Tensor:
        """Mean squared error over the features of token means `[B, d]`, which get no gradient: `[B]`."""
        target = means.detach()
        return (self.decode(self.between(self.encode(target))) - target).square().mean(1)

    def z(self, means: Tensor) -> Tensor:
        """How strange images are to this slot, from their token means `[B, d]`: `[B]`."""
        return self.record.z(self.loss(means))


class Slot(nn.Module):
    """An adapter, its descriptor, and its column of the router.

    The column is the slot's own, not a row of a common matrix: what is trained later cannot move it, weight decay
    neither, and nothing has to be merged.
    """

    def __init__(self, settings: SlotSettings):
        super().__init__()
        self.adapter = FunctionalAdapter(settings.width, settings.bottleneck, settings.dropout, settings.scalar)
        record = LossRecord(settings.records, settings.one_sided)
        self.descriptor = Descriptor(settings.width, settings.descriptor_dim, settings.descriptor_relu, record)
        self.router = nn.Linear(settings.width, 1) if settings.routing == "learned" else None


class ExpandingAdapter(nn.Module):
    """A site: the adapters of all its slots, mixed for each image by a softmax over the slots. It has one from birth.

    `routing="learned"`: logits are linear in the token mean. A new column takes its share at once, so that the old
    mixture is scaled down when a slot is born, unless `new_router_bias` is far below 0.

    `routing="rd"`: logits are minus the slots' z, made of frozen things alone. A z below 0, which `one_sided` can give,
    counts as 0, or a slot would draw images that it rebuilds better than its own. A slot whose descriptor has no
    records yet has z = 0, and so takes the images that are strange to the others.

    Args:
        settings: of each slot.
        sequential: what its place asks for: the input is the sub-layer's output, and the sum of both goes on.

    Attributes:
        chosen: the slot that all images take, by its number; None mixes them.
    """

    def __init__(self, settings: SlotSettings, sequential: bool):
        super().__init__()
        self.settings, self.sequential = settings, sequential
        self.slots = nn.ModuleList([Slot(settings)])
        self.watcher: Callable[[Tensor], None] | None = None
        self.chosen: int | None = None

    @property
    def newest(self) -> Slot:
        return self.all_slots[-1]

    @property
    def all_slots(self) -> list[Slot]:
        """The oldest first."""
        return list(self.slots)  # type: ignore[arg-type]  # a list of modules, for mypy

    def resize(self, count: int) -> None:
        """Have so many slots: the newest go, or fresh ones come."""
        while len(self.slots) > count:
            del self.slots[-1]
        while len(self.slots) < count:
            slot = Slot(self.settings)
            if slot.router is not None and self.settings.new_router_bias is not None:
                nn.init.constant_(slot.router.bias, self.settings.new_router_bias)
            self.slots.append(slot.to(next(self.parameters()).device).train(self.training))

    def z(self, means: Tensor) -> Tensor:
        """How strange images are to each slot, from their token means `[B, d]`: `[slots, B]`."""
        return torch.stack([slot.descriptor.z(means) for slot in self.all_slots])

    def weights(self, means: Tensor) -> Tensor:
        """Of the slots, for images with token means `[B, d]`: `[B, slots]`. Rows sum to 1; one slot has exactly 1."""
        if self.settings.routing == "learned":
            return torch.softmax(torch.cat([slot.router(means) for slot in self.all_slots if slot.router], 1), 1)
        return torch.softmax(-self.z(means.detach()).clamp(min=0).T, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        means = tokens.mean(1)
        if self.watcher:
            self.watcher(means.detach())
        if self.chosen is not None or len(self.slots) == 1:
            return self.all_slots[self.chosen or 0].adapter(tokens)
        weights = self.weights(means)
        mixed = torch.zeros_like(tokens)
        for number, slot in enumerate(self.all_slots):
            mixed = mixed + weights[:, number, None, None] * slot.adapter(tokens)
        return mixed


@contextmanager
def watching(sites: Sequence[ExpandingAdapter]) -> Iterator[dict[int, Tensor]]:
    """Place of a site among these -> token means `[B, d]` of its input, as the network runs inside of the context."""
    seen: dict[int, Tensor] = {}
    for number, site in enumerate(sites):
        site.watcher = partial(seen.__setitem__, number)
    try:
        yield seen
    finally:
        for site in sites:
            site.watcher = None


def is_strange(z: Tensor, threshold: float) -> bool:
    """Whether a batch is strange to a site: to each of its slots, in the mean over the images. One that knows it does.

    Args:
        z: `[slots]`, the mean over the batch of :meth:`ExpandingAdapter.z`.
        threshold: that the least strange slot must pass.
    """
    return bool(z.min() > threshold)
