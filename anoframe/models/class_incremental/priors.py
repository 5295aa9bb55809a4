"""Diagonal Gaussian distributions over text features, and their divergence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions.

    Attributes:
        mean: `[..., d]`.
        std: `[..., d]`; None: all of the probability is at the mean.
    """

    mean: Tensor
    std: Tensor | None

    def sample(self, noise: Tensor) -> Tensor:
        """Return samples from standard normal noise `[S, ..., d]`; or the mean as the only sample, `[1, ..., d]`."""
        return self.mean[None] if self.std is None else self.mean + self.std * noise


def kl_divergence(posterior: Gaussian, prior: Gaussian | None) -> Tensor:
    """Compute `KL(posterior || prior)` of each dimension, `[..., d]`.

    Args:
        posterior: with a standard deviation.
        prior: None is N(0, 1).
    """
    assert posterior.std is not None
    if prior is None:
        return -posterior.std.log() + (posterior.std.square() + posterior.mean.square()) / 2 - 0.5
    assert prior.std is not None
    ratio = posterior.std / prior.std
    return -ratio.log() + (ratio.square() + ((posterior.mean - prior.mean) / prior.std).square()) / 2 - 0.5
