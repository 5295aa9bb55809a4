"""NT-Xent, the contrastive loss of SimCLR (Chen et al., ICML 2020, equation 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.distributed.shared_batch import SharedBatch


class Contrast(NamedTuple):
    """Logits of a batch; `loss` and the accuracies follow from them."""

    logits: Tensor  # [A, C] similarity / temperature of A anchors and C candidates; -inf for the anchor itself
    positives: Tensor  # [A] int64, candidate that is the other view of the anchor's image

    @property
    def loss(self) -> Tensor:
        """Mean over the anchors of the cross-entropy of the positive among all candidates but the anchor itself."""
        return F.cross_entropy(self.logits, self.positives)

    def accuracy(self, k: int) -> Tensor:
        """Share of anchors whose positive is among the `k` most similar candidates; a tie counts as wrong."""
        positive = self.logits.detach().gather(1, self.positives[:, None])
        before = (self.logits.detach() >= positive).sum(1) - 1
        return (before < k).float().mean()


def contrast(first: Tensor, second: Tensor, temperature: float, batch: SharedBatch | None = None) -> Contrast:
    """Compare each embedding of a batch of N images with those of all others: 2N - 2 negatives and one positive.

    Of several processes each has the anchors of its own images, and all embeddings as candidates. A process without an
    image of the batch gets some finite logits, which its weight of 0 cancels.

    Args:
        first, second: `[n, D]` embeddings of two views of the same images, of any length.
        temperature: above 0.
        batch: which images of the batch this process has; None: all of them.
    """
    with torch.autocast(first.device.type, enabled=False):
        precision = torch.promote_types(first.dtype, torch.float32)  # at least
        own = [F.normalize(view.to(precision), dim=1) for view in (first, second)]
        if batch is None:
            candidates, start, total = own, 0, len(first)
        else:
            candidates, total = [batch.gather(view) for view in own], batch.total
            start = batch.start if batch.is_counted else 0
        logits = torch.cat(own) @ torch.cat(candidates).T / temperature
    images = torch.arange(start, start + len(first), device=first.device)
    anchors = torch.cat([images, images + total])
    logits = logits.scatter(1, anchors[:, None], float("-inf"))
    return Contrast(logits, torch.cat([images + total, images]))


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute the loss of `[N, D]` embeddings of two views.

    >>> round(float(nt_xent(torch.ones(2, 4), torch.ones(2, 4), 0.5)), 4)  # nothing learned: ln(2N - 1)
    1.0986
    """
    return contrast(first, second, temperature).loss
