"""Loss of RAML: MACCL (centre, adaptive margin, contrastive), weighted by difficulty, and binary cross-entropy.

The state, centre `c` and spread `sigma` of the normal features and the difficulty of the categories, is updated within
each computation of the loss, in the order of the public code; so the loss of an image depends on its whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.raml.difficulty import DifficultyTracker
from anoframe.models.raml.settings import LossSettings

CENTRE_MOMENTUM = 0.8
SIGMA_MOMENTUM = 0.9
EPSILON = 1e-8  # added to the denominator of the contrastive term, as in the public code


class MACCL(nn.Module):
    """Margin-adaptive centre and contrastive loss on features z `[B, H]`.

    For each image, with y = 1 for a defect:

        raw = centre |z - c|^2 [y = 0]  +  margin max(0, m - |z - c'|) [y = 1]  +  contrastive r_con

    with `c` before and `c'` after the update by this batch, and the margin
    `m = m_base + l_sigma sigma' + l_res (1 - r / r_max)`. Without normal images in a batch, `c` and `sigma` stay.

    Args:
        width: H.
        settings: weights of the terms, margin, reduction.

    Attributes:
        centre: `[H]`, moving average of the mean normal feature of a batch, starts at 0.
        sigma: moving average of the standard deviation of all values of the normal features of a batch, starts at 1.
    """

    centre: Tensor
    sigma: Tensor

    def __init__(self, width: int, settings: LossSettings):
        super().__init__()
        self.settings = settings
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("sigma", torch.tensor(1.0))
        self.difficulty = DifficultyTracker()

    def forward(self, features: Tensor, is_defect: Tensor, categories: Sequence[str]) -> dict[str, Tensor]:
        """Compute the loss and update the state.

        Args:
            features: z, `[B, H]`; computed in float32, whatever the precision of the training.
            is_defect: `[B]` bool.
            categories: of each image.

        Returns:
            `centre`, `margin` and `contrastive`, scalars whose sum is the loss.
        """
        s = self.settings
        with torch.autocast(features.device.type, enabled=False):
            z = features.float()
            centre = s.centre * (z - self.centre).square().sum(1) * ~is_defect
            self._update_statistics(z.detach()[~is_defect])
            distance = torch.linalg.vector_norm(z - self.centre, dim=1)  # its gradient is 0 at the centre
            margin = s.margin * F.relu(self.adaptive_margin() - distance) * is_defect
            raw, has_pair = contrastive_terms(z, is_defect, s.temperature)
            terms = {"centre": centre, "margin": margin, "contrastive": s.contrastive * raw}
            weights = self._weigh(torch.stack(list(terms.values())).sum(0), categories)
            if s.reduction == "reference":
                return {name: (weights * term).mean() for name, term in terms.items()}
            used = {"centre": ~is_defect, "margin": is_defect, "contrastive": has_pair}
            return {name: (weights * term).sum() / used[name].sum().clamp(min=1) for name, term in terms.items()}

    def adaptive_margin(self) -> Tensor:
        """Margin `m`, a scalar, for the present `sigma`."""
        s = self.settings
        resolution = s.margin_resolution * (1 - s.resolution / s.max_resolution)
        return s.margin_base + s.margin_sigma * self.sigma + resolution

    @torch.no_grad()
    def _update_statistics(self, normal: Tensor) -> None:
        """Update centre and sigma with the normal features `[n, H]` of a batch."""
        if len(normal):
            self.centre.copy_(CENTRE_MOMENTUM * self.centre + (1 - CENTRE_MOMENTUM) * normal.mean(0))
            self.sigma.copy_(SIGMA_MOMENTUM * self.sigma + (1 - SIGMA_MOMENTUM) * normal.std())

    @torch.no_grad()
    def _weigh(self, raw: Tensor, categories: Sequence[str]) -> Tensor:
        """Weights `[B]` of the images, from before the update of the difficulties with the losses `raw` `[B]`."""
        if not self.settings.tracker:
            return torch.ones_like(raw)
        weights = raw.new_tensor(self.difficulty.weights(categories))
        self.difficulty.update(categories, raw.tolist())
        return weights


def contrastive_terms(features: Tensor, is_defect: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute `-log(P / (P + N + 1e-8))` for each image that has another of its label and one of the other label.

    `P` and `N` are sums of `exp(cosine / temperature)` over the other images of the same label, and over those of the
    other label. Computed from logarithms, so nothing overflows: it is `softplus(log(N + 1e-8) - log P)`.

    Args:
        features: `[B, H]` float32, of any length.
        is_defect: `[B]` bool.
        temperature: above 0.

    Returns:
        The terms `[B]`, 0 for other images, and a mask `[B]` of the images that have both.
    """
    unit = F.normalize(features, dim=1)
    similarity = unit @ unit.T / temperature
    same = is_defect[:, None] == is_defect[None]
    positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    has_pair = positive.any(1) & ~same.all(1)
    rows = similarity[has_pair]
    log_positive = rows.masked_fill(~positive[has_pair], -math.inf).logsumexp(1)
    negative = rows.masked_fill(same[has_pair], -math.inf)
    log_negative = torch.cat([negative, rows.new_full((len(rows), 1), math.log(EPSILON))], 1).logsumexp(1)
    terms = torch.zeros_like(similarity[0])
    return terms.masked_scatter(has_pair, F.softplus(log_negative - log_positive)), has_pair
